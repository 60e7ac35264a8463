"""Whatever a string holds, it comes back: run-length codes are full of backslashes."""

from pathlib import Path

import pytest

from storage.catalog.lake import Lake
from storage.rows import ClickRow, ImageSetRow, utcnow

STRINGS = [
    "\\f59d26K3N3M2N",
    "\\",
    "\\\\",
    "a\\b",
    "a'b",
    'a"b',
    "{a: 1}",
    "[a, b]",
    " both ends ",
    "NULL",
    "",
    "\u00e9\n\t\x01",
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.create(tmp_path)


def click(number: int, text: str) -> ClickRow:
    return ClickRow(
        mask_id=str(number),
        submission_id=text,
        image_id=text,
        ordinal=number,
        x=0.0,
        y=0.0,
        label=1,
        segmentation={"size": [2, 3], "counts": text},
        annotator=text,
    )


@pytest.mark.parametrize("together", [True, False], ids=["one insert", "an insert each"])
def test_strings_survive_in_columns_and_in_structs(lake: Lake, together: bool) -> None:
    rows = [click(number, text) for number, text in enumerate(STRINGS)]
    for batch in [rows] if together else [[row] for row in rows]:
        lake.commit(lambda tx, batch=batch: tx.insert(batch), message="strings")
    lake.close()
    found = lake.rows("SELECT annotator, segmentation FROM clicks ORDER BY ordinal")
    assert [row["annotator"] for row in found] == STRINGS
    assert [row["segmentation"]["counts"] for row in found] == STRINGS


def test_strings_survive_as_keys_of_a_map(lake: Lake) -> None:
    row = ImageSetRow(
        image_id="i",
        model_version="v1",
        config_hash="c",
        run_id="r",
        shard_key="s",
        num_proposed=3,
        num_masks=0,
        rejections={"\\": 1, "a'b": 2},
        created_at=utcnow(),
    )
    lake.commit(lambda tx: tx.insert([row]), message="set")
    assert dict(lake.rows("SELECT rejections FROM image_sets")[0]["rejections"]) == row.rejections
