"""Every architecture by name, and the one door that builds them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from engine.model.allocator import keep_freed_memory
from engine.model.closer_look import CloserLook
from engine.model.encoder import ConvEncoder
from engine.model.fast import use_fast_layers
from engine.model.mask_decoder import BatchedMaskDecoder, RefinedMaskDecoder
from engine.model.prompt_encoder import ClickMapPromptEncoder, MixedPromptEncoder
from engine.model.sam import PromptableSam
from engine.model.sam_parts import Sam
from engine.model.transformer import TokenSideTransformer

_STRIDE = 16
_SAM_SIDE = 1024
# A fourth of the work of SAM's frame; without public weights, nothing ties a backbone to 1024.
_BACKBONE_SIDE = 512
_SAM_DIM = 256
# ImageNet's, in 0..255, as in SAM.
_PIXEL_MEAN, _PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_TIMM = "timm/"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which architecture: a name of ARCHITECTURES, or `timm/NAME` for any backbone of timm.

    Raises ValueError for a name that there is not.
    """

    architecture: str = "nano"

    def __post_init__(self) -> None:
        if self.architecture.startswith(_TIMM):
            from engine.model.backbone import check_name  # timm takes a second to import

            check_name(self.architecture.removeprefix(_TIMM))
        elif self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture: must be one of {', '.join(ARCHITECTURES)} or {_TIMM}NAME, "
                f"but got {self.architecture!r}"
            )


@dataclass(frozen=True, kw_only=True)
class _Nano:
    side: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    dim: int
    heads: int
    closer_look: CloserLook | None = None

    def __call__(self) -> PromptableSam:
        decoder = RefinedMaskDecoder(
            transformer_dim=self.dim,
            transformer=TokenSideTransformer(
                depth=2, embedding_dim=self.dim, num_heads=self.heads, mlp_dim=4 * self.dim
            ),
            activation=nn.ReLU,
            iou_head_hidden_dim=self.dim,
        )
        decoder.expect_little()
        return PromptableSam(
            ConvEncoder(self.widths, self.depths, self.dim),
            ClickMapPromptEncoder(self.dim, self.side, _STRIDE),
            decoder,
            side=self.side,
            pixel_mean=[127.5] * 3,
            pixel_std=[63.75] * 3,
            closer_look=self.closer_look,
        )


def _vit(name: str) -> Callable[[], PromptableSam]:
    def build() -> PromptableSam:
        from segment_anything import sam_model_registry  # takes seconds to import

        return with_batches(sam_model_registry[name]())

    return build


def vit_t(side: int = _SAM_SIDE) -> PromptableSam:
    """MobileSAM's TinyViT; its public weights know frames of 1024 pixels."""
    from engine.model.tiny_vit import TinyVitEncoder  # timm takes a second to import

    return around(TinyVitEncoder(), side)


def with_backbone(name: str, side: int = _BACKBONE_SIDE) -> PromptableSam:
    """timm's model `name` with a feature pyramid; raises ValueError without stride 16."""
    from engine.model.backbone import BackboneEncoder  # timm takes a second to import

    return around(BackboneEncoder(name, side), side)


def around(encoder: nn.Module, side: int) -> PromptableSam:
    """SAM's prompt encoder and mask decoder, for an encoder that gives 256 channels at stride 16.

    For training from nothing it starts at "almost nothing is foreground".
    """
    cells = side // _STRIDE
    decoder = BatchedMaskDecoder(
        transformer_dim=_SAM_DIM,
        transformer=TokenSideTransformer(
            depth=2, embedding_dim=_SAM_DIM, num_heads=8, mlp_dim=8 * _SAM_DIM
        ),
    )
    decoder.expect_little()
    return PromptableSam(
        encoder,
        MixedPromptEncoder(_SAM_DIM, (cells, cells), (side, side), mask_in_chans=16),
        decoder,
        side=side,
        pixel_mean=list(_PIXEL_MEAN),
        pixel_std=list(_PIXEL_STD),
    )


def with_batches(sam: Sam) -> PromptableSam:
    """A `Sam` of any encoder with our prompt encoder and decoder in place of the original's."""
    old = sam.prompt_encoder
    prompt_encoder = MixedPromptEncoder(
        old.embed_dim, old.image_embedding_size, old.input_image_size, mask_in_chans=16
    )
    two_way = sam.mask_decoder.transformer
    decoder = BatchedMaskDecoder(
        transformer_dim=sam.mask_decoder.transformer_dim,
        transformer=TokenSideTransformer(
            depth=two_way.depth,
            embedding_dim=two_way.embedding_dim,
            num_heads=two_way.num_heads,
            mlp_dim=two_way.mlp_dim,
        ),
    )
    return PromptableSam(
        sam.image_encoder,
        prompt_encoder,
        decoder,
        side=sam.image_encoder.img_size,
        pixel_mean=sam.pixel_mean.flatten().tolist(),
        pixel_std=sam.pixel_std.flatten().tolist(),
    )


ARCHITECTURES: dict[str, Callable[[], PromptableSam]] = {
    "nano": _Nano(
        side=512,
        widths=(32, 64, 128, 192, 256),
        depths=(0, 1, 2, 4, 2),
        dim=64,
        heads=4,
        closer_look=CloserLook(max_area=1500, side=256),
    ),
    "nano_tiny": _Nano(
        side=256, widths=(16, 16, 32, 32, 48), depths=(0, 0, 1, 1, 0), dim=32, heads=2
    ),
    "vit_b": _vit("vit_b"),
    "vit_l": _vit("vit_l"),
    "vit_h": _vit("vit_h"),
    "vit_t": vit_t,
    "resnet18": partial(with_backbone, "resnet18"),
    "resnet50": partial(with_backbone, "resnet50"),
}


def _builder(architecture: str) -> Callable[[], PromptableSam]:
    if architecture.startswith(_TIMM):
        return partial(with_backbone, architecture.removeprefix(_TIMM))
    return ARCHITECTURES[architecture]


def build_model(config: ModelConfig, *, seed: int) -> PromptableSam:
    """A model with random weights that depend on `seed` alone."""
    keep_freed_memory()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _builder(config.architecture)()
    use_fast_layers(model.image_encoder)
    use_fast_layers(model.prompt_encoder)
    use_fast_layers(model.mask_decoder)
    # Convolutions on a CPU are quicker over pixels whose channels lie together.
    model.to(memory_format=torch.channels_last)
    model.eval()
    return model
