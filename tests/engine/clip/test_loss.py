"""The contrastive loss is what a plain double loop says it is."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.clip.loss import MAX_LOG_SCALE, contrastive_loss, keep_in_bounds


def unit_vectors(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 16, generator=generator), dim=-1)


def plain(images: Tensor, texts: Tensor, log_scale: float, alike: list[int]) -> float:
    """Each image against all texts, each text against all images, one number at a time."""
    scale, count, total = math.exp(log_scale), len(images), 0.0
    for own in range(count):
        by_row, by_column = 0.0, 0.0
        for other in range(count):
            if other != own and alike[other] == alike[own]:
                continue
            by_row += math.exp(scale * float(images[own].double() @ texts[other].double()))
            by_column += math.exp(scale * float(images[other].double() @ texts[own].double()))
        right = scale * float(images[own].double() @ texts[own].double())
        total += (math.log(by_row) - right + math.log(by_column) - right) / 2
    return total / count


@pytest.mark.parametrize("log_scale", [0.0, 2.66, MAX_LOG_SCALE])
@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_the_loss_is_that_of_a_plain_double_loop(count: int, log_scale: float) -> None:
    images, texts = unit_vectors(count, 1), unit_vectors(count, 2)
    found = contrastive_loss(images, texts, torch.tensor(log_scale))
    wanted = plain(images, texts, log_scale, list(range(count)))
    assert float(found) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_pairs_of_equal_texts_are_no_negatives_to_each_other() -> None:
    images, texts, alike = unit_vectors(6, 1), unit_vectors(6, 2), [0, 1, 0, 2, 1, 0]
    found = contrastive_loss(images, texts, torch.tensor(3.0), torch.tensor(alike))
    assert float(found) == pytest.approx(plain(images, texts, 3.0, alike), rel=1e-5)
    assert found < contrastive_loss(images, texts, torch.tensor(3.0))


@pytest.mark.parametrize(("before", "after"), [(9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)])
def test_the_scale_stays_between_1_and_100(before: float, after: float) -> None:
    log_scale = torch.nn.Parameter(torch.tensor(before))
    keep_in_bounds(log_scale)
    assert log_scale.item() == pytest.approx(after)
