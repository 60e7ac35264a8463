"""The card of a CLIP: a JSON file beside its weights that says what they are and how good."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from engine.clip.config import ClipConfig
from engine.model.card_fields import (
    Score,
    TrainingData,
    card_path,
    check_card,
    check_texts,
    made,
    read_beside,
    write_beside,
)
from engine.model.integrity import WeightsError, normal_sha256

_FORMAT = "maskloop CLIP card 1"


@dataclass(frozen=True, kw_only=True)
class ClipCard:
    """What a file of weights is: its architecture and tokens, SHA-256, training, scores.

    `made_by` is the command that makes it again. Raises ValueError.
    """

    config: ClipConfig
    sha256: str
    trained_on: tuple[TrainingData, ...]
    scores: tuple[Score, ...] = ()
    description: str = ""
    made_by: str = ""

    def __post_init__(self) -> None:
        check_texts(self, "sha256")
        normal_sha256(self.sha256, "sha256")

    def to_json(self) -> str:
        """Readable JSON; the same card gives the same text."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "card") -> Self:
        """The inverse of `to_json`; raises WeightsError that names `where`."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
                raise ValueError(f"its format must be {_FORMAT!r}")
            values["config"] = config_from(values["config"])
            values["trained_on"] = tuple(made(TrainingData, v) for v in values["trained_on"])
            values["scores"] = tuple(made(Score, v) for v in values.get("scores", ()))
            return made(cls, values)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{where}: not a CLIP's card ({error}); write it anew") from error


def config_from(values: dict[str, object]) -> ClipConfig:
    """Out of JSON, which has no tuples; raises ValueError or TypeError for what is no config."""
    tokens = values.get("tokens", ())
    if not isinstance(tokens, (list, tuple)):
        raise ValueError(f"tokens: must be a list, but got {tokens!r}")
    return made(ClipConfig, {**values, "tokens": tuple(tokens)})


def write_card(weights: Path, card: ClipCard) -> Path:
    """Put `card` beside `weights`, whole or not at all; raises WeightsError for other weights."""
    return write_beside(weights, card.to_json(), card.sha256)


def read_card(weights: Path) -> ClipCard:
    """The card beside `weights`; raises WeightsError without one, or where it is of another."""
    card = ClipCard.from_json(read_beside(weights), where=str(card_path(weights)))
    check_card(weights, card.sha256)
    return card
