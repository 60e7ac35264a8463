"""What cards are made of and where they lie, whatever model they are of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from engine.model.integrity import WeightsError, check_sha256, sha256_of

Part = TypeVar("Part")


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Something the weights were trained on. Raises ValueError without a name or a license."""

    name: str
    license: str
    num_images: int | None = None
    description: str = ""

    def __post_init__(self) -> None:
        check_texts(self, "name", "license")
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
        check_texts(self, "data", "metric")
        bounds = [bound for bound in (self.low, self.value, self.high) if bound is not None]
        if not all(math.isfinite(bound) for bound in bounds) or bounds != sorted(bounds):
            raise ValueError(
                f"{self.metric}: must be finite and low <= value <= high, "
                f"but got {self.low}, {self.value}, {self.high}"
            )


def made(kind: type[Part], values: Any) -> Part:
    """A `kind` of `values`, with nothing more and nothing of another type."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__}: must be an object, but got {values!r}")
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type] # only dataclasses come
    if unknown := sorted(set(values) - names):
        raise ValueError(f"{kind.__name__}: has no {', '.join(unknown)}")
    return kind(**values)


def check_texts(record: Any, *names: str) -> None:
    """Raises ValueError unless each of those fields is a text that says something."""
    for name in names:
        value = getattr(record, name)
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name}: must be a text, but got {value!r}")


def card_path(weights: Path) -> Path:
    """Beside `NAME.safetensors`: `NAME.json`."""
    return weights.with_suffix(".json")


def write_beside(weights: Path, text: str, sha256: str) -> Path:
    """Put a card's `text` beside `weights`, whole or not at all; raises WeightsError for others."""
    check_sha256(sha256_of(weights), sha256, str(weights), "its card must be of this file")
    target = card_path(weights)
    fresh = target.with_name(f"{target.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(target)
    return target


def read_beside(weights: Path) -> str:
    """The text of the card beside `weights`; raises WeightsError without one."""
    path = card_path(weights)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: no card to read ({error}); every model has one") from error


def check_card(weights: Path, sha256: str) -> None:
    """Raises WeightsError unless a card with that SHA-256 is of `weights`."""
    remedy = "restore the file that its card is of"
    check_sha256(sha256_of(weights), sha256, str(weights), remedy)
