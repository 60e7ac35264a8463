"""A user's SQL answers questions about the store, and can do nothing else."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import sqlgate, user_query
from storage.catalog.lake import Lake
from storage.catalog.sqlgate import SqlError, SqlLimits, SqlRefused, run_user_sql
from storage.catalog.user_query import UserQuery
from storage.errors import NotFoundError


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """One store for all questions: snapshot 2 has one mask, snapshot 3 two."""
    folder = tmp_path_factory.mktemp("stocked")
    lake = Lake.create(folder)
    (folder / "secret.txt").write_text("canary")
    yield lake
    lake.close()


@pytest.fixture
def store(stocked: Lake, make: Any) -> Lake:
    if stocked.snapshot() == 1:
        for rows in (
            [make.image("a"), make.model("v1"), make.mask("one", "a", area=7)],
            [make.mask("two", "a", "manual", area=8), make.image_set("k", "a", 0)],
        ):
            stocked.commit(lambda tx, rows=rows: tx.insert(rows), message="test")
    return stocked


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT stage, count(*) AS n FROM masks GROUP BY 1 ORDER BY 1",
            [{"stage": "label", "n": 1}, {"stage": "manual", "n": 1}],
        ),
        ("SELECT count(*) AS n FROM current_masks;", [{"n": 2}]),
        ("select sum(area) as n from MASKS where Stage = 'label'", [{"n": 7}]),
        ("SELECT count(*) AS n FROM masks AT (VERSION => 2)", [{"n": 1}]),
        (
            "SELECT count(m.mask_id) AS then, count(*) AS now "
            "FROM masks b LEFT JOIN masks m AT (VERSION => 2) USING (mask_id)",
            [{"then": 1, "now": 2}],
        ),
        ("SELECT current_masks.area FROM current_masks AT (VERSION => 2)", [{"area": 7}]),
        ("SELECT m.segmentation.size AS hw FROM masks m LIMIT 1", [{"hw": [20, 30]}]),
        ("SELECT rejections['duplicate'] AS n FROM image_sets", [{"n": 1}]),
        ("SELECT area FROM masks NATURAL JOIN images ORDER BY 1 LIMIT 1", [{"area": 7}]),
        ("SELECT m.area FROM (SELECT m FROM masks m) ORDER BY 1 LIMIT 1", [{"area": 7}]),
        ("SELECT count(h) AS n FROM images AS i(a, b, h)", [{"n": 1}]),
        ("WITH masks AS (SELECT 1 AS x) SELECT x FROM masks", [{"x": 1}]),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 4) "
            "SELECT sum(i) AS n FROM r",
            [{"n": 10}],
        ),
        ("SELECT i FROM range(2) t(i)", [{"i": 0}, {"i": 1}]),
        ("SELECT unnest(bbox) AS v FROM masks LIMIT 1", [{"v": 1.0}]),
        ("FROM runs", []),
        ("VALUES (1)", [{"col0": 1}]),
        (
            "SELECT added_at FROM images",
            [{"added_at": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)}],
        ),
        ("SELECT area FROM masks UNION ALL SELECT height FROM images ORDER BY 1 LIMIT 1", None),
        ("SELECT * FROM (PIVOT masks ON stage IN ('label') USING count(*))", None),
        ("SELECT (SELECT max(area) FROM masks WHERE image_id = i.image_id) FROM images i", None),
    ],
)
def test_it_answers(store: Lake, sql: str, expected: list[dict[str, Any]] | None) -> None:
    answer = run_user_sql(store, sql).to_pylist()
    assert answer if expected is None else answer == expected


def test_all_columns_of_a_table_can_be_asked_for(store: Lake) -> None:
    found = run_user_sql(store, "SELECT * FROM masks ORDER BY area").to_pylist()
    assert found == store.rows("SELECT * FROM masks ORDER BY area")


# What each would do if it could: read a file, write one, reach the catalog, change a setting.
REFUSED = [
    "",
    "-- nothing",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE masks",
    "DROP TABLE masks",
    "DELETE FROM masks",
    "UPDATE masks SET area = 0",
    "INSERT INTO masks SELECT * FROM masks",
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW masks AS SELECT 1",
    "ALTER TABLE masks DROP COLUMN area",
    "COPY masks TO '{root}/stolen.csv'",
    "COPY (SELECT 1) TO '{root}/stolen.csv' (use_tmp_file false)",
    "EXPORT DATABASE '{root}/stolen'",
    "IMPORT DATABASE '{root}'",
    "ATTACH '{root}/catalog.sqlite' AS c (TYPE sqlite)",
    "USE memory; ATTACH 'ducklake:sqlite:{root}/catalog.sqlite' AS l; DELETE FROM l.masks",
    "DETACH lake",
    "USE lake",
    "INSTALL httpfs",
    "LOAD '{root}/x.duckdb_extension'",
    "PRAGMA database_list",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "CALL ducklake_cleanup_old_files('lake', cleanup_all => true)",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DESCRIBE masks",
    "SHOW ALL TABLES",
    "SUMMARIZE masks",
    "CREATE SECRET (TYPE s3)",
    "CREATE MACRO m() AS 1",
    "SELECT * FROM '{root}/secret.txt'",
    "SELECT * FROM '{root}/lake/main/masks/*.parquet'",
    'SELECT * FROM "{root}/secret.txt"',
    "SELECT * FROM read_text('{root}/secret.txt')",
    "SELECT * FROM read_blob('{root}/*')",
    "SELECT * FROM read_csv('{root}/secret.txt')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_json('{root}/secret.txt')",
    "SELECT * FROM read_parquet('{root}/lake/**')",
    "SELECT * FROM parquet_metadata('{root}/x.parquet')",
    "SELECT * FROM sniff_csv('{root}/secret.txt')",
    "SELECT * FROM glob('{root}/*')",
    "SELECT * FROM sqlite_scan('{root}/catalog.sqlite', 'ducklake_table')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('masks')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM lake.main.masks",
    "SELECT * FROM main.masks",
    "SELECT * FROM __ducklake_metadata_lake.ducklake_data_file",
    "SELECT * FROM ducklake_snapshots('lake')",
    "SELECT * FROM seq_scan('masks')",
    "SELECT (SELECT content FROM read_text('{root}/secret.txt'))",
    "WITH t AS (SELECT * FROM read_text('{root}/secret.txt')) SELECT * FROM t",
    "SELECT 1 WHERE EXISTS (SELECT * FROM read_text('{root}/secret.txt'))",
    "SELECT 1 UNION ALL SELECT count(*) FROM glob('{root}/*')",
    "SELECT 1 FROM masks, LATERAL (SELECT * FROM read_text(masks.image_id))",
    "SELECT * FROM (PIVOT '{root}/secret.txt' ON x IN ('a') USING count(*))",
    "SELECT getenv('HOME')",
    "SELECT current_setting('temp_directory')",
    "SELECT write_log('x')",
    "SELECT * FROM masks AT (TIMESTAMP => now())",
    "SELECT * FROM masks AT (VERSION => (SELECT 1))",
    "SELECT * FROM masks AT (VERSION => '2')",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_everything_else_is_refused(store: Lake, sql: str) -> None:
    before = files(store.root)
    with pytest.raises((SqlRefused, SqlError)):
        run_user_sql(store, sql.format(root=store.root))
    assert files(store.root) == before


def files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {
        str(path): path.read_bytes() for path in paths if path.name[-4:] not in ("-shm", "-wal")
    }


# The second wall must hold by itself: these go to the worker without being looked at.
UNSEEN = [
    "COPY (SELECT 1) TO '{root}/stolen.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "SELECT content FROM read_text('{root}/secret.txt')",
    "SELECT * FROM '{root}/secret.txt'",
    "SELECT * FROM glob('{root}/*')",
    "ATTACH '{root}/catalog.sqlite' AS c (TYPE sqlite)",
    "ATTACH '{root}/new.duckdb' AS c",
    "ATTACH 'ducklake:sqlite:{root}/catalog.sqlite' AS l",
    "LOAD sqlite_scanner",
    "INSTALL httpfs",
    "SET enable_external_access = true",
    "SET temp_directory = '{root}'",
    "EXPORT DATABASE '{root}/stolen'",
    "SELECT * FROM sys",
]


@pytest.mark.parametrize("sql", UNSEEN)
def test_the_worker_holds_without_the_check_of_the_text(store: Lake, sql: str) -> None:
    before = files(store.root)
    query = UserQuery(sql=sql.format(root=store.root), relations=())
    with pytest.raises(SqlError):
        list(sqlgate._ask(query, {}, SqlLimits()))
    assert files(store.root) == before


def test_the_worker_knows_no_environment(store: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    monkeypatch.setenv("PYTHONPATH", str(store.root))
    (store.root / "json.py").write_text("raise SystemExit('imported')")
    assert run_user_sql(store, "SELECT 1 AS one").to_pylist() == [{"one": 1}]


@pytest.mark.parametrize(
    ("sql", "limits", "message"),
    [
        ("SELECT * FROM range(20)", {"max_rows": 10}, "more than 10 rows"),
        ("SELECT repeat('x', 9999) FROM range(9)", {"max_bytes": 10_000}, "or 10000 bytes"),
        ("SELECT count(*) FROM range(10000000000000)", {"cpu_s": 1}, "too much time or memory"),
        ("SELECT count(*) FROM range(10000000000000)", {"wall_s": 1.0}, "no answer within 1 s"),
        ("SELECT length(repeat('a', 2000000000))", {}, "(?i)out of memory"),
        (
            "SELECT count(*) FROM (SELECT DISTINCT a.range + b.range * 7919 "
            "FROM range(100000) a, range(1000) b)",
            {"memory_bytes": 64 << 20},
            "(?i)memory",
        ),
    ],
)
def test_what_takes_too_much_is_stopped(
    store: Lake, sql: str, limits: dict[str, Any], message: str
) -> None:
    with pytest.raises(SqlError, match=message):
        run_user_sql(store, sql, SqlLimits(**limits))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "Parser Error: syntax error"),
        ("SELECT stge FROM masks", 'Candidate bindings: .*"stage"'),
        ("SELECT nope(area) FROM masks", "Scalar Function with name nope does not exist"),
        ("SELECT area FROM masks WHERE area = $1", "(?i)parameter"),
        ("SELECT " + "+".join(["1"] * 20_000), "expression depth"),
        ("SELECT CAST('x' AS INT)", "Conversion Error"),
    ],
)
def test_an_error_of_the_query_is_shown(store: Lake, sql: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        run_user_sql(store, sql)


def test_an_endless_query_is_refused(store: Lake) -> None:
    with pytest.raises(SqlRefused, match="at most 100000 characters"):
        run_user_sql(store, "SELECT " + "1," * 100_000 + "1")


def test_deep_nesting_never_takes_this_process_down(store: Lake) -> None:
    for depth in (100, 1_000, 10_000):
        deep = "SELECT 1 FROM " + "(SELECT 1 FROM " * depth + "masks" + ")" * depth
        try:
            run_user_sql(store, deep)
        except (SqlError, SqlRefused):
            continue


def test_a_snapshot_that_there_is_not_is_not_found(store: Lake) -> None:
    with pytest.raises(NotFoundError):
        run_user_sql(store, "SELECT * FROM masks AT (VERSION => 99)")


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT stage, count(*) FROM masks GROUP BY 1", {"stage"}),
        ("SELECT count(*) FROM masks", {"mask_id"}),
        ("SELECT m.AREA FROM masks m JOIN images USING (image_id)", {"area", "image_id"}),
    ],
)
def test_only_the_columns_that_a_query_names_are_copied(sql: str, columns: set[str]) -> None:
    relation = next(item for item in user_query.parse(sql).relations if item.table == "masks")
    assert set(relation.columns) == columns
