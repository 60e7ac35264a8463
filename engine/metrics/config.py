"""How a model is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which images and masks are measured, and how clicks are counted.

    max_images and max_masks_per_image are drawn by `seed`, the same ones for every model; masks
    under `min_area` pixels are not clicked on. A mask is done at IoU `noc_target`; one that is not
    after `max_clicks` counts as that many.
    """

    max_images: int = 64
    max_masks_per_image: int = 6
    noc_target: float = 0.85
    max_clicks: int = 10
    min_area: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (
            ("max_images", 1),
            ("max_masks_per_image", 1),
            ("max_clicks", 5),
            ("min_area", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: must be at least {low}, but got {getattr(self, name)}")
        if not 0 < self.noc_target <= 1:
            raise ValueError(f"noc_target: must be in (0, 1], but got {self.noc_target}")
