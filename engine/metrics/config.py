"""How a model is measured."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which images and masks are measured, and how many clicks a mask gets.

    max_images and max_masks_per_image are drawn by `seed`, the same ones for every model; masks
    under `min_area` pixels are not clicked on. Automatic masks, which take longer, are made of the
    first max_generated_images of those images. A mask that never reaches an IoU counts as
    `max_clicks` clicks. The seed also places the random clicks and draws the resamples of the
    intervals.
    """

    max_images: int = 64
    max_generated_images: int = 64
    max_masks_per_image: int = 6
    max_clicks: int = 10
    min_area: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (
            ("max_images", 1),
            ("max_generated_images", 1),
            ("max_masks_per_image", 1),
            ("max_clicks", 9),
            ("min_area", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name}: must be at least {low}, but got {getattr(self, name)}")
