"""What an answer's body says in numbers, kept beside it so that counting never reads bodies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How many proposals were accepted, edited, rejected, how many masks added, at what cost."""

    num_accepted: int = 0
    num_edited: int = 0
    num_rejected: int = 0
    num_added: int = 0
    num_clicks: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """The numbers of a body; what it does not say, or says in another form, counts nothing.

        The queue takes any JSON; what an answer must be, its server has checked.
        """
        decisions, added = _objects(body, "decisions"), _objects(body, "added")
        actions = [decision.get("action") for decision in decisions]
        return cls(
            num_accepted=actions.count("accepted"),
            num_edited=actions.count("edited"),
            num_rejected=actions.count("rejected"),
            num_added=len(added),
            num_clicks=sum(len(_objects(part, "clicks")) for part in (*decisions, *added)),
            seconds=_seconds(body.get("seconds")),
        )


def _objects(value: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = value.get(name)
    if not isinstance(found, list | tuple):
        return []
    return [item for item in found if isinstance(item, Mapping)]


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) and number >= 0 else 0.0
