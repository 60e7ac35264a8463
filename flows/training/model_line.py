"""What must hold of every model that joins the line: nothing that measures or is revoked taught it.

Asked before a training, so that it costs nothing, and in the transaction that registers the model.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from flows.errors import StageError
from flows.training.labels import StoredLabels
from storage.catalog.lake import Transaction
from storage.rows import TrainingSetRow


class Rows(Protocol):
    """A store, or a transaction on it, that answers SQL."""

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of one SELECT."""


def training_sets(version: str, labels: StoredLabels) -> list[TrainingSetRow]:
    """The rows that say what a version is trained on, mask by mask."""
    return [
        TrainingSetRow(
            version=version,
            image_id=image.image_id,
            num_masks=len(image.masks),
            mask_ids=list(image.mask_ids),
        )
        for image in labels.images
    ]


def check_no_gold(store: Rows) -> None:
    """Raise StageError if any model has learnt from a gold image or a near-duplicate of one."""
    found = store.rows("SELECT * FROM gold_footprint ORDER BY version, image_id LIMIT 1")
    if found:
        [row] = found
        raise StageError(
            f"gold image {row['image_id']} has a footprint in the model line: "
            f"{row['version']} was trained on it ({row['trained_on']}), so its scores mean "
            "nothing; see all: maskloop sql 'SELECT * FROM gold_footprint'"
        )


def check_joins(tx: Transaction, version: str) -> None:
    """Raise StageError unless the version that `tx` registers may join the line.

    What was revoked while it was trained would teach it behind the back of the revocation, which
    has named all that descend from it.
    """
    check_no_gold(tx)
    [row] = tx.rows(
        """SELECT count(*) AS n
           FROM training_masks SEMI JOIN (FROM retractions WHERE cause IS NOT NULL) USING (mask_id)
           WHERE version = ?""",
        (version,),
    )
    if row["n"]:
        raise StageError(
            f"{version}: {row['n']} of the masks that it learnt from were revoked meanwhile; it is "
            "not kept, and the model in service is unchanged: train again"
        )
