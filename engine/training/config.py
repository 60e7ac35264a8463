"""What a training does; the defaults are what a small model learns best from on a CPU."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

Focal = Literal["object", "pixels"]
SupervisedIou = Literal["all", "best"]
Corrections = Literal["mean", "sum"]
ScaleLaw = Literal["log", "uniform"]
Schedule = Literal["cosine", "steps"]
Part = Literal["image_encoder", "prompt_encoder", "masks"]

_CHOICES = {
    "focal_over": Focal,
    "supervised_iou": SupervisedIou,
    "corrections": Corrections,
    "crop_scale_law": ScaleLaw,
    "schedule": Schedule,
}
_Rule = Callable[[float], bool]
# What must hold of which settings; None, where it is allowed, always passes.
_RANGES: tuple[tuple[str, _Rule, tuple[str, ...]], ...] = (
    (
        "at least 1",
        lambda value: value >= 1,
        (
            "steps",
            "batch_images",
            "images_at_once",
            "masks_per_image",
            "late_masks_per_image",
            "min_area",
            "views",
            "checkpoint_every",
        ),
    ),
    (
        "at least 0",
        lambda value: value >= 0,
        (
            "close_images",
            "background_per_image",
            "warmup_steps",
            "scratch_steps",
            "kept_features_mb",
            "size_bias",
            "box_jitter",
            "box_jitter_sides",
            "box_jitter_pixels",
            "mean_share",
            "single_share",
        ),
    ),
    ("positive", lambda value: value > 0, ("learning_rate", "clip_norm")),
    ("in [0, 1]", lambda value: 0 <= value <= 1, ("box_fraction", "final_fraction", "focal_alpha")),
    (
        "in (0, 1]",
        lambda value: 0 < value <= 1,
        ("depth_weight", "max_cover", "step_factor", "layer_decay"),
    ),
    ("in [0, 1)", lambda value: 0 <= value < 1, ("ema", "drop_path")),
)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Steps, batch, prompts, loss and optimiser. Raises ValueError for what makes no sense.

    A batch is computed image by image and added up, so `batch_images` costs no memory; a GPU takes
    `images_at_once` together. A mask behind which there are n models makes its image come up
    `depth_weight` to the n times as often.

    Crops: `crop_scale` times "longest side is the frame", drawn log-uniform or uniform; masks of
    less than `min_area` frame pixels or of over `max_cover` of their image are left out; `augment`
    turns and recolours. `close_images` of the `batch_images` are seen as the model's closer look
    sees an object, in its smaller frame. With `views` each image has that many crops, which take
    turns; else a new one each time.

    `frozen` parts stay as they are; "masks" is all that makes them, so that only the estimates of
    their IoU learn. The features that a frozen image encoder makes of a view are kept, up to
    `kept_features_mb` of memory and as much on disk, so that a view that returns costs the decoder
    alone.

    Prompts: a box with probability `box_fraction`, else a point. A box's sides move by a normal
    number of `box_jitter` of its width or height, at most `box_jitter_sides` of them and
    `box_jitter_pixels` of the frame (None: no limit). Then one of `extra_rounds` clicks, drawn by
    `extra_rounds_p`; with `refine`, two more rounds without a click, one at a random place before
    the last click and one at the end. From the third correction on `late_masks_per_image` of an
    image's masks go on.

    Loss: focal loss over the area of the object or the mean of the pixels, positives weighted
    `focal_alpha` and negatives the rest (None: alike). An ambiguous prompt (a point, and a box if
    `box_is_ambiguous`) pays for the best of three masks, `mean_share` of their mean and
    `single_share` of the fourth. IoU estimates learn from all four masks of a first prompt, or from
    the one that pays. The rounds after the first count together as the first one does (their mean),
    or each as much (their sum).

    `scratch_steps` is for random weights: until then `scratch_mask_loss_weight` is that of the
    focal loss, and there are no corrections and no points on background.

    Learning rate: `warmup_steps` of linear warm-up, then half a cosine down to `final_fraction`, or
    times `step_factor` at each of `milestones` (fractions of `steps`). The encoder's layers learn
    `layer_decay` times as fast as the next deeper ones. Its residual branches are dropped with a
    probability that rises to `drop_path` at the deepest.
    """

    steps: int = 120
    batch_images: int = 4
    images_at_once: int = 1
    close_images: int = 0
    depth_weight: float = 0.5
    masks_per_image: int = 8
    background_per_image: int = 2
    min_area: int = 48
    max_cover: float = 1.0
    size_bias: float = 0.0
    crop_scale: tuple[float, float] = (0.8, 2.0)
    crop_scale_law: ScaleLaw = "log"
    augment: bool = True
    views: int | None = None
    frozen: tuple[Part, ...] = ()
    kept_features_mb: int = 2048
    box_fraction: float = 0.25
    box_jitter: float = 0.1
    box_jitter_sides: float | None = 0.2
    box_jitter_pixels: float | None = None
    extra_rounds: tuple[int, ...] = (1, 2, 4, 7)
    extra_rounds_p: tuple[float, ...] = (0.5, 0.25, 0.15, 0.1)
    refine: bool = False
    late_masks_per_image: int = 3
    mask_loss_weight: float = 1.5
    focal_over: Focal = "object"
    focal_alpha: float | None = None
    dice_weight: float = 1.0
    iou_loss_weight: float = 1.0
    box_is_ambiguous: bool = False
    mean_share: float = 0.05
    single_share: float = 0.15
    supervised_iou: SupervisedIou = "all"
    corrections: Corrections = "mean"
    scratch_steps: int = 0
    scratch_mask_loss_weight: float = 5.0
    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup_steps: int = 40
    final_fraction: float = 0.02
    milestones: tuple[float, ...] = ()
    step_factor: float = 0.1
    layer_decay: float = 1.0
    drop_path: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema: float = 0.995
    checkpoint_every: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                options = ", ".join(get_args(choices))
                raise ValueError(
                    f"{name}: must be one of {options}, but got {getattr(self, name)!r}"
                )
        for words, holds, names in _RANGES:
            for name in names:
                if (value := getattr(self, name)) is not None and not holds(value):
                    raise ValueError(f"{name}: must be {words}, but got {value}")
        self._check_rounds()
        self._check_frozen()
        if self.close_images > self.batch_images:
            raise ValueError(
                f"close_images: must be at most batch_images ({self.batch_images}), "
                f"but got {self.close_images}"
            )
        if self.close_images and self.views is not None:
            # A view's kept features would be those of either frame.
            raise ValueError(f"close_images: must be 0 with views, but got {self.close_images}")
        low, high = self.crop_scale
        if not 0 < low <= high:
            raise ValueError(f"crop_scale: must be 0 < low <= high, but got {self.crop_scale}")
        places = [0.0, *self.milestones, 1.0]
        if any(earlier >= later for earlier, later in pairwise(places)):
            raise ValueError(
                f"milestones: must rise and lie between 0 and 1, but got {self.milestones}"
            )

    def _check_frozen(self) -> None:
        if unknown := set(self.frozen) - set(get_args(Part)):
            options = ", ".join(get_args(Part))
            raise ValueError(f"frozen: must be some of {options}, but got {sorted(unknown)}")
        if self.freezes_encoder and self.drop_path:
            raise ValueError(
                f"drop_path: must be 0 with a frozen image encoder, but got {self.drop_path}"
            )

    @property
    def freezes_encoder(self) -> bool:
        """Whether the image encoder stays as it is."""
        return not {"image_encoder", "masks"}.isdisjoint(self.frozen)

    def _check_rounds(self) -> None:
        if len(self.extra_rounds) != len(self.extra_rounds_p) or not self.extra_rounds:
            raise ValueError("extra_rounds: must have one probability each in extra_rounds_p")
        if min(self.extra_rounds) < 0:
            raise ValueError(f"extra_rounds: must be at least 0 each, but got {self.extra_rounds}")
        if abs(sum(self.extra_rounds_p) - 1) > 1e-6:
            raise ValueError(
                f"extra_rounds_p: must add up to 1, but got {sum(self.extra_rounds_p)}"
            )
