"""Every architecture by name, and the one door that builds them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam, TwoWayTransformer
from torch import nn

from engine.model.allocator import keep_freed_memory
from engine.model.encoder import ConvEncoder
from engine.model.fast import use_fast_layers
from engine.model.mask_decoder import BatchedMaskDecoder
from engine.model.prompt_encoder import ClickMapPromptEncoder, MixedPromptEncoder
from engine.model.sam import PromptableSam

_STRIDE = 8


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which architecture. Raises ValueError for a name that there is not."""

    architecture: str = "nano"

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture: must be one of {', '.join(ARCHITECTURES)}, "
                f"but got {self.architecture!r}"
            )


@dataclass(frozen=True, kw_only=True)
class _Nano:
    side: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    dim: int
    heads: int

    def __call__(self) -> PromptableSam:
        decoder = BatchedMaskDecoder(
            transformer_dim=self.dim,
            transformer=TwoWayTransformer(
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
        )


def _vit(name: str) -> Callable[[], PromptableSam]:
    def build() -> PromptableSam:
        return with_batches(sam_model_registry[name]())

    return build


def with_batches(sam: Sam) -> PromptableSam:
    """A `Sam` of any encoder with our prompt encoder and decoder in place of the original's."""
    old = sam.prompt_encoder
    prompt_encoder = MixedPromptEncoder(
        old.embed_dim, old.image_embedding_size, old.input_image_size, mask_in_chans=16
    )
    decoder = BatchedMaskDecoder(
        transformer_dim=sam.mask_decoder.transformer_dim,
        transformer=sam.mask_decoder.transformer,
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
        side=256, widths=(32, 64, 128, 192, 256), depths=(0, 1, 2, 2, 1), dim=64, heads=4
    ),
    "nano_tiny": _Nano(
        side=128, widths=(16, 16, 32, 32, 48), depths=(0, 0, 1, 1, 0), dim=32, heads=2
    ),
    "vit_b": _vit("vit_b"),
    "vit_l": _vit("vit_l"),
    "vit_h": _vit("vit_h"),
}


def build_model(config: ModelConfig, *, seed: int) -> PromptableSam:
    """A model with random weights that depend on `seed` alone."""
    keep_freed_memory()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ARCHITECTURES[config.architecture]()
    use_fast_layers(model.prompt_encoder)
    use_fast_layers(model.mask_decoder)
    model.eval()
    return model
