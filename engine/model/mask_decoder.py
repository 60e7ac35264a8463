"""segment_anything's mask decoder for prompts of many images at once, as it is and refined."""

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder
from torch import Tensor

from engine.model.mask_quality import MaskQuality
from engine.model.prompt_encoder import PromptEmbedding
from engine.model.upscaling import GatedSkip, Refinement

_PRIOR_LOGIT = -3.0
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
        height, width = embeddings.shape[-2:]
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        sparse = prompts.sparse
        tokens = torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        cells = (embeddings + prompts.dense).flatten(2).transpose(1, 2).contiguous()
        places = image_pe[0].flatten(1).T.contiguous()
        hidden, cells = self.transformer(cells, places, tokens)
        # Channels last in memory, as the convolutions want it.
        source = cells.reshape(len(cells), height, width, -1).permute(0, 3, 1, 2)
        upscaled = self._upscale(source, prompts.fine, skips)
        weights = torch.stack(
            [mlp(hidden[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = (weights @ upscaled.flatten(2)).reshape(len(weights), -1, *upscaled.shape[2:])
        return logits, self._predicted_iou(hidden[:, 0], logits)

    def _predicted_iou(self, token: Tensor, logits: Tensor) -> Tensor:  # noqa: ARG002 (refined, it looks)
        return torch.as_tensor(self.iou_prediction_head(token))

    def _upscale(self, source: Tensor, fine: Tensor | None, skips: Skips | None) -> Tensor:
        assert fine is None, "only RefinedMaskDecoder takes fine prompts"
        assert skips is None, "only RefinedMaskDecoder takes skips"
        return torch.as_tensor(self.output_upscaling(source))

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

    def _predicted_iou(self, token: Tensor, logits: Tensor) -> Tensor:
        by_token = super()._predicted_iou(token, logits)
        return torch.as_tensor(by_token + self.mask_quality(token, logits))

    def _upscale(self, source: Tensor, fine: Tensor | None, skips: Skips | None) -> Tensor:
        assert fine is not None, "the prompt encoder gives them"
        assert skips is not None, "the image encoder gives them"
        up1, norm, act1, up2, act2 = self.output_upscaling
        middle = self.refine(act1(norm(self.skip_2x(up1(source) + fine, skips[0]))))
        return torch.as_tensor(act2(self.skip_4x(up2(middle), skips[1])))
