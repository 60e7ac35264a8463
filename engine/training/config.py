"""What a training does; the defaults are what a small model learns best from on a CPU."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Steps, batch, prompts, loss and optimiser. Raises ValueError for what makes no sense.

    `scratch` is for random weights: a stronger mask loss at first, and one round of prompts without
    background points until `scratch_steps` have passed.
    """

    steps: int = 120
    batch_images: int = 4
    masks_per_image: int = 8
    background_per_image: int = 2
    min_area: int = 48
    size_bias: float = 0.0
    box_fraction: float = 0.25
    box_jitter: float = 0.1
    extra_rounds: tuple[int, ...] = (1, 2, 4, 7)
    extra_rounds_p: tuple[float, ...] = (0.5, 0.25, 0.15, 0.1)
    late_masks_per_image: int = 3
    crop_scale: tuple[float, float] = (0.8, 2.0)
    mask_loss_weight: float = 1.5
    dice_weight: float = 1.0
    iou_loss_weight: float = 1.0
    scratch_steps: int = 0
    scratch_mask_loss_weight: float = 5.0
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warmup_steps: int = 40
    final_fraction: float = 0.02
    clip_norm: float = 1.0
    ema: float = 0.995
    checkpoint_every: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_images",
            "masks_per_image",
            "late_masks_per_image",
            "min_area",
            "checkpoint_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, but got {getattr(self, name)}")
        for name in ("background_per_image", "warmup_steps", "scratch_steps", "size_bias"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be at least 0, but got {getattr(self, name)}")
        for name in ("box_fraction", "final_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in [0, 1], but got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: must be in [0, 1), but got {self.ema}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate: must be positive, but got {self.learning_rate}")
        if len(self.extra_rounds) != len(self.extra_rounds_p) or not self.extra_rounds:
            raise ValueError("extra_rounds: must have one probability each in extra_rounds_p")
        if abs(sum(self.extra_rounds_p) - 1) > 1e-6:
            raise ValueError(
                f"extra_rounds_p: must add up to 1, but got {sum(self.extra_rounds_p)}"
            )
        low, high = self.crop_scale
        if not 0 < low <= high:
            raise ValueError(f"crop_scale: must be 0 < low <= high, but got {self.crop_scale}")
