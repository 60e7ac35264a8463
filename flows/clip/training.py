"""`maskloop clip train`: a CLIP learns the words for one's own images, in a file of weights."""

import hashlib
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from engine.clip.card import ClipCard, write_card
from engine.clip.config import NANO, ClipConfig, ClipTrainingConfig, Tower
from engine.clip.exam import Exam, Marks
from engine.clip.growth import grown, unknown_tokens
from engine.clip.model import Clip
from engine.clip.trainer import FitReport, FitResult, fit
from engine.clip.views import ViewsConfig
from engine.clip.vocabulary import tokens_of
from engine.clip.weights import load, to_bytes
from engine.identity import config_hash
from engine.model.device import device_named, is_out_of_memory
from engine.training.checkpoint import FileCheckpointer
from engine.training.spawned import HelperError, helped
from engine.training.trainer import TrainingError
from flows.clip.clips import load_clip
from flows.clip.marks import learnt, learnt_before, scores, told
from flows.clip.pairs import file_pairs
from flows.clip.pictures import Gathered, KeptPairs, PairSource, gather
from flows.clip.store_pairs import store_pairs
from flows.errors import StageError, UsageError
from flows.images.sources import ImageReader
from flows.progress import Progress
from flows.settings import ClipSettings, ModelSettings
from flows.workspace import Workspace
from storage.durable import write_durably

_SUFFIX = ".safetensors"
_MOST_PAIRS = 128
# Of a step from what is trained already, and of one from random weights.
_GENTLE, _BOLD = 1e-4, 1e-3
_EXAMS, _CHECKPOINT_EVERY = 10, 50
_OPTIONS = {
    "steps": "--steps",
    "batch_pairs": "--batch",
    "pairs_at_once": "--at-once",
    "learning_rate": "--learning-rate",
    "locked": "--lock",
}


@dataclass(frozen=True, kw_only=True)
class ClipTrainRequest:
    """What to train from, and how; what is None follows from the pairs and the start.

    start: which CLIP; fresh: of random weights; said_in: where the user named it. Raises
    UsageError.
    """

    out: Path
    start: ClipSettings
    said_in: str
    fresh: bool = False
    steps: int = 1000
    batch: int | None = None
    at_once: int | None = None
    learning_rate: float | None = None
    locked: Tower | None = None
    device: str = "auto"
    processes: int | None = None
    seed: int = 0
    holdout: float = 0.1
    checkpoint: Path | None = None
    made_by: str = ""

    def __post_init__(self) -> None:
        if self.out.suffix != _SUFFIX:
            raise UsageError(f"--out: must end in {_SUFFIX}, but got {self.out}")
        if not 0 <= self.holdout < 1:
            raise UsageError(f"--holdout: must be from 0 to below 1, but got {self.holdout}")
        for option, path in (("--out", self.out), ("--checkpoint", self.kept_in)):
            if path.is_dir() or not path.parent.is_dir():
                raise UsageError(f"{option}: {path}: must be a file in a folder that is there")
        if self.batch is not None and self.at_once is not None and self.at_once > self.batch:
            raise UsageError(
                f"--at-once: must be at most --batch, {self.batch}, but got {self.at_once}"
            )

    @property
    def kept_in(self) -> Path:
        """Where the training's state is kept, before the name of the training is put into it."""
        return self.checkpoint or self.out.with_suffix(".checkpoint")


@dataclass(frozen=True, kw_only=True)
class ClipTrainOutcome:
    """What one training gave; `before` and `after` are None where nothing was held out.

    num_new_tokens: that the start did not know. problems: a line for each row or image left out.
    """

    out: str
    sha256: str
    num_images: int
    num_pairs: int
    num_held_out: int
    num_new_tokens: int
    steps: int
    processes: int
    resumed_at: int
    loss: float
    before: Marks | None
    after: Marks | None
    seconds: float
    problems: tuple[str, ...]


def train_on_files(
    where: Path, reader: ImageReader, request: ClipTrainRequest, progress: Progress
) -> ClipTrainOutcome:
    """Train on a folder, a CSV or a Parquet file of images and texts; raises as `_train` does."""
    source, problems = file_pairs(where, reader)
    return _train(source, problems, _start(request), request, progress)


