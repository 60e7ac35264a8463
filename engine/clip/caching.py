"""Gradients of a batch larger than memory (gradient caching; Gao et al., 2021).

The loss needs all embeddings at once, but not what made them. So they are made without a history,
the loss gives the slope by each embedding, and then each part of the batch is embedded again, with
its history, and pulled by those slopes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.training.gradients import GradientSum

# Embeds the pairs of one part of the batch: (n, D) of images, (n, D) of texts.
EmbedPart = Callable[[slice], tuple[Tensor, Tensor]]
# Of all images and all texts: the loss.
LossOf = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class BatchGradient:
    """A batch's loss, its slope by each parameter (None: plays no part), and the embeddings."""

    loss: float
    slopes: list[Tensor | None]
    images: Tensor
    texts: Tensor


def batch_gradient(
    embed: EmbedPart,
    loss_of: LossOf,
    parameters: Sequence[nn.Parameter],
    *,
    count: int,
    at_once: int,
) -> BatchGradient:
    """The gradient of `loss_of` all `count` pairs, of which `at_once` are embedded at a time.

    `embed` is asked twice for the same embeddings, unless all fit at once; what it draws by chance
    is drawn again. `loss_of` may use parameters itself.
    """
    parts = [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]
    total = GradientSum(parameters)
    if len(parts) == 1:
        images, texts = embed(parts[0])
        loss = loss_of(images, texts)
        total.add(torch.autograd.grad(loss, parameters, allow_unused=True))
    else:
        device = parameters[0].device
        states = []
        embedded = []
        with torch.no_grad():
            for part in parts:
                states.append(_chance(device))
                embedded.append(embed(part))
        images, texts = (torch.cat(side).requires_grad_() for side in zip(*embedded, strict=True))
        loss = loss_of(images, texts)
        by_image, by_text, *own = torch.autograd.grad(
            loss, [images, texts, *parameters], allow_unused=True
        )
        total.add(own)
        for part, state in zip(parts, states, strict=True):
            with _drawn_again(state, device):
                again = embed(part)
            total.add(_pulled(again, (by_image[part], by_text[part]), parameters))
    return BatchGradient(
        loss=loss.item(), slopes=total.totals, images=images.detach(), texts=texts.detach()
    )


def _pulled(
    ends: tuple[Tensor, Tensor], pulls: tuple[Tensor, Tensor], parameters: Sequence[nn.Parameter]
) -> Sequence[Tensor | None]:
    """The slopes by the parameters; a locked tower has no history, and is not pulled."""
    free = [(end, pull) for end, pull in zip(ends, pulls, strict=True) if end.requires_grad]
    return torch.autograd.grad(
        [end for end, _ in free], parameters, [pull for _, pull in free], allow_unused=True
    )


def _chance(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


@contextmanager
def _drawn_again(state: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    on_cpu, on_gpu = state
    with torch.random.fork_rng(devices=[] if on_gpu is None else [device]):
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)
        yield
