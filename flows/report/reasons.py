"""What the gate said of a version, as a sentence and the table of numbers under it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """`table` is empty, or rows of equal length whose first is the header."""

    text: str
    table: Sequence[Sequence[str]] = ()


def parted(reason: str) -> Reason:
    """The first line is the sentence; lines below it in columns, two spaces apart, are a table.

    Whatever else has lines stays text.
    """
    sentence, *lines = reason.splitlines() or [""]
    table = [re.split(r" {2,}", line.strip()) for line in lines]
    if len({len(row) for row in table}) == 1 and len(table) > 1:
        return Reason(sentence, table)
    return Reason(reason)
