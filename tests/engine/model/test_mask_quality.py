"""What a mask looks like tells how good it is, where the prompt alone cannot."""

import torch
from torch.nn import functional as F

from engine.model.mask_quality import MaskQuality, looks_of

DIM, SIDE = 8, 16
SURE = 20.0


def rectangle(top: int, left: int, height: int, width: int, *, logit: float = SURE) -> torch.Tensor:
    mask = torch.full((SIDE, SIDE), -logit)
    mask[top : top + height, left : left + width] = logit
    return mask


def four(*masks: torch.Tensor) -> torch.Tensor:
    return torch.stack(masks)[None]


def test_looks_of_sharp_masks_are_what_one_can_count() -> None:
    small, large = rectangle(2, 2, 4, 4), rectangle(2, 2, 4, 8)
    looks = looks_of(four(small, large, rectangle(10, 10, 4, 4), small))[0]
    expected, inside, stability, size, border = looks[:20].reshape(5, 4)
    torch.testing.assert_close(expected, torch.ones(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(inside, torch.ones(4))
    torch.testing.assert_close(stability, torch.ones(4))
    torch.testing.assert_close(size[:2], torch.log1p(torch.tensor([16.0, 32.0])) / 5)
    torch.testing.assert_close(border[0], torch.tensor(16 / (5 * 4.0)))
    torch.testing.assert_close(looks[20:], torch.tensor([0.5, 0.0, 1.0, 0.0, 0.5, 0.0]))


def test_a_hesitant_mask_looks_worse_than_a_sure_one() -> None:
    sure, hesitant = rectangle(2, 2, 6, 6), rectangle(2, 2, 6, 6, logit=0.5)
    looks = looks_of(four(sure, hesitant, sure, hesitant))[0]
    for look in looks[:12].reshape(3, 4):
        assert look[1] < look[0] - 0.2


def test_empty_and_full_masks_have_looks_too() -> None:
    empty, full = torch.full((SIDE, SIDE), -SURE), torch.full((SIDE, SIDE), SURE)
    assert looks_of(four(empty, full, empty, full)).isfinite().all()
    assert looks_of(torch.zeros(0, 4, SIDE, SIDE)).shape == (0, 26)


def test_it_starts_as_nothing_and_leaves_the_masks_alone() -> None:
    quality = MaskQuality(DIM)
    token = torch.randn(3, DIM, requires_grad=True)
    logits = torch.randn(3, 4, SIDE, SIDE, requires_grad=True)
    added = quality(token, logits)
    assert not added.any()
    torch.nn.init.normal_(quality.layers[-1].weight)
    quality(token, logits).sum().backward()
    assert token.grad is not None
    assert token.grad.any()
    assert logits.grad is None


def test_it_learns_to_tell_good_masks_from_bad_for_one_and_the_same_prompt() -> None:
    torch.manual_seed(0)
    quality = MaskQuality(DIM)
    token = torch.ones(64, DIM)
    sharpness = torch.rand(64, 4)
    logits = rectangle(2, 2, 9, 9, logit=1.0) * (0.2 + 5 * sharpness[..., None, None])
    optimiser = torch.optim.Adam(quality.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        loss = F.mse_loss(quality(token, logits), sharpness)
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * sharpness.var()
