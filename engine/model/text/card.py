"""The card of an add-on for texts: to what, by which CLIP, and how good it is."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

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

_FORMAT = "maskloop text prompts card 1"


@dataclass(frozen=True, kw_only=True)
class TextCard:
    """What a file of an add-on's weights is.

    encoder_id: of the image encoder that it reads; clip_fingerprint, clip_dim: of the CLIP whose
    vectors it knows. `made_by` is the command that makes it again. Raises ValueError.
    """

    encoder_id: str
    clip_fingerprint: str
    clip_dim: int
    sha256: str
    trained_on: tuple[TrainingData, ...]
    scores: tuple[Score, ...] = ()
    description: str = ""
    made_by: str = ""

    def __post_init__(self) -> None:
        check_texts(self, "encoder_id", "clip_fingerprint", "sha256")
        normal_sha256(self.sha256, "sha256")

    def to_json(self) -> str:
        """Readable JSON; the same card gives the same text."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "card") -> Self:
        """The inverse of `to_json`; raises WeightsError that names `where`."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
                raise ValueError(f"its format must be {_FORMAT!r}")
            values["trained_on"] = tuple(made(TrainingData, v) for v in values["trained_on"])
            values["scores"] = tuple(made(Score, v) for v in values.get("scores", ()))
            return made(cls, values)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(
                f"{where}: not a card of text prompts ({error}); write it anew"
            ) from error


def write_text_card(weights: Path, card: TextCard) -> Path:
    """Put `card` beside `weights`, whole or not at all; raises WeightsError for other weights."""
    return write_beside(weights, card.to_json(), card.sha256)


def read_text_card(weights: Path) -> TextCard:
    """The card beside `weights`; raises WeightsError without one, or where it is of another."""
    card = TextCard.from_json(read_beside(weights), where=str(card_path(weights)))
    check_card(weights, card.sha256)
    return card
