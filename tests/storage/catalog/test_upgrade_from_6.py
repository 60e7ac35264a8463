"""A store of version 6, whose retractions were all of answers, keeps them and gets the rest."""

from typing import Any

from storage.catalog.lake import Lake, Transaction
from storage.catalog.views import VIEWS
from storage.rows import RetractionRow, mask_id

OF_VERSION_6 = (
    *(f"DROP VIEW {name}" for name in VIEWS),
    "CREATE VIEW current_masks AS FROM masks",
    "DROP TABLE exports",
    "DROP TABLE mask_vectors",
    "DROP TABLE mask_labels",
    "CREATE TABLE mask_labels (mask_id VARCHAR NOT NULL, category VARCHAR NOT NULL, "
    "score DOUBLE NOT NULL, classes_hash VARCHAR, accepted_by VARCHAR, "
    "created_at TIMESTAMP NOT NULL)",
    "ALTER TABLE training_sets DROP COLUMN mask_ids",
    "ALTER TABLE images DROP COLUMN num_labels_refused",
    "DROP TABLE retractions",
    "CREATE TABLE retractions (mask_id VARCHAR NOT NULL, submission_id VARCHAR NOT NULL, "
    "run_id VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL)",
    "UPDATE schema_versions SET version = 6",
)


def test_what_was_there_stays_and_masks_can_be_revoked(lake: Lake, put: Any, make: Any) -> None:
    def age(tx: Transaction) -> None:
        for statement in OF_VERSION_6:
            tx.execute(statement)
        tx.execute("INSERT INTO training_sets VALUES ('v1', '1', 2)")
        tx.execute("INSERT INTO retractions VALUES (?, 's', 'r', ?)", (mask_id("a"), make.now))

    put(make.mask("a", "1"), make.mask("b", "1"))
    lake.commit(age, message="as an earlier maskloop left it")
    before = lake.snapshot()
    for _ in range(2):
        again = Lake.open(lake.root)
        assert again.snapshot() == before + 1
        assert again.rows("SELECT mask_id FROM current_masks") == [{"mask_id": mask_id("b")}]
        assert again.rows("SELECT * FROM training_sets") == [
            {"version": "v1", "image_id": "1", "num_masks": 2, "mask_ids": None}
        ]
        for name in VIEWS:
            again.rows(f"SELECT * FROM {name}")
    revoked = RetractionRow(
        mask_id=mask_id("b"), run_id="r", created_at=make.now, cause="run r", snapshot=before
    )
    again.commit(lambda tx: tx.insert([revoked]), message="revoked")
    assert again.rows("SELECT mask_id FROM current_masks") == []
    # As it was: an earlier snapshot has the views of its day.
    assert len(again.rows("SELECT mask_id FROM current_masks", snapshot=before)) == 2
