"""How a detector learns and what it gives."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Training and use of a one-class detector. Raises ValueError for what makes no sense.

    Training: `steps` of `batch_images` crops at a `crop_scale` relative to "longest side is the
    frame"; objects of which under `min_seen` of the box's area is in the crop are left out. AdamW
    at `learning_rate`, half a cosine down after `warmup_steps`; gradients clipped at `clip_norm`;
    `ema` of the weights is what is kept.

    Use: boxes scored over `min_score`, at most `max_boxes`, of which no two have an IoU over
    `nms_thresh`.
    """

    steps: int = 200
    batch_images: int = 4
    crop_scale: tuple[float, float] = (0.7, 1.8)
    min_seen: float = 0.4
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    weight_decay: float = 0.05
    clip_norm: float = 5.0
    ema: float = 0.98
    min_score: float = 0.25
    nms_thresh: float = 0.6
    max_boxes: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_images", "max_boxes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, but got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be positive, but got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: must be 0 or more, but got {getattr(self, name)}")
        for name in ("min_seen", "min_score", "nms_thresh"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in [0, 1], but got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: must be in [0, 1), but got {self.ema}")
        low, high = self.crop_scale
        if not 0 < low <= high:
            raise ValueError(f"crop_scale: must be 0 < low <= high, but got {self.crop_scale}")