def train_on_store(
    workspace: Workspace, request: ClipTrainRequest, progress: Progress
) -> ClipTrainOutcome:
    """Train on the named masks of the store; raises as `_train` does."""
    start = _start(request)
    views = ViewsConfig(views=workspace.settings.clip.views).as_pictures()
    source = store_pairs(workspace, views, start.image_size[0])
    return _train(source, [], start, request, progress)


def _start(request: ClipTrainRequest) -> Clip:
    """The CLIP to begin with, on the CPU; raises UsageError, StageError."""
    try:
        device_named(request.device)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"--device: {error}") from error
    if not request.fresh:
        return load_clip(request.start, ModelSettings(device="cpu"), said_in=request.said_in)
    architecture = request.start.model
    tokens = tokens_of(["a"]) if architecture == NANO else ()
    try:
        return Clip.new(ClipConfig(architecture=architecture, tokens=tokens), seed=request.seed)
    except ValueError as error:
        raise UsageError(f"{request.said_in}: {error}") from error


def _train(
    source: PairSource,
    problems: list[str],
    start: Clip,
    request: ClipTrainRequest,
    progress: Progress,
) -> ClipTrainOutcome:
    """Read the pairs, train, and write the weights with their card.

    Raises UsageError for too few pairs and for options that fit neither them nor each other,
    StageError where a training diverges or memory runs out.
    """
    began = time.monotonic()
    gathered = gather(
        source,
        start.frame,
        holdout=request.holdout,
        folder=request.out.parent,
        progress=progress,
    )
    problems = [*problems, *gathered.problems]
    config = _config(request, gathered, problems)
    processes = _processes(request, config)
    clip, num_new = _with_words(start, gathered, request, progress)
    exam = gathered.exam()
    if exam is None and request.holdout:
        progress.note("too few images are held out for an exam; more images, or a larger --holdout")
    device = device_named(request.device)
    before = None if exam is None else exam.marks(clip.computing(device=device), 0)
    if before is not None:
        progress.note(told(f"before, on {len(gathered.asked)} held-out pictures", before))
    run = _Run(clip, gathered, config, processes, exam, request, progress)
    result = run.fitted()
    data = to_bytes(result.clip)
    after = result.marks[-1] if result.marks else None
    write_durably(request.out, data)
    sha256 = hashlib.sha256(data).hexdigest()
    card = ClipCard(
        config=result.clip.config,
        sha256=sha256,
        trained_on=(*learnt_before(request.start, fresh=request.fresh), learnt(source, gathered)),
        scores=scores(source, gathered, after),
        description=f"{config.steps} steps of {config.batch_pairs} pairs",
        made_by=request.made_by,
    )
    write_card(request.out, card)
    run.checkpoint.clear()
    return ClipTrainOutcome(
        out=str(request.out),
        sha256=sha256,
        num_images=gathered.num_images,
        num_pairs=len(gathered.pairs),
        num_held_out=len(gathered.asked),
        num_new_tokens=num_new,
        steps=config.steps,
        processes=processes,
        resumed_at=run.resumed_at,
        loss=result.steps[-1].loss,
        before=before,
        after=after,
        seconds=time.monotonic() - began,
        problems=tuple(problems),
    )


