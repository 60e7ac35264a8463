"""segment_anything's mask decoder for prompts of many images at once, with optional skips."""

import torch
from segment_anything.modeling import MaskDecoder
from torch import Tensor

_PRIOR_LOGIT = -3.0


class BatchedMaskDecoder(MaskDecoder):
    """`MaskDecoder` whose prompts each bring their own image; the original takes one a call."""

    def decode(
        self,
        embeddings: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        skips: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """All four masks of each of N prompts.

        embeddings (N, C, h, w), image_pe (1, C, h, w), sparse (N, K, C), dense (N, C, h, w), skips
        (N, C/4, 2h, 2w) and (N, C/8, 4h, 4w) -> logits (N, 4, 4h, 4w), predicted IoU (N, 4). Mask 0
        is for unambiguous prompts, masks 1 to 3 for ambiguous ones (Kirillov et al., 2023).
        """
        num, channels, height, width = embeddings.shape
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(num, -1, -1), sparse], dim=1)
        hidden, source = self.transformer(
            embeddings + dense, image_pe.expand(num, -1, -1, -1), tokens
        )
        source = source.transpose(1, 2).reshape(num, channels, height, width)
        upscaled = self._upscale(source, skips)
        weights = torch.stack(
            [mlp(hidden[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = (weights @ upscaled.flatten(2)).reshape(num, -1, *upscaled.shape[2:])
        return logits, self.iou_prediction_head(hidden[:, 0])

    def _upscale(self, source: Tensor, skips: tuple[Tensor, Tensor] | None) -> Tensor:
        if skips is None:
            return torch.as_tensor(self.output_upscaling(source))
        up1, norm, act1, up2, act2 = self.output_upscaling
        middle = act1(norm(up1(source) + skips[0]))
        return torch.as_tensor(act2(up2(middle) + skips[1]))

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
