"""Model versions: named `v1`, `v2`, ... in the order in which they were registered."""

from collections.abc import Callable, Sequence

from storage.catalog.lake import Lake, Transaction
from storage.errors import NotFoundError
from storage.rows import ModelVersionRow, Row

STATUSES = ("candidate", "promoted", "rejected", "retired")
# A revocation puts this before what else is said of a model.
REVOKED = "revoked: "


def get(lake: Lake, version: str) -> ModelVersionRow | None:
    """One version, or None."""
    rows = lake.rows("SELECT * FROM model_versions WHERE version = ?", (version,))
    return ModelVersionRow(**rows[0]) if rows else None


def all_versions(lake: Lake) -> list[ModelVersionRow]:
    """All versions, oldest first."""
    rows = lake.rows("SELECT * FROM model_versions ORDER BY length(version), version")
    return [ModelVersionRow(**row) for row in rows]


def revoked(lake: Lake) -> set[str]:
    """The versions that a revocation took back, also where one of them serves still."""
    rows = lake.rows("SELECT version FROM model_versions WHERE starts_with(reason, ?)", (REVOKED,))
    return {row["version"] for row in rows}


def register(
    lake: Lake,
    row: Callable[[str], ModelVersionRow],
    sets: Sequence[Row] | Callable[[str], Sequence[Row]],
    extra: Callable[[Transaction, str], object] | None = None,
) -> str:
    """Add the model `row(version)` under the next free version, and return that.

    `sets` are the rows that say what it was trained on, or make them from the version; `extra` does
    what else belongs into the same transaction. All of them may be called again after a conflict.
    """

    def body(tx: Transaction) -> str:
        known = tx.rows("SELECT max(CAST(version[2:] AS BIGINT)) AS last FROM model_versions")
        version = f"v{(known[0]['last'] or 0) + 1}"
        tx.insert([row(version)])
        tx.insert(sets(version) if callable(sets) else sets)
        if extra is not None:
            extra(tx, version)
        return version

    return lake.commit(body, message="register a model version")


def set_status(lake: Lake, version: str, status: str, reason: str | None = None) -> None:
    """Change a version's status, and its reason if one is given; raises NotFoundError."""
    if status not in STATUSES:
        raise ValueError(f"status: must be one of {', '.join(STATUSES)}, but got {status!r}")

    def body(tx: Transaction) -> None:
        changed = tx.execute(
            "UPDATE model_versions SET status = ?, reason = coalesce(?, reason) WHERE version = ?",
            (status, reason, version),
        )
        if not changed:
            raise NotFoundError(f"model version {version!r}: unknown")

    lake.commit(body, message=f"{version} is {status}")
