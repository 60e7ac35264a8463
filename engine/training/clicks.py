"""Where a person clicks next: in the middle of what is wrong."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from engine.geometry import Mask, mask_to_box

NEGATIVE, POSITIVE = 0, 1


def next_click(truth: Mask, predicted: Mask | None = None) -> tuple[float, float, int]:
    """The deepest point of the error: (x, y, label), label 1 where the mask must grow, 0 to shrink.

    truth, predicted: (H, W) bool. The evaluation protocol of interactive segmentation (Sofiiuk et
    al., 2021; SAM, appendix D): the point of a wrong region farthest from its edge; the image's
    border counts as an edge. Raises ValueError when nothing is wrong.
    """
    missing = truth if predicted is None else truth & ~predicted
    too_much = np.zeros_like(truth) if predicted is None else predicted & ~truth
    grow, shrink = _deepest(missing), _deepest(too_much)
    if grow is None and shrink is None:
        raise ValueError("predicted: must differ from truth, but is the same; no click is needed")
    if shrink is None or (grow is not None and grow[2] >= shrink[2]):
        assert grow is not None, "one of the two is there"
        return grow[0], grow[1], POSITIVE
    return shrink[0], shrink[1], NEGATIVE


def _deepest(region: Mask) -> tuple[float, float, float] | None:
    x0, y0, x1, y1 = (int(value) for value in mask_to_box(region))
    if x1 == x0:
        return None
    # One pixel of border, so that the window's edge is an edge.
    window = np.pad(region[y0:y1, x0:x1], 1)
    depth: npt.NDArray[np.float64] = distance_transform_edt(window)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x0 + column - 1 + 0.5), float(y0 + row - 1 + 0.5), float(depth[row, column])


def random_clicks(
    truth: Tensor, logits: Tensor, draws: npt.NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """A click anywhere in the error, as SAM trains: cells (N, 2) as (x, y) centres, labels (N,).

    truth (N, h, w) bool, logits (N, h, w); draws (N,) in [0, 1), which of a prompt's wrong cells it
    is, so that every device clicks alike. Where nothing is wrong, a click inside the mask, and
    where there is no mask either, anywhere at all, negative.
    """
    num, _, width = truth.shape
    wrong = (logits > 0) != truth
    nothing_wrong = ~wrong.flatten(1).any(dim=1)
    candidates = torch.where(nothing_wrong[:, None, None], truth, wrong).flatten(1)
    candidates = candidates | ~candidates.any(dim=1, keepdim=True)
    counted = candidates.cumsum(dim=1)
    rank = (torch.from_numpy(draws).to(truth.device) * counted[:, -1]).long() + 1
    flat = torch.searchsorted(counted, rank[:, None]).squeeze(1)
    labels = truth.flatten(1)[torch.arange(num, device=flat.device), flat].to(torch.int64)
    cells = torch.stack([flat % width, flat // width], dim=1)
    return cells.float() + 0.5, labels
