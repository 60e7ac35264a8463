"""Fit text prompts to a model that stays as it is; same inputs, same weights, also resumed.

After SAM's appendix (Kirillov et al., 2023): CLIP embeddings of crops of masks ask for these masks.
Of what a prompt means, when that is several things, the map learns all and the decoder the one
that the map points to. What is absent has no mask, and its presence is denied.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.model.device import quick_products
from engine.model.prompt_encoder import PADDING, POSITIVE, PromptTensors
from engine.model.sam import PromptableSam
from engine.model.text.locator import peaks
from engine.model.text.prompted import TextAnswer, TextPrompted
from engine.threads import one_on_all_cores
from engine.training.clicks import random_clicks
from engine.training.losses import dice_loss, focal_loss, hard_iou
from engine.training.text_config import TextTrainingConfig
from engine.training.text_samples import TextBatch, TextSource
from engine.training.text_state import TextState, TextStep
from engine.training.trainer import Checkpointer, TrainingError

_LOGIT_LIMIT = 16.0


@dataclass(frozen=True, kw_only=True)
class TextReport(TextStep):
    """How a step of `num_steps` went."""

    num_steps: int


@dataclass(frozen=True)
class TextLosses:
    """Of one batch: what to minimise, its part of the map, and what a step reports."""

    total: Tensor
    map_loss: Tensor
    iou: float
    told: float


def train_text(
    model: PromptableSam,
    text: TextPrompted,
    source: TextSource,
    config: TextTrainingConfig,
    *,
    checkpoint: Checkpointer | None = None,
    on_step: Callable[[TextReport], None] = lambda _: None,
    device: torch.device | str = "cpu",
) -> TextPrompted:
    """Train a copy of `text` for `config.steps` steps; `model` does not change.

    Goes on from `checkpoint` where there is one. Raises ValueError without images or for a
    checkpoint of another training, TrainingError when the loss is no longer a number.
    """
    if not len(source):
        raise ValueError("images: must have at least one, but got none")
    where = torch.device(device)
    model = model.to(where).eval()
    text = copy.deepcopy(text)
    torch.as_tensor(text.text_centre).copy_(source.text_centre)
    of = f"{model.encoder_id()}-{source.clip_fingerprint}"
    state = TextState(text, config, where, of=of)
    if checkpoint is not None and (blob := checkpoint.load()) is not None:
        state.restore(blob)
    with quick_products(where), one_on_all_cores() as thread:
        while state.step < config.steps:
            record = thread.submit(_advance, model, state, source, config, where).result()
            on_step(TextReport(num_steps=config.steps, **asdict(record)))
            last = state.step == config.steps
            if checkpoint is not None and (last or state.step % config.checkpoint_every == 0):
                checkpoint.save(state.step, state.to_bytes())
    return state.averaged()


def images_of_step(count: int, step: int, config: TextTrainingConfig) -> list[int]:
    """Which images step `step` takes: each once, in another order each time round."""
    found = []
    for number in range(step * config.batch_images, (step + 1) * config.batch_images):
        turn, place = divmod(number, count)
        found.append(int(np.random.default_rng([config.seed, turn, 1]).permutation(count)[place]))
    return found


def _advance(
    model: PromptableSam,
    state: TextState,
    source: TextSource,
    config: TextTrainingConfig,
    device: torch.device,
) -> TextStep:
    started = time.monotonic()
    random = np.random.default_rng([config.seed, state.step, 2])
    indices = images_of_step(len(source), state.step, config)
    samples = [source.sample(index, random, config) for index in indices]
    batch = TextBatch.joined(samples, config).to(device)
    losses = text_losses(
        model, state.text, batch, config, random, drawing=state.step >= config.map_steps
    )
    loss = float(losses.total.detach())
    if not math.isfinite(loss) or not state.descend(losses.total):
        raise TrainingError(
            f"the loss is {loss}, or its gradient no number, at step {state.step}, learning rate "
            f"{state.learning_rate:g}, on images {', '.join(map(str, indices))} (counted from 0); "
            "lower the learning rate or look at what is there",
            images=tuple(indices),
        )
    record = TextStep(
        step=state.step,
        map_loss=float(losses.map_loss.detach()),
        loss=loss,
        iou=losses.iou,
        told=losses.told,
        seconds=time.monotonic() - started,
    )
    state.records.append(record)
    return record


def text_losses(
    model: PromptableSam,
    text: TextPrompted,
    batch: TextBatch,
    config: TextTrainingConfig,
    random: np.random.Generator,
    *,
    drawing: bool,
) -> TextLosses:
    """The losses of one batch; of the map alone unless `drawing`."""
    cells = text.locator.cells(batch.features)
    similarity = text.locator(cells, batch.image_index, batch.vectors)
    _, height = peaks(similarity)
    map_loss = map_losses(similarity, batch).mean()
    told_loss = presence_loss(height, batch.present, torch.zeros_like(batch.present))
    map_loss = map_loss + config.presence_weight * told_loss
    total = config.map_weight * map_loss
    if not drawing or not batch.drawn.any():
        told = ((height > 0) == batch.present).float().mean()
        return TextLosses(total, map_loss, math.nan, float(told))
    asked = _Asked.of(batch, similarity.detach(), config, random, model.side)
    answer = asked.answered(model, text, batch, cells.detach(), asked.prompts)
    total = (
        total
        + _drawn_loss(answer, asked, config)
        + config.presence_weight * (presence_loss(answer.presence, asked.present, asked.clicked))
    )
    told = ((answer.presence > 0) == asked.present)[~asked.clicked].float().mean()
    single = answer.logits[:, 0].detach()
    if random.random() < config.corrected_share:
        prompts = asked.corrected(single, random, model.side)
        answer = asked.answered(model, text, batch, cells.detach(), prompts)
        total = total + _drawn_loss(answer, asked, config)
        single = answer.logits[:, 0].detach()
    there = asked.present
    iou = hard_iou(single[there], asked.targets[there]).mean()
    return TextLosses(total, map_loss, float(iou), float(told))


def map_losses(similarity: Tensor, batch: TextBatch) -> Tensor:
    """(N,) how far each map (N, h, w) is from the union of all that its prompt means."""
    union = (batch.meant.to(batch.targets) @ batch.targets.flatten(1)).clamp(max=1)
    union = union.view(-1, 1, *batch.targets.shape[1:])
    union = _pooled_to(union, similarity)[:, 0]
    present = batch.present.to(similarity)
    cells = focal_loss(similarity, union) + present * dice_loss(similarity, union)
    return cells + thing_losses(similarity, batch)


def thing_losses(similarity: Tensor, batch: TextBatch) -> Tensor:
    """(N,) the cross-entropy of the mean logits within each thing of a prompt's image.

    To like all things alike satisfies the cells for long; this asks at once which of them it is.
    """
    small = _pooled_to(batch.targets[:, None], similarity)[:, 0].flatten(1)
    logits = similarity.flatten(1) @ small.T / small.sum(dim=1).clamp(min=1e-3)
    each = F.binary_cross_entropy_with_logits(logits, batch.meant.to(logits), reduction="none")
    here = batch.image_index[:, None] == batch.target_index[None]
    chosen, others = here & batch.meant, here & ~batch.meant
    parts = [(each * kind).sum(dim=1) / kind.sum(dim=1).clamp(min=1) for kind in (chosen, others)]
    return (parts[0] + parts[1]) / 2


def _pooled_to(fine: Tensor, coarse: Tensor) -> Tensor:
    """(N, 1, h, w) in cells as large as those of `coarse`."""
    return F.avg_pool2d(fine, fine.shape[-1] // coarse.shape[-1])


def presence_loss(logits: Tensor, present: Tensor, clicked: Tensor) -> Tensor:
    """Cross-entropy of presence (N,) over the prompts that no click told of; 0 without any."""
    each = F.binary_cross_entropy_with_logits(logits, present.to(logits), reduction="none")
    asked = (~clicked).to(each)
    return (each * asked).sum() / asked.sum().clamp(min=1)


def _drawn_loss(answer: TextAnswer, asked: "_Asked", config: TextTrainingConfig) -> Tensor:
    """Mean over what is there: the single mask, the best of three, and the IoU of all four."""
    there = asked.present
    if not there.any():
        return answer.logits.sum() * 0
    logits, iou = answer.logits[there], answer.iou[there]
    targets = asked.targets[there][:, None].expand_as(logits)
    each = config.mask_loss_weight * focal_loss(logits, targets)
    each = each + config.dice_weight * dice_loss(logits, targets)
    ambiguous = each[:, 1:].min(dim=1).values + 0.1 * each[:, 1:].mean(dim=1)
    quality = F.mse_loss(iou, hard_iou(logits.detach(), targets))
    masks = each[:, 0] + config.ambiguous_weight * ambiguous
    return masks.mean() + config.iou_loss_weight * quality


@dataclass(frozen=True)
class _Asked:
    """The prompts that the decoder answers: which of the batch's, for which target."""

    rows: Tensor
    targets: Tensor
    present: Tensor
    clicked: Tensor
    prompts: PromptTensors

    @classmethod
    def of(
        cls,
        batch: TextBatch,
        similarity: Tensor,
        config: TextTrainingConfig,
        random: np.random.Generator,
        side: int,
    ) -> "_Asked":
        """Some with a click in a thing that is meant; the target of the others is where the map is.

        `similarity`: (N, h, w) of all the batch's prompts.
        """
        rows = batch.drawn.nonzero()[:, 0]
        present = batch.present[rows]
        draws = random.random(len(rows)) < config.clicked_share
        clicked = torch.from_numpy(draws).to(rows.device) & present
        chosen = pointed_at(similarity[rows], batch.targets, batch.meant[rows])
        several = batch.meant[rows].float() * torch.from_numpy(
            random.random((len(rows), len(batch.targets)))
        ).to(batch.targets)
        chosen = torch.where(clicked, several.argmax(dim=1), chosen)
        targets = batch.targets[chosen] * present[:, None, None]
        nothing = torch.full_like(targets, -1.0)
        cells, _ = random_clicks(targets > 0.5, nothing, random.random(len(rows)))
        points = cells[:, None] * (side / targets.shape[-1])
        labels = torch.where(clicked, POSITIVE, PADDING)[:, None]
        return cls(rows, targets, present, clicked, PromptTensors(points=points, labels=labels))

    def answered(
        self,
        model: PromptableSam,
        text: TextPrompted,
        batch: TextBatch,
        cells: Tensor,
        prompts: PromptTensors,
    ) -> TextAnswer:
        """What the decoder says to `prompts`, which are these or corrections of them."""
        return text.decode(
            model,
            batch.features,
            batch.image_index[self.rows],
            prompts,
            batch.vectors[self.rows],
            cells=cells,
        )

    def corrected(self, logits: Tensor, random: np.random.Generator, side: int) -> PromptTensors:
        """With a click where `logits` (N, h, w) are wrong, and with them."""
        draws = random.random(len(self.rows))
        places, labels = random_clicks(self.targets > 0.5, logits, draws)
        points = places[:, None] * (side / logits.shape[-1])
        return replace(
            self.prompts,
            points=torch.cat([self.prompts.points, points], dim=1),
            labels=torch.cat([self.prompts.labels, labels[:, None]], dim=1),
            mask_logits=logits[:, None].clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT),
        )


def pointed_at(similarity: Tensor, targets: Tensor, meant: Tensor) -> Tensor:
    """(N, h, w) maps, (T, 2h, 2w) things, (N, T) which are meant -> (N,) the one to draw.

    That on which the map's peak lies; else that which the map likes best. 0 if none is meant.
    """
    small = _pooled_to(targets[:, None], similarity)[:, 0].flatten(1)
    likes = torch.sigmoid(similarity).flatten(1) @ small.T / small.sum(dim=1).clamp(min=1)
    cell, _ = peaks(similarity)
    column, row = cell.long().unbind(dim=1)
    under = small[:, row * similarity.shape[-1] + column].T > 0.5
    score = likes + 2.0 * under
    return score.masked_fill(~meant, -1.0).argmax(dim=1)
