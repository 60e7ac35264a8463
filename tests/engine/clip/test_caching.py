"""Gradient caching gives the gradient of the whole batch."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.clip.caching import batch_gradient
from engine.clip.loss import contrastive_loss

COUNT = 10


class Towers(nn.Module):
    def __init__(self, *, dropped: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Dropout(dropped))
        self.text = nn.Sequential(nn.Linear(9, 20), nn.Tanh())
        self.both = nn.Linear(20, 8)
        self.unused = nn.Linear(2, 2)
        self.log_scale = nn.Parameter(torch.tensor(2.0))


def embedded(towers: Towers, images: Tensor, texts: Tensor, part: slice) -> tuple[Tensor, Tensor]:
    seen = F.normalize(towers.both(towers.image(images[part])), dim=-1)
    read = F.normalize(towers.both(towers.text(texts[part])), dim=-1)
    return seen, read


def gradient(
    towers: Towers, at_once: int, *, parameters: list[nn.Parameter] | None = None
) -> tuple[float, list[Tensor | None]]:
    torch.manual_seed(5)
    images, texts = torch.randn(COUNT, 12), torch.randn(COUNT, 9)
    found = batch_gradient(
        partial(embedded, towers, images, texts),
        lambda seen, read: contrastive_loss(seen, read, towers.log_scale),
        parameters or list(towers.parameters()),
        count=COUNT,
        at_once=at_once,
    )
    assert len(found.images) == len(found.texts) == COUNT
    return found.loss, found.slopes


@pytest.mark.parametrize("at_once", [1, 3, 5, 9])
def test_the_gradient_is_that_of_the_whole_batch(at_once: int) -> None:
    towers = Towers()
    loss, slopes = gradient(towers, at_once)
    whole_loss, whole = gradient(towers, COUNT)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    for name, found, wanted in zip(dict(towers.named_parameters()), slopes, whole, strict=True):
        if name.startswith("unused"):
            assert found is None, name
            assert wanted is None, name
        else:
            assert found is not None, name
            assert wanted is not None, name
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7, msg=name)


def test_a_locked_tower_is_left_out() -> None:
    towers = Towers()
    towers.image.requires_grad_(False)
    towers.both.requires_grad_(False)
    free = [*towers.text.parameters(), towers.log_scale]
    _, slopes = gradient(towers, 3, parameters=free)
    _, whole = gradient(towers, COUNT, parameters=free)
    for found, wanted in zip(slopes, whole, strict=True):
        assert found is not None
        assert wanted is not None
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_what_is_drawn_by_chance_is_drawn_again() -> None:
    towers = Towers(dropped=0.5)
    seen: list[Tensor] = []
    towers.image.register_forward_hook(lambda *given: seen.append(given[2].detach()))
    gradient(towers, 5)
    first, second, first_again, second_again = seen
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)
    assert not torch.equal(first == 0, second == 0)
