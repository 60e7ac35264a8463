"""Which CLIP, what it is shown of a mask, and what a training of it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from engine.precision import Precision

NANO = "nano-clip"

Tower = Literal["image", "text"]
View = Literal["tight", "context", "grey", "blur", "attention"]
_Rule = Callable[[float], bool]
_RANGES: tuple[tuple[str, _Rule, tuple[str, ...]], ...] = (
    ("at least 2", lambda value: value >= 2, ("batch_pairs",)),
    (
        "at least 1",
        lambda value: value >= 1,
        ("steps", "pairs_at_once", "checkpoint_every", "evaluate_every"),
    ),
    ("at least 0", lambda value: value >= 0, ("warmup_steps", "weight_decay")),
    ("positive", lambda value: value > 0, ("learning_rate", "clip_norm")),
    ("in [0, 1]", lambda value: 0 <= value <= 1, ("final_fraction",)),
)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Which architecture: `nano-clip`, or any name of open_clip's.

    tokens: of `nano-clip` alone, the ids in open_clip's vocabulary that it knows, rising; all
    others are one unknown token to it. Raises ValueError; names are checked where it is built.
    """

    architecture: str = NANO
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.architecture != NANO and self.tokens:
            raise ValueError(f"tokens: must be empty but for {NANO}, but got {len(self.tokens)}")
        if self.architecture == NANO and not self.tokens:
            raise ValueError(f"tokens: {NANO} must know at least one; take those of its texts")
        if list(self.tokens) != sorted(set(self.tokens)) or any(token < 0 for token in self.tokens):
            raise ValueError("tokens: must be ids of at least 0 that rise, each once")


@dataclass(frozen=True, kw_only=True)
class ClipTrainingConfig:
    """Steps, batch and optimiser of a training on pairs. Raises ValueError for what makes no sense.

    Each of a step's `batch_pairs` is told from all the others. They are embedded `pairs_at_once`
    a time, so that memory does not limit the batch; more than one time costs a second forward pass.
    Pairs of equal texts, or that say themselves that they are alike, are no negatives to each other
    with `spare_equal_texts`.

    The tower that is `locked` stays as it is (LiT; Zhai et al., 2022). AdamW; the learning rate has
    `warmup_steps` of linear warm-up, then half a cosine down to `final_fraction`.
    """

    steps: int = 1000
    batch_pairs: int = 256
    pairs_at_once: int = 256
    spare_equal_texts: bool = True
    locked: Tower | None = None
    precision: Precision = "float32"
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_fraction: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    evaluate_every: int = 100
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for words, holds, names in _RANGES:
            for name in names:
                if not holds(value := getattr(self, name)):
                    raise ValueError(f"{name}: must be {words}, but got {value}")
        if self.locked is not None and self.locked not in get_args(Tower):
            raise ValueError(f"locked: must be image, text or None, but got {self.locked!r}")
        if self.precision not in get_args(Precision):
            options = ", ".join(get_args(Precision))
            raise ValueError(f"precision: must be one of {options}, but got {self.precision!r}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: must be in [0, 1), but got {self.betas}")
