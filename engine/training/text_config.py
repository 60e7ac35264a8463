"""What a training of text prompts does."""

from collections.abc import Callable
from dataclasses import dataclass

_Rule = Callable[[float], bool]
_RANGES: tuple[tuple[str, _Rule, tuple[str, ...]], ...] = (
    (
        "at least 1",
        lambda value: value >= 1,
        ("steps", "batch_images", "present_per_image", "checkpoint_every"),
    ),
    (
        "at least 0",
        lambda value: value >= 0,
        (
            "map_steps",
            "absent_per_image",
            "drawn_per_image",
            "warmup_steps",
            "weight_decay",
            "map_weight",
            "mask_loss_weight",
            "dice_weight",
            "ambiguous_weight",
            "iou_loss_weight",
            "presence_weight",
        ),
    ),
    ("positive", lambda value: value > 0, ("learning_rate", "decoder_scale", "clip_norm")),
    (
        "in [0, 1]",
        lambda value: 0 <= value <= 1,
        ("text_share", "clicked_share", "corrected_share", "final_fraction", "ema"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class TextTrainingConfig:
    """Prompts, losses and optimiser of a training of `TextPrompted`. Raises ValueError.

    A step takes `batch_images` images. Each is asked for `present_per_image` things and
    `absent_per_image` that are not there; of those, `drawn_per_image` of the present and half as
    many of the absent go to the decoder, from step `map_steps` on. `text_share` of the prompts are
    embeddings of texts, where the source has them; the others are of crops. `clicked_share` of what
    is drawn comes with a click in the thing; `corrected_share` of the steps have one more round
    with a click where the answer was wrong.

    `presence_weight` is that of presence, of the map's peak and of the decoder's answer.

    AdamW; `learning_rate` with a linear warm-up, then half a cosine down to `final_fraction`; the
    decoder, which has learnt before, at `decoder_scale` times it.
    """

    steps: int = 3000
    map_steps: int = 1000
    batch_images: int = 8
    present_per_image: int = 8
    absent_per_image: int = 4
    drawn_per_image: int = 4
    text_share: float = 0.5
    clicked_share: float = 0.3
    corrected_share: float = 0.4
    map_weight: float = 1.0
    mask_loss_weight: float = 1.5
    dice_weight: float = 1.0
    ambiguous_weight: float = 0.3
    iou_loss_weight: float = 1.0
    presence_weight: float = 0.5
    learning_rate: float = 1e-3
    decoder_scale: float = 0.3
    warmup_steps: int = 100
    final_fraction: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema: float = 0.995
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for words, holds, names in _RANGES:
            for name in names:
                if not holds(value := getattr(self, name)):
                    raise ValueError(f"{name}: must be {words}, but got {value}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: must be in [0, 1), but got {self.betas}")