def _config(
    request: ClipTrainRequest, gathered: Gathered, problems: list[str]
) -> ClipTrainingConfig:
    count = len(gathered.pairs)
    if count < 2:
        why = f"; {problems[0]}" if problems else ""
        raise UsageError(
            f"{count} pairs to train on, but telling one from another needs 2 at least, and "
            f"hundreds to learn much: add images with texts, or lower --holdout{why}"
        )
    if request.batch is not None and request.batch > count:
        raise UsageError(
            f"--batch: must be at most the number of pairs, {count}, but got {request.batch}"
        )
    batch = request.batch or min(_MOST_PAIRS, count)
    given = request.learning_rate
    try:
        return ClipTrainingConfig(
            steps=request.steps,
            batch_pairs=batch,
            pairs_at_once=batch if request.at_once is None else request.at_once,
            locked=request.locked,
            learning_rate=(_BOLD if request.fresh else _GENTLE) if given is None else given,
            warmup_steps=min(100, request.steps // 10),
            evaluate_every=max(1, request.steps // _EXAMS),
            checkpoint_every=_CHECKPOINT_EVERY,
            seed=request.seed,
        )
    except ValueError as error:
        field, _, rule = str(error).partition(": ")
        raise UsageError(f"{_OPTIONS.get(field, field)}: {rule}") from error


def _processes(request: ClipTrainRequest, config: ClipTrainingConfig) -> int:
    """How many processes train: those asked for, else one for each GPU; raises UsageError."""
    device = device_named(request.device)
    # A device by its number is that one alone.
    gpus = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
    wanted = request.processes
    if wanted is None:
        return min(gpus, config.batch_pairs)
    most, what = config.batch_pairs, "the pairs of a step"
    if device.type == "cuda" and gpus < most:
        most, what = gpus, f"the GPUs of --device {request.device}"
    if not 1 <= wanted <= most:
        raise UsageError(f"--processes: must be from 1 to {most}, {what}, but got {wanted}")
    return wanted


def _help(
    weights: bytes, pairs: KeptPairs, config: ClipTrainingConfig, kept_in: Path, on: torch.device
) -> None:
    """The share of a training that is not the first process's."""
    fit(load(weights), pairs, config, checkpoint=FileCheckpointer(kept_in), device=on)


def _with_words(
    start: Clip, gathered: Gathered, request: ClipTrainRequest, progress: Progress
) -> tuple[Clip, int]:
    """The start with all words of the pairs, and how many tokens are new to it."""
    fresh = unknown_tokens(start, gathered.texts)
    if not fresh:
        return start, 0
    if request.locked == "text":
        progress.note(
            f"{len(fresh)} tokens of the texts are unknown to this CLIP and stay so, since its "
            "text tower is locked"
        )
        return start, 0
    progress.note(f"{len(fresh)} tokens of the texts are new to this CLIP, which learns them")
    return grown(start, gathered.texts), len(fresh)


class _Run:
    """One training, which goes on from its checkpoint where it has one."""

    def __init__(
        self,
        clip: Clip,
        gathered: Gathered,
        config: ClipTrainingConfig,
        processes: int,
        exam: Exam | None,
        request: ClipTrainRequest,
        progress: Progress,
    ) -> None:
        self._clip, self._gathered, self._config = clip, gathered, config
        self._exam, self._request, self._progress = exam, request, progress
        self._processes = processes
        # Named by what is trained on what from where: another training starts anew.
        parts = (config_hash(config), clip.fingerprint, gathered.digest)
        key = hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]
        path = request.kept_in
        self.path = path.with_name(f"{path.stem}-{key}{path.suffix}")
        self.checkpoint = FileCheckpointer(self.path)
        self.resumed_at = 0
        self._done = 0
        self._goes_on = self.path.exists()

    def fitted(self) -> FitResult:
        """The result; raises StageError where it diverges or a process or memory is lost."""
        if self._goes_on:
            self._progress.note(f"goes on from {self.path}")
        pairs, device = self._gathered.pairs, device_named(self._request.device)
        weights = to_bytes(self._clip) if self._processes > 1 else b""
        share = partial(_help, weights, pairs, self._config, self.path)
        try:
            with helped(self._processes, device, share) as own:
                return fit(
                    self._clip,
                    pairs,
                    self._config,
                    exam=self._exam,
                    checkpoint=self.checkpoint,
                    on_step=self._on_step,
                    device=own,
                )
        except KeyboardInterrupt:
            kept = self._done - self._done % _CHECKPOINT_EVERY
            self._progress.note(
                f"stopped after step {self._done} of {self._config.steps}; the same command goes "
                f"on from step {max(kept, self.resumed_at)}"
            )
            raise
        except TrainingError as error:
            texts = [self._gathered.pairs.sayings[index].text for index in error.images[:3]]
            raise StageError(f"clip train: {error}: {texts!a}") from error
        except HelperError as error:
            raise StageError(
                f"clip train: {error}; the same command goes on from its checkpoint, also with "
                "other --processes"
            ) from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise StageError(
                f"clip train: memory ran out with {self._config.pairs_at_once} pairs at once; give "
                "a lower --at-once, which changes nothing else"
            ) from error

    def _on_step(self, report: FitReport) -> None:
        if self._goes_on:
            self._goes_on, self.resumed_at = False, report.step - 1
        self._done = report.step
        what = f"training steps (loss {report.loss:.3f})"
        self._progress.step(what, report.step, report.num_steps)
        if report.marks is not None:
            self._progress.note(told(f"step {report.step}, loss {report.loss:.3f}", report.marks))
