"""A store of every earlier schema, made by the SQL of its day, becomes one of today, whole."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.catalog import connection, fsck, schema
from storage.catalog.lake import Lake, Transaction
from storage.catalog.place import Place

SCHEMAS = Path(__file__).with_name("schemas")
EARLIER = range(1, 10)
NOW = "TIMESTAMP '2026-01-02 03:04:05'"
# What every version had, in one row each; columns that came later are not named.
ROWS = (
    "INSERT INTO images (image_id, uri, height, width, split, source, group_id, file_name, "
    "format, mode, bit_depth, had_alpha, num_frames, dhash, run_id, added_at) VALUES ('a', "
    "'source:p/a.png', 20, 30, 'train', 'p', 'a', 'a.png', 'PNG', 'RGB', 8, false, 1, '0', 'run', "
    f"{NOW})",
    "INSERT INTO runs (run_id, stage, config, status, started_at) "
    f"VALUES ('run', 'import', '{{}}', 'done', {NOW})",
    "INSERT INTO masks (mask_id, image_id, stage, run_id, generation_depth, is_crowd, "
    "segmentation, bbox, area, created_at) VALUES ('m', 'a', 'label', 'run', 0, false, "
    f"{{'size': [20, 30], 'counts': '\\Q'}}, [1, 2, 3, 4], 12, {NOW})",
    "INSERT INTO mask_labels (mask_id, category, score, created_at) "
    f"VALUES ('m', 'cell', 1, {NOW})",
    "INSERT INTO image_sets (image_id, model_version, config_hash, run_id, shard_key, "
    "num_proposed, num_masks, rejections, created_at) "
    f"VALUES ('a', 'v1', 'c', 'run', 'k', 3, 0, MAP {{}}, {NOW})",
    "INSERT INTO shards (shard_key, run_id, model_version, config_hash, state, image_ids, "
    "num_images, num_masks, planned_at) VALUES "
    f"('k', 'run', 'v1', 'c', 'committed', ['a'], 1, 0, {NOW})",
    "INSERT INTO decisions (proposal_id, submission_id, image_id, model_version, action, mask_id, "
    "num_clicks, run_id) VALUES ('p', 's', 'a', 'v1', 'accepted', 'm', 0, 'run')",
)


class Inspector:
    """Knows the one mask."""

    def box_and_area(self, _: tuple[int, int], counts: str) -> tuple[list[float], int]:
        assert counts == "\\Q"
        return [1.0, 2.0, 3.0, 4.0], 12


def ddl(version: int) -> list[str]:
    text = (SCHEMAS / f"{version}.sql").read_text(encoding="utf-8")
    return [statement for statement in text.split(";\n") if statement.strip()]


@pytest.fixture(params=EARLIER, ids=lambda version: f"from-{version}")
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Lake]]:
    """(version, a store as it was then), not yet brought up to date."""
    version: int = request.param
    connection.initialise(Place.folder(tmp_path))
    lake = Lake(tmp_path)

    def make(tx: Transaction) -> None:
        for statement in (*ddl(version), *ROWS):
            tx.execute(statement)
        tx.execute(f"INSERT INTO schema_versions VALUES ({version}, {NOW})")

    lake.commit(make, message="as it was")
    yield version, lake
    lake.close()


def columns(lake: Lake) -> dict[str, dict[str, tuple[str, bool]]]:
    """Table -> column -> (type, may be null)."""
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for row in lake.rows(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() "
        "WHERE database_name = 'lake'"
    ):
        kind = (row["data_type"], row["is_nullable"])
        found.setdefault(row["table_name"], {})[row["column_name"]] = kind
    return found


def test_it_becomes_what_a_new_store_is(old: tuple[int, Lake], lake_of_today: Lake) -> None:
    version, lake = old
    before = lake.snapshot()
    mask = lake.rows("SELECT mask_id, segmentation, area FROM masks")
    lake.close()
    opened = Lake.open(lake.root)
    assert columns(opened) == columns(lake_of_today)
    is_new = version < schema.SCHEMA_VERSION
    assert opened.snapshot() == before + is_new, "one transaction, or none"
    assert opened.rows("SELECT mask_id, segmentation, area FROM masks") == mask
    assert opened.rows("SELECT mask_id FROM current_masks") == [{"mask_id": "m"}]
    assert opened.rows("SELECT mask_id FROM masks", snapshot=before) == [{"mask_id": "m"}]
    again = Lake.open(lake.root)
    assert again.snapshot() == opened.snapshot(), "there is nothing left to do"
    found = fsck.check(again, current=lambda: None, submissions=list, inspect=Inspector())
    # The rows name a model and an answer that are not here; nothing else is wrong.
    assert {breach.invariant for breach in found} == {"I2"}, found
    opened.close()
    again.close()


@pytest.fixture
def lake_of_today(empty_store: Path) -> Iterator[Lake]:
    lake = Lake.open(empty_store)
    yield lake
    lake.close()


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    old: tuple[int, Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, lake = old
    if version == schema.SCHEMA_VERSION:
        return
    before, tables = lake.snapshot(), columns(lake)
    lake.close()
    statements = schema.upgrade(version)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "upgrade", lambda _: [*statements, "SELECT error('power cut')"])
        with pytest.raises(Exception, match="power cut"):
            Lake.open(lake.root)
    assert lake.snapshot() == before
    assert columns(lake) == tables
    lake.close()
    Lake.open(lake.root).close()


def test_there_is_a_schema_of_every_version() -> None:
    kept = sorted(int(path.stem) for path in SCHEMAS.glob("*.sql"))
    assert kept == list(range(1, kept[-1] + 1))
    # The one of today is added when the next one comes.
    assert schema.SCHEMA_VERSION - kept[-1] in (0, 1)
    assert all(re.search(r"CREATE VIEW", "".join(ddl(version))) for version in kept)
