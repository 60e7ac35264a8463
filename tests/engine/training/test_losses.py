import torch

from engine.training.losses import dice_loss, focal_loss, hard_iou


def square(size: int = 16) -> torch.Tensor:
    target = torch.zeros(size, size)
    target[4:10, 4:12] = 1
    return target


def test_a_perfect_mask_costs_almost_nothing() -> None:
    target = square()
    logits = (target * 2 - 1) * 20
    assert focal_loss(logits, target) < 1e-4
    assert dice_loss(logits, target) < 1e-4
    assert hard_iou(logits, target) == 1


def test_dice_is_one_minus_twice_the_overlap() -> None:
    target = square()
    shifted = torch.roll(target, 4, dims=1)
    overlap = float((target * shifted).sum())
    want = 1 - (2 * overlap + 1) / (float(target.sum()) * 2 + 1)
    assert abs(float(dice_loss((shifted * 2 - 1) * 50, target)) - want) < 1e-4


def test_a_small_object_weighs_as_much_as_a_large_one() -> None:
    small, large = torch.zeros(64, 64), torch.zeros(64, 64)
    small[10:14, 10:14] = 1
    large[10:50, 10:50] = 1
    nothing = torch.full((64, 64), -20.0)
    ratio = focal_loss(nothing, small) / focal_loss(nothing, large)
    assert 0.5 < ratio < 2


def test_iou_of_nothing_is_nothing() -> None:
    assert hard_iou(torch.full((4, 4), -1.0), torch.zeros(4, 4)) == 0


def test_iou_counts_pixels() -> None:
    target = square()
    found = torch.roll(target, 2, dims=0)
    want = (target * found).sum() / ((target + found) > 0).sum()
    assert hard_iou(found * 2 - 1, target) == want
