"""The card of a model: a JSON file beside its weights that says what they are and how good."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from engine.model.integrity import WeightsError, check_sha256, normal_sha256, sha256_of
from engine.model.registry import ModelConfig

_FORMAT = "maskloop model card 1"
_Part = TypeVar("_Part")


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Something the weights were trained on. Raises ValueError without a name or a license."""

    name: str
    license: str
    num_images: int | None = None
    description: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "name", "license")
        if self.num_images is not None and self.num_images < 0:
            raise ValueError(f"num_images: must be at least 0, but got {self.num_images}")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A measured number, with its interval where there is one: low <= value <= high."""

    data: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check_texts(self, "data", "metric")
        bounds = [bound for bound in (self.low, self.value, self.high) if bound is not None]
        if not all(math.isfinite(bound) for bound in bounds) or bounds != sorted(bounds):
            raise ValueError(
                f"{self.metric}: must be finite and low <= value <= high, "
                f"but got {self.low}, {self.value}, {self.high}"
            )


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a file of weights is: its architecture, its SHA-256, its training, its scores.

    `made_by` is the command that makes it again. Raises ValueError.
    """

    config: ModelConfig
    sha256: str
    trained_on: tuple[TrainingData, ...]
    scores: tuple[Score, ...] = ()
    description: str = ""
    made_by: str = ""

    def __post_init__(self) -> None:
        _check_texts(self, "sha256")
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
            values["config"] = _made(ModelConfig, values["config"])
            values["trained_on"] = tuple(_made(TrainingData, v) for v in values["trained_on"])
            values["scores"] = tuple(_made(Score, v) for v in values.get("scores", ()))
            return _made(cls, values)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{where}: not a model card ({error}); write it anew") from error


def card_path(weights: Path) -> Path:
    """Beside `NAME.safetensors`: `NAME.json`."""
    return weights.with_suffix(".json")


def write_card(weights: Path, card: ModelCard) -> Path:
    """Put `card` beside `weights`, whole or not at all; raises WeightsError for other weights."""
    check_sha256(sha256_of(weights), card.sha256, str(weights), "its card must be of this file")
    target = card_path(weights)
    fresh = target.with_name(f"{target.name}.new")
    fresh.write_text(card.to_json(), encoding="utf-8")
    fresh.replace(target)
    return target


def read_card(weights: Path) -> ModelCard:
    """The card beside `weights`; raises WeightsError without one, or where it is of another."""
    path = card_path(weights)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: no card to read ({error}); every model has one") from error
    card = ModelCard.from_json(text, where=str(path))
    check_sha256(
        sha256_of(weights), card.sha256, str(weights), "restore the file that its card is of"
    )
    return card


def _made(kind: type[_Part], values: Any) -> _Part:
    """A `kind` of `values`, with nothing more and nothing of another type."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__}: must be an object, but got {values!r}")
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type] # only dataclasses come
    if unknown := sorted(set(values) - names):
        raise ValueError(f"{kind.__name__}: has no {', '.join(unknown)}")
    return kind(**values)


def _check_texts(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name}: must be a text, but got {value!r}")
