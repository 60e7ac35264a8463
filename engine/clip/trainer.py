"""Fit a CLIP to pairs; same inputs, same weights, also after an interruption."""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from engine.clip.caching import BatchGradient, batch_gradient
from engine.clip.config import ClipTrainingConfig
from engine.clip.exam import Exam, Marks
from engine.clip.loss import gathered_loss
from engine.clip.model import Clip
from engine.clip.pairs import Batches, Pairs, alike_of
from engine.clip.state import ClipState, PairStep
from engine.model.device import quick_products
from engine.training.distributed import Team
from engine.training.trainer import Checkpointer, TrainingError

_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class FitReport(PairStep):
    """How a step of `num_steps` went, and how the exam after it, if there was one."""

    num_steps: int
    marks: Marks | None


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The model, on the CPU, and how steps and exams went, also those before an interruption."""

    clip: Clip
    steps: tuple[PairStep, ...]
    marks: tuple[Marks, ...]


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """A process's pairs of a step: (n, 3, h, w) uint8, (n, context) tokens, numbers of texts."""

    indices: list[int]
    images: Tensor
    tokens: Tensor
    alike: Tensor


def fit(
    clip: Clip,
    pairs: Pairs,
    config: ClipTrainingConfig,
    *,
    exam: Exam | None = None,
    checkpoint: Checkpointer | None = None,
    on_step: Callable[[FitReport], None] = lambda _: None,
    device: torch.device | str = "cpu",
) -> FitResult:
    """Train a copy of `clip` for `config.steps` steps on `pairs`, on `device`.

    `exam` is sat every `config.evaluate_every` steps and at the end. Goes on from `checkpoint`
    where there is one. In processes that have met (`engine.training.distributed.joined`), each
    embeds its share of a step's pairs and compares it with all; the first alone sits exams, writes
    checkpoints and reports steps.
    Raises ValueError for too few pairs or a checkpoint of another training, TrainingError that
    names the step and its pairs when the loss is no longer a number.
    """
    team = Team.current()
    batches = Batches(len(pairs), config.batch_pairs, config.seed)
    share = team.share(config.batch_pairs, "batch_pairs")
    state = ClipState(clip, config, torch.device(device))
    if checkpoint is not None and (blob := checkpoint.load()) is not None:
        state.restore(blob)
    team.check_alike(state.step, state.clip.module)
    ahead = _made_ahead(state, pairs, batches, share, range(state.step, config.steps))
    with quick_products(state.clip.device):
        for batch in ahead:
            record = _advance(state, batch, config, team)
            if not team.is_first:
                continue
            last = state.step == config.steps
            marks = None
            if exam is not None and (last or state.step % config.evaluate_every == 0):
                marks = _sat(exam, state)
            on_step(FitReport(num_steps=config.steps, marks=marks, **asdict(record)))
            if checkpoint is not None and (last or state.step % config.checkpoint_every == 0):
                checkpoint.save(state.step, state.to_bytes())
    fitted = state.clip.copied("cpu").computing(precision="float32")
    fitted.module.requires_grad_(True)
    return FitResult(
        clip=fitted,
        steps=tuple(state.records),
        marks=tuple(state.marks),
    )


def _made_ahead(
    state: ClipState, pairs: Pairs, batches: Batches, share: range, steps: range
) -> Iterator[_Batch]:
    """The batch of each step, while the one before is computed."""
    frame, vocabulary = state.clip.frame, state.clip.vocabulary

    def made(step: int) -> _Batch:
        whole = batches.of_step(step)
        indices = [whole[place] for place in share]
        images, texts = pairs.fetch(indices)
        return _Batch(
            indices=indices,
            images=frame.fit(images),
            tokens=vocabulary(texts),
            alike=torch.from_numpy(alike_of(pairs, indices, texts)),
        )

    with ThreadPoolExecutor(1) as thread:
        coming: Future[_Batch] | None = None
        for step in steps:
            batch = (coming or thread.submit(made, step)).result()
            coming = thread.submit(made, step + 1) if step + 1 < steps.stop else None
            yield batch


def _advance(state: ClipState, batch: _Batch, config: ClipTrainingConfig, team: Team) -> PairStep:
    started = time.monotonic()
    scale = float(state.log_scale.detach().exp())
    alike = batch.alike.to(state.clip.device) if config.spare_equal_texts else None
    with _chance_of(state, config, team):
        found = batch_gradient(
            partial(_embedded, state.clip, batch),
            lambda images, texts: gathered_loss(images, texts, state.log_scale, team, alike),
            state.learning,
            count=len(batch.indices),
            at_once=config.pairs_at_once,
        )
    if not math.isfinite(found.loss):
        raise _error(f"the loss is {found.loss}", state, team, _broken(batch, found))
    slopes = team.add_up(state.learning, found.slopes)
    if not state.descend(slopes):
        raise _error("the gradient is no number", state, team, batch.indices)
    record = PairStep(
        step=state.step, loss=found.loss, scale=scale, seconds=time.monotonic() - started
    )
    state.records.append(record)
    return record


def _embedded(clip: Clip, batch: _Batch, part: slice) -> tuple[Tensor, Tensor]:
    images = clip.frame.normalised(batch.images[part].to(clip.device))
    return clip.encode_images(images), clip.encode_texts(batch.tokens[part].to(clip.device))


@contextmanager
def _chance_of(state: ClipState, config: ClipTrainingConfig, team: Team) -> Iterator[None]:
    """What a step draws (dropped patches) depends on seed, step and process alone."""
    device = state.clip.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(hash((config.seed, state.step, team.rank)))
        yield


def _sat(exam: Exam, state: ClipState) -> Marks:
    state.clip.module.eval()
    marks = exam.marks(state.clip, state.step)
    state.learn()
    state.marks.append(marks)
    return marks


def _broken(batch: _Batch, found: BatchGradient) -> list[int]:
    """The pairs whose embeddings are no numbers."""
    whole = (found.images.isfinite() & found.texts.isfinite()).all(dim=1).tolist()
    return [index for index, right in zip(batch.indices, whole, strict=True) if not right]


def _error(what: str, state: ClipState, team: Team, own: list[int]) -> TrainingError:
    indices = sorted(team.gather(own))
    names = ", ".join(str(index) for index in indices[:_NAMED])
    more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
    return TrainingError(
        f"{what} at step {state.step}, learning rate {state.learning_rate:g}, on pairs "
        f"{names}{more} (counted from 0); lower the learning rate or look at what is there",
        images=tuple(indices),
    )
