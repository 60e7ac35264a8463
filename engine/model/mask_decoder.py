"""segment_anything's mask decoder for prompts of many images at once, as it is and refined."""

from typing import Any

import torch
from torch import Tensor

from engine.model.mask_quality import MaskQuality
from engine.model.prompt_encoder import PromptEmbedding
from engine.model.sam_parts import MaskDecoder
from engine.model.strips import OneImage, attended
from engine.model.upscaling import (
    GatedSkip,
    Refinement,
    as_families,
    children,
    drawn_by_strips,
    in_image_order,
    normed,
    planes_in_image_order,
)

_PRIOR_LOGIT = -3.0
_NUM_AMBIGUOUS = 3
# Of one image, whose cells are in memory for each. Weights are read once for them all.
_PROMPTS_AT_ONCE = 8
# Masks of so many prompts, and what they are drawn from, stay in the cache.
_DRAWN_AT_ONCE = 16
Skips = tuple[Tensor, Tensor]


class BatchedMaskDecoder(MaskDecoder):
    """`MaskDecoder` whose prompts each bring their own image; the original takes one a call.

    estimators: the modules that say how good the masks are, and have no part in making them.
    """

    estimators: tuple[str, ...] = ("iou_prediction_head",)

    def decode(
        self, embeddings: Tensor, image_pe: Tensor, prompts: PromptEmbedding, skips: Skips | None
    ) -> tuple[Tensor, Tensor]:
        """All four masks of each of N prompts.

        embeddings (N, C, h, w), image_pe (1, C, h, w), skips (N, C/4, 2h, 2w) and (N, C/8, 4h, 4w),
        or of one image for all -> logits (N, 4, 4h, 4w), predicted IoU (N, 4). Mask 0 is for
        unambiguous prompts, masks 1 to 3 for ambiguous ones (Kirillov et al., 2023).
        """
        _, logits, iou = self.decode_with_token(embeddings, image_pe, prompts, skips)
        return logits, iou

    def decode_with_token(
        self, embeddings: Tensor, image_pe: Tensor, prompts: PromptEmbedding, skips: Skips | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `decode`, and first the IoU's token (N, C) after it asked the image."""
        hidden, cells = self._attended(embeddings, image_pe, prompts)
        logits = self._drawn(hidden, cells, prompts.fine, skips)
        return hidden[:, 0], logits, self._predicted_iou(hidden[:, 0], logits)

    def decode_above(
        self,
        min_iou: float,
        embeddings: Tensor,
        image_pe: Tensor,
        prompts: PromptEmbedding,
        skips: Skips | None,
        picture: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of masks 1 to 3 of each of N prompts those with a predicted IoU over `min_iou`, alone.

        Takes the same as `decode`, and how many rows and columns of cells show the picture ->
        logits (K, 4h, 4w), predicted IoU (K,), and which they are, (K,), of the 3 N. What tokens
        alone condemn is never drawn, and what is outside the picture need not be.
        """
        if _is_one_image_on_a_cpu(embeddings, prompts):
            return self._above_by_strips(min_iou, embeddings, image_pe, prompts, picture)
        hidden, cells = self._attended(embeddings, image_pe, prompts)
        iou = self._predicted_iou(hidden[:, 0], None)[:, 1:].flatten()
        index = (iou > min_iou).nonzero()[:, 0]
        asked, place = torch.unique(index // _NUM_AMBIGUOUS, return_inverse=True)
        fine = None if prompts.fine is None else prompts.fine[asked]
        drawn = self._drawn(hidden[asked], cells[asked], fine, _skips_of(skips, asked))
        return drawn[place, 1 + index % _NUM_AMBIGUOUS], iou[index], index

    def _above_by_strips(
        self,
        min_iou: float,
        embeddings: Tensor,
        image_pe: Tensor,
        prompts: PromptEmbedding,
        picture: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`decode_above` of one image: few prompts at a time, and of those what passes."""
        hw = embeddings.shape[2:]
        cells = _as_rows(embeddings + prompts.dense)[0]
        image = OneImage.seen_by(self.transformer.layers[0], cells, _as_rows(image_pe)[0])
        drawn: list[Tensor] = [embeddings.new_empty(0, 4 * hw[0], 4 * hw[1])]
        iou: list[Tensor] = []
        for few in torch.split(self._tokens(prompts), _PROMPTS_AT_ONCE):
            hidden, rows = attended(self.transformer, image, few)
            iou.append(self._predicted_iou(hidden[:, 0], None)[:, 1:])
            passes, weights = iou[-1] > min_iou, self._mask_weights(hidden)[:, 1:]
            for each in passes.any(dim=1).nonzero()[:, 0].tolist():
                own, asked = rows[each].view(*hw, -1), weights[each, passes[each]]
                drawn.append(drawn_by_strips(own, picture, self.output_upscaling, asked))
        all_iou = torch.cat(iou).flatten()
        index = (all_iou > min_iou).nonzero()[:, 0]
        return torch.cat(drawn), all_iou[index], index

    def _attended(
        self, embeddings: Tensor, image_pe: Tensor, prompts: PromptEmbedding
    ) -> tuple[Tensor, Tensor]:
        """Tokens (N, T, C), the IoU's and the four masks' first, and cells (N, C, h, w)."""
        rows = _as_rows(embeddings + prompts.dense)
        hidden, rows = self.transformer(rows, _as_rows(image_pe)[0], self._tokens(prompts))
        return hidden, rows.unflatten(1, embeddings.shape[2:]).permute(0, 3, 1, 2)

    def _tokens(self, prompts: PromptEmbedding) -> Tensor:
        """(N, T, C): the IoU's and the four masks' tokens before those of each prompt."""
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        sparse = prompts.sparse
        return torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)

    def _mask_weights(self, hidden: Tensor) -> Tensor:
        """(N, 4, C/8), how the features of an upscaled cell count for each mask."""
        mlps = enumerate(self.output_hypernetworks_mlps)
        return torch.stack([mlp(hidden[:, 1 + i]) for i, mlp in mlps], dim=1)

    def _drawn(
        self, hidden: Tensor, cells: Tensor, fine: Tensor | None, skips: Skips | None
    ) -> Tensor:
        """Logits (N, 4, 4h, 4w) of attended tokens and cells."""
        weights = self._mask_weights(hidden)
        families = self._upscaled(cells, fine, skips)
        members = families.permute(0, 2, 3, 1).flatten(1, 2)
        members = members.reshape(len(weights), 4 * members.shape[1], weights.shape[2])
        return planes_in_image_order(weights @ members.transpose(1, 2), families.shape[2:])

    def _predicted_iou(self, token: Tensor, logits: Tensor | None) -> Tensor:  # noqa: ARG002 (refined, it looks)
        # A few numbers, on which thresholds cut: always in float32.
        with torch.autocast(token.device.type, enabled=False):
            return torch.as_tensor(self.iou_prediction_head(token.float()))

    def _upscaled(self, cells: Tensor, fine: Tensor | None, skips: Skips | None) -> Tensor:
        """Cells (N, C, h, w) -> families (N, 4 * C/8, 2h, 2w)."""
        assert fine is None, "only RefinedMaskDecoder takes fine prompts"
        assert skips is None, "only RefinedMaskDecoder takes skips"
        up1, norm, act1, up2, act2 = self.output_upscaling
        middle = in_image_order(act1(normed(children(cells, up1), norm)))
        return torch.as_tensor(act2(children(middle, up2)))

    def expect_little(self) -> None:
        """Start at "almost nothing is foreground", as RetinaNet does, not at "half of it is".

        One feature starts constant and carries the prior; the others stay free to say yes. (A prior
        spread over all features makes every weight negative, and logits cannot pass zero.)
        """
        last = self.output_upscaling[3]
        with torch.no_grad():
            last.weight[:, 0] = 0.0
            last.bias[0] = 1.0
            for mlp in self.output_hypernetworks_mlps:
                mlp.layers[-1].bias[0] = _PRIOR_LOGIT


def _is_one_image_on_a_cpu(embeddings: Tensor, prompts: PromptEmbedding) -> bool:
    """Whether all see the same cells, in float32 without gradients: there a cache decides."""
    kind = embeddings.device.type
    alone = len(embeddings) == len(prompts.dense) == 1 and len(prompts.sparse) > 0
    plain = not torch.is_autocast_enabled(kind) and not torch.is_grad_enabled()
    return alone and kind == "cpu" and plain


def _skips_of(skips: Skips | None, rows: Tensor | slice) -> Skips | None:
    """Those of some prompts; what one image has for all prompts stays as it is."""
    if skips is None or len(skips[0]) == 1:
        return skips
    return skips[0][rows], skips[1][rows]


def _as_rows(cells: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h w, C), contiguous."""
    return cells.permute(0, 2, 3, 1).flatten(1, 2).contiguous()


class RefinedMaskDecoder(BatchedMaskDecoder):
    """Adds skips, fine prompts, a refinement and an eye for the masks' quality.

    As built, the same function as without them.
    """

    estimators = (*BatchedMaskDecoder.estimators, "mask_quality")

    def __init__(self, *, transformer_dim: int, **options: Any) -> None:
        super().__init__(transformer_dim=transformer_dim, **options)
        quarter, eighth = transformer_dim // 4, transformer_dim // 8
        self.skip_2x, self.skip_4x = GatedSkip(quarter), GatedSkip(eighth)
        self.refine = Refinement(quarter)
        self.mask_quality = MaskQuality(transformer_dim)

    def decode_above(
        self,
        min_iou: float,
        embeddings: Tensor,
        image_pe: Tensor,
        prompts: PromptEmbedding,
        skips: Skips | None,
        picture: tuple[int, int],  # noqa: ARG002 (a mask is judged by all of it)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As the original's; but masks must be drawn to be judged."""
        hidden, cells = self._attended(embeddings, image_pe, prompts)
        kept, all_iou = [], []
        size = _DRAWN_AT_ONCE if cells.device.type == "cpu" else max(1, len(cells))
        for start in range(0, max(1, len(cells)), size):
            few = slice(start, start + size)
            fine = None if prompts.fine is None else prompts.fine[few]
            logits = self._drawn(hidden[few], cells[few], fine, _skips_of(skips, few))
            iou = self._predicted_iou(hidden[few, 0], logits)[:, 1:]
            kept.append(logits[:, 1:][iou > min_iou])
            all_iou.append(iou.flatten())
        iou = torch.cat(all_iou)
        index = (iou > min_iou).nonzero()[:, 0]
        return torch.cat(kept), iou[index], index

    def _predicted_iou(self, token: Tensor, logits: Tensor | None) -> Tensor:
        assert logits is not None, "it looks at them"
        by_token = super()._predicted_iou(token, logits)
        with torch.autocast(token.device.type, enabled=False):
            return torch.as_tensor(by_token + self.mask_quality(token.float(), logits.float()))

    def _upscaled(self, cells: Tensor, fine: Tensor | None, skips: Skips | None) -> Tensor:
        assert fine is not None, "the prompt encoder gives them"
        assert skips is not None, "the image encoder gives them"
        up1, norm, act1, up2, act2 = self.output_upscaling
        own = in_image_order(children(cells, up1)) + fine
        middle = self.refine(act1(normed(self.skip_2x(own, skips[0]), norm)))
        return torch.as_tensor(act2(self.skip_4x(children(middle, up2), as_families(skips[1]))))
