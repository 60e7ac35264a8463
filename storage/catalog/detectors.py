"""Detectors, each named by its caller for what it was made of: the same one is there once."""

from collections.abc import Callable, Sequence

from storage.catalog.lake import Lake, Transaction
from storage.rows import DetectorRow, TrainingSetRow


def get(lake: Lake, version: str) -> DetectorRow | None:
    """One detector, or None."""
    rows = lake.rows("SELECT * FROM detectors WHERE version = ?", (version,))
    return DetectorRow(**rows[0]) if rows else None


def register(
    lake: Lake,
    row: DetectorRow,
    sets: Sequence[TrainingSetRow],
    check: Callable[[Transaction, str], object],
) -> None:
    """Add a detector and what it was trained on, unless `check` raises.

    Does nothing where its version is there, made by another process.
    """

    def body(tx: Transaction) -> None:
        if not tx.rows("SELECT 1 FROM detectors WHERE version = ?", (row.version,)):
            tx.insert([row, *sets])
            check(tx, row.version)

    lake.commit(body, message=f"detector {row.version}")
