"""What rows of every table share."""

import hashlib
import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, TypedDict


class Segmentation(TypedDict):
    """A COCO run-length code: `size` is (height, width), `counts` the compressed runs."""

    size: list[int]
    counts: str


def utcnow() -> datetime:
    """Now, in UTC, without a zone, as the lake keeps times."""
    return datetime.now(UTC).replace(tzinfo=None)


def mask_id(*parts: str) -> str:
    """32 hex digits that name a mask by what it is; different parts give different names."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table `table`."""

    table: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Column -> value, in the order of the columns."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
