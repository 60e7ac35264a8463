"""A model of ours as segment_anything's own classes run it: the peer that benchmarks time.

The same weights around the original two-way transformer, attention and norm, called one image at a
time, as `SamPredictor` calls every `Sam`.
"""

import copy
from typing import Any

import torch
from segment_anything.modeling import Sam, TwoWayTransformer, image_encoder
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from engine.model.fast import ChannelNorm, FusedAttention, PlacedAttention
from engine.model.mask_decoder import BatchedMaskDecoder, Skips
from engine.model.prompt_encoder import PADDING, PromptEmbedding, PromptTensors
from engine.model.sam import Features, PromptableSam


class PlainTransformer(TwoWayTransformer):  # type: ignore[misc] # segment_anything has no types
    """segment_anything's, called as our decoder calls its own."""

    def forward(self, cells: Tensor, places: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        side = round(cells.shape[1] ** 0.5)
        image = cells.transpose(1, 2).reshape(len(cells), -1, side, side)
        image = image.expand(len(tokens), -1, -1, -1)
        image_pe = places.T.reshape(1, -1, side, side).expand_as(image)
        found: tuple[Tensor, Tensor] = super().forward(image, image_pe, tokens)
        return found


class PlainDrawing(BatchedMaskDecoder):
    """A decoder whose masks are drawn in the order of an image, layer after layer."""

    def _drawn(
        self, hidden: Tensor, cells: Tensor, fine: Tensor | None, skips: Skips | None
    ) -> Tensor:
        up1, norm, act1, up2, act2 = self.output_upscaling
        middle = up1(cells)
        if skips is not None:
            middle = self.skip_2x(middle + fine, skips[0])
        middle = act1(norm(middle))
        if skips is not None:
            middle = self.refine(middle)
        finest = up2(middle)
        if skips is not None:
            finest = self.skip_4x(finest, skips[1])
        upscaled = act2(finest)
        weights = self._mask_weights(hidden)
        drawn: Tensor = weights @ upscaled.flatten(2)
        return drawn.reshape(len(weights), -1, *upscaled.shape[2:])


def plain(model: PromptableSam) -> PromptableSam:
    """A copy around segment_anything's own layers, with its own transformer."""
    copied = copy.deepcopy(model)
    ours = copied.mask_decoder.transformer
    original = PlainTransformer(
        depth=ours.depth,
        embedding_dim=ours.embedding_dim,
        num_heads=ours.num_heads,
        mlp_dim=ours.mlp_dim,
    )
    original.load_state_dict(ours.state_dict())
    copied.mask_decoder.transformer = original
    # The same parameters, drawn from in another way.
    kind = type(copied.mask_decoder)
    copied.mask_decoder.__class__ = type("PlainDecoder", (PlainDrawing, kind), {})
    _use_slow_layers(copied.prompt_encoder)
    _use_slow_layers(copied.mask_decoder)
    if isinstance(copied.image_encoder, image_encoder.ImageEncoderViT):
        _use_slow_layers(copied.image_encoder)
    return copied


def reference_sam(model: PromptableSam) -> Sam:
    """The same function as a `Sam` for `SamAutomaticMaskGenerator`."""
    copied = plain(model)
    sam = Sam(
        _Encoder(copied),
        _Prompts(copied),
        _Decoder(copied),
        copied.pixel_mean.flatten().tolist(),
        copied.pixel_std.flatten().tolist(),
    )
    return sam.eval()


class _Encoder(nn.Module):
    def __init__(self, model: PromptableSam) -> None:
        super().__init__()
        self.encoder = model.image_encoder
        self.img_size = model.side

    def forward(self, frames: Tensor) -> Features:
        encoded = self.encoder(frames)
        return Features(*encoded) if isinstance(encoded, tuple) else Features(encoded, None)


class _Prompts(nn.Module):
    def __init__(self, model: PromptableSam) -> None:
        super().__init__()
        self.prompt_encoder = model.prompt_encoder
        self.cells = model.side // 16

    def forward(
        self, points: tuple[Tensor, Tensor], boxes: None, masks: None
    ) -> tuple[Tensor, PromptEmbedding]:
        assert boxes is None
        assert masks is None
        positions, labels = points
        # The original's half pixel, and its point that is none.
        padded = torch.cat([positions + 0.5, torch.zeros_like(positions[:, :1])], dim=1).float()
        kinds = torch.cat([labels, torch.full_like(labels[:, :1], PADDING)], dim=1).long()
        embedded = self.prompt_encoder.embed(PromptTensors(points=padded, labels=kinds), self.cells)
        return embedded.sparse, embedded

    def get_dense_pe(self) -> Tensor:
        return torch.as_tensor(self.prompt_encoder.places(self.cells))


class _Decoder(nn.Module):
    def __init__(self, model: PromptableSam) -> None:
        super().__init__()
        self.decoder = model.mask_decoder

    def forward(
        self,
        image_embeddings: Features,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: PromptEmbedding,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        assert multimask_output
        assert len(sparse_prompt_embeddings) > 0
        decoder, (image, skips), prompts = self.decoder, image_embeddings, dense_prompt_embeddings
        hidden, cells = decoder._attended(image, image_pe, prompts)
        logits = decoder._drawn(hidden, cells, prompts.fine, skips)
        return logits[:, 1:], decoder._predicted_iou(hidden[:, 0], logits)[:, 1:]


def _use_slow_layers(module: nn.Module) -> None:
    """The opposite of `engine.model.fast.use_fast_layers`."""
    child: Any
    for name, child in module.named_children():
        if type(child) is ChannelNorm:
            slow: nn.Module = LayerNorm2d(child.weight.numel(), child.eps)
        elif type(child) is FusedAttention:
            rate = child.embedding_dim // child.internal_dim
            slow = Attention(child.embedding_dim, child.num_heads, rate)
        elif type(child) is PlacedAttention:
            size = tuple((len(table) + 1) // 2 for table in (child.rel_pos_h, child.rel_pos_w))
            slow = image_encoder.Attention(
                child.qkv.in_features, child.num_heads, use_rel_pos=True, input_size=size
            )
        else:
            _use_slow_layers(child)
            continue
        slow.load_state_dict(child.state_dict())
        setattr(module, name, slow)
