"""Named full configurations: a run is a function, a variant is a `dataclasses.replace`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

from engine.asking.choice import Choice
from engine.asking.proposals import ProposalConfig
from engine.detection.config import DetectorConfig
from engine.generation.config import PAPER, REFERENCE, GenerationConfig
from engine.metrics.config import EvaluationConfig
from engine.precision import Precision
from engine.training.config import TrainingConfig
from flows.errors import UsageError

_Each = TypeVar("_Each")
Propose = Literal["grid", "detector"]


@dataclass(frozen=True, kw_only=True)
class AssistConfig:
    """Stage 2: how many images a turn, out of how many looked at, out of how many surveyed.

    A survey encodes an image; a look makes its masks, which are proposed: by the grid of
    `generation`, or by the boxes of a detector that is trained on the masks so far. `choose` says
    which of the images that were looked at people get. Proposals pass `proposals`, and with a
    `promise`, a share in (0, 1), only those from a score on that people have accepted so often.

    Shares of what people do without a difference to see: `withhold` of the proposals are not shown;
    `gold` as many images as others are checks, whose masks are known; `second` of the answers are
    asked of somebody else again, where people sign in.
    """

    num_images: int = 24
    pool: int = 72
    survey: int = 2000
    propose: Propose = "grid"
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    choose: Choice = "mixture"
    promise: float | None = None
    withhold: float = 0.05
    gold: float = 0.05
    second: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.num_images <= self.pool:
            raise ValueError(
                f"num_images: must be from 1 to pool ({self.pool}), but got {self.num_images}"
            )
        if self.survey < self.pool:
            raise ValueError(f"survey: must be at least pool ({self.pool}), but got {self.survey}")
        for name, choices in (("propose", Propose), ("choose", Choice)):
            if getattr(self, name) not in get_args(choices):
                options = ", ".join(get_args(choices))
                raise ValueError(
                    f"{name}: must be one of {options}, but got {getattr(self, name)!r}"
                )
        if self.promise is not None and not 0 < self.promise < 1:
            raise ValueError(f"promise: must be between 0 and 1, but got {self.promise}")
        for name in ("withhold", "gold", "second"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in [0, 1], but got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """A candidate is promoted unless it is worse than the model in service by over `margin`."""

    metrics: tuple[str, ...] = ("iou_1_click", "iou_3_clicks", "iou_5_clicks")
    margin: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin: must be in [0, 1), but got {self.margin}")


# Two answers about one image whose objects overlap by less in the mean are a disagreement.
DISPUTE_BELOW = 0.7


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that says *what* a loop does; `maskloop.toml` says *where*.

    max_depth: masks with more models behind them are not learnt from, None for no limit;
    keep_candidates: generation also stores what it saw before filtering, for `replay`; redo: which
    time images that have masks get them again, 0 for those that have none; dispute_below: two
    answers about one image that agree by a lower mean IoU are for a lead to settle.
    """

    name: str
    start: str = "nano"
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    evaluation_generation: GenerationConfig = field(default_factory=GenerationConfig)
    assist: AssistConfig = field(default_factory=AssistConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    max_depth: int | None = None
    keep_candidates: bool = False
    redo: int = 0
    shard_size: int = 8
    clicks_per_image: int = 150
    dispute_below: float = DISPUTE_BELOW

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError(f"shard_size: must be at least 1, but got {self.shard_size}")
        if self.max_depth is not None and self.max_depth < 0:
            raise ValueError(f"max_depth: must be at least 0, but got {self.max_depth}")
        if self.clicks_per_image < 1:
            raise ValueError(
                f"clicks_per_image: must be at least 1, but got {self.clicks_per_image}"
            )
        if not 0 <= self.dispute_below <= 1:
            raise ValueError(f"dispute_below: must be in [0, 1], but got {self.dispute_below}")

    def computing_in(self, precision: Precision) -> "Recipe":
        """The same with automatic masks of that precision."""
        return replace(self, generation=replace(self.generation, precision=precision))

    def asking(self, changes: Mapping[str, Any]) -> "Recipe":
        """The same with these fields of its `AssistConfig`."""
        return replace(self, assist=replace(self.assist, **changes))

    def generation_key(self) -> str:
        """The config hash that names the sets this recipe generates."""
        return self.generation_keys()[0]

    def generation_keys(self) -> tuple[str, ...]:
        """The config hashes of sets that will do, its own first: candidates are no disadvantage."""
        key = self.generation.key()
        kept = _derived(key, "and candidates")
        if self.redo:
            return (_derived(kept if self.keep_candidates else key, f"again {self.redo}"),)
        return (kept,) if self.keep_candidates else (key, kept)


def _derived(key: str, words: str) -> str:
    return hashlib.sha256(f"{key} {words}".encode()).hexdigest()[: len(key)]


# A small model is careful about itself: its IoU estimates and logits run low, and duplicates of one
# object differ more than a large model's do. Chosen by F1 on drawn worlds that it did not learn
# from and on nuclei of the public set's training part. Crops show it small objects enlarged, which
# no denser grid makes up for (decision 86).
_GRID = GenerationConfig(
    points_per_side=16,
    crop_n_layers=1,
    pred_iou_thresh=0.5,
    stability_score_thresh=0.7,
    box_nms_thresh=0.5,
    mask_nms_thresh=0.5,
    containment_thresh=0.5,
)
_PROPOSALS = ProposalConfig(min_predicted_iou=0.6, min_stability_score=0.7)

NANO = Recipe(
    name="nano",
    training=TrainingConfig(
        steps=240, warmup_steps=20, learning_rate=5e-4, ema=0.99, images_at_once=4
    ),
    evaluation=EvaluationConfig(max_images=128, max_masks_per_image=8, max_generated_images=96),
    evaluation_generation=_GRID,
    assist=AssistConfig(num_images=32, pool=48, generation=_GRID, proposals=_PROPOSALS),
    generation=_GRID,
)

# Drawn scenes have a dozen large objects: a coarse grid finds them all. Small batches teach enough
# to see in minutes, also on two slow cores; from a dozen first masks, too fast a learner forgets
# what a first click means.
_COARSE_GRID = replace(_GRID, points_per_side=9, crop_n_layers=0)
DEMO = replace(
    NANO,
    name="demo",
    training=TrainingConfig(
        steps=32,
        warmup_steps=5,
        learning_rate=3e-4,
        ema=0.97,
        batch_images=2,
        images_at_once=2,
        masks_per_image=6,
        background_per_image=1,
    ),
    evaluation=EvaluationConfig(max_images=20, max_masks_per_image=6),
    evaluation_generation=_COARSE_GRID,
    assist=replace(NANO.assist, num_images=24, pool=28, generation=_COARSE_GRID),
    generation=_COARSE_GRID,
)

# Weights that know more than these labels teach: the encoder stays, and an image has one crop,
# encoded once. The grid and the thresholds are those of `SamAutomaticMaskGenerator`.
_SAM_LIGHT_GRID = replace(REFERENCE, points_per_side=16)
_SAM = replace(
    NANO,
    name="sam",
    training=TrainingConfig(
        steps=200,
        warmup_steps=20,
        ema=0.99,
        learning_rate=2e-4,
        crop_scale=(1.0, 1.6),
        views=1,
        frozen=("image_encoder",),
    ),
    evaluation_generation=_SAM_LIGHT_GRID,
    assist=replace(
        NANO.assist,
        generation=_SAM_LIGHT_GRID,
        proposals=ProposalConfig(min_predicted_iou=0.8, min_stability_score=0.9),
    ),
    generation=REFERENCE,
)

# Random weights have all to learn, and nothing of what they know is worth keeping.
_BACKBONE = replace(
    NANO,
    name="backbone",
    training=TrainingConfig(
        steps=2000, warmup_steps=100, scratch_steps=200, batch_images=6, masks_per_image=6
    ),
)

_TINY_GRID = replace(_COARSE_GRID, points_per_side=6)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        NANO,
        # A turn in minutes: to see whether everything is set up, not for good masks.
        replace(
            NANO,
            name="quick",
            training=TrainingConfig(steps=24, warmup_steps=8),
            evaluation=EvaluationConfig(max_images=8, max_masks_per_image=3),
            evaluation_generation=_COARSE_GRID,
            assist=replace(NANO.assist, num_images=8, pool=12, generation=_COARSE_GRID),
            generation=_COARSE_GRID,
        ),
        # As the paper's second stage: a detector's boxes prompt the model.
        replace(NANO, name="detector", assist=replace(NANO.assist, propose="detector")),
        DEMO,
        replace(
            DEMO,
            name="demo-quick",
            training=TrainingConfig(steps=8, warmup_steps=2, batch_images=2, masks_per_image=4),
            evaluation=EvaluationConfig(max_images=3, max_masks_per_image=2),
            evaluation_generation=_TINY_GRID,
            assist=replace(NANO.assist, num_images=4, pool=6, generation=_TINY_GRID),
            generation=_TINY_GRID,
        ),
        *(replace(_SAM, name=name, start=name) for name in ("vit_t", "vit_b", "vit_l", "vit_h")),
        # As SA-1B was made: the largest model, and crops.
        replace(_SAM, name="paper", start="vit_h", generation=PAPER),
        *(replace(_BACKBONE, name=name, start=name) for name in ("resnet18", "resnet50")),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; raises UsageError with the names that there are."""
    return _named(name, RECIPES)


def generation_named(name: str) -> GenerationConfig:
    """How a recipe generates, or `reference`, as segment_anything's generator does.

    Raises UsageError with the names that there are.
    """
    ways = {known: recipe.generation for known, recipe in RECIPES.items()}
    return _named(name, ways | {"reference": REFERENCE})


def _named(name: str, known: Mapping[str, _Each]) -> _Each:
    if name not in known:
        raise UsageError(f"recipe {name!r}: unknown; there are: {', '.join(known)}")
    return known[name]
