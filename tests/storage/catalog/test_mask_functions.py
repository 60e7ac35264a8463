"""Functions on masks in SQL: whole columns, behind the gate and in a notebook."""

import io
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image

from engine import mask_functions, outlines, rle
from engine.geometry import Mask
from storage.catalog import notebook, sqlgate
from storage.catalog.lake import Lake
from storage.catalog.sqlgate import SqlError, SqlLimits, run_user_sql
from storage.catalog.user_query import UserQuery
from storage.errors import NotFoundError

HW = (20, 30)
HUGE = 40_000


def shapes() -> list[Mask]:
    """A ring, a bar across it, everything, nothing."""
    ring = np.zeros(HW, dtype=bool)
    ring[3:9, 4:20] = True
    ring[5, 6] = False
    bar = np.zeros(HW, dtype=bool)
    bar[7, :] = True
    return [ring, bar, np.ones(HW, dtype=bool), np.zeros(HW, dtype=bool)]


@pytest.fixture
def filled(lake: Lake, make: Any, put: Callable[..., int]) -> Lake:
    """The shapes as masks, and each as a candidate and a click without one beside it."""
    rows = [make.image("a")]
    for number, mask in enumerate(shapes()):
        code = rle.encode_one(mask)
        segmentation = {"size": list(code.size), "counts": code.counts}
        rows.append(
            make.mask(
                f"m{number}", "a", segmentation=segmentation, source_annotation_id=f"m{number}"
            )
        )
    put(*rows)
    return lake


Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["gate", "notebook"])
def ask(request: pytest.FixtureRequest, filled: Lake) -> Iterator[Ask]:
    """Answers SQL, in either of the two ways."""
    if request.param == "gate":
        yield lambda sql: [
            tuple(row.values())
            for row in run_user_sql(filled, sql, functions=mask_functions).to_pylist()
        ]
        return
    with notebook.connect(filled.root, functions=mask_functions) as opened:
        yield lambda sql: opened.execute(sql).fetchall()


def test_areas_boxes_rings_and_pictures(ask: Ask) -> None:
    rows = ask(
        "SELECT mask_area(segmentation), mask_bbox(segmentation), mask_polygon(segmentation), "
        "mask_png(segmentation) FROM masks ORDER BY source_annotation_id"
    )
    for (area, bbox, polygon, png), mask in zip(rows, shapes(), strict=True):
        code = rle.encode_one(mask)
        x0, y0, x1, y1 = rle.box(code)
        assert (area, bbox) == (mask.sum(), [x0, y0, x1 - x0, y1 - y0])
        assert polygon == outlines.rings(mask)
        with Image.open(io.BytesIO(png)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), mask)


def test_overlaps_of_all_pairs(ask: Ask) -> None:
    rows = ask(
        "SELECT mask_iou(a.segmentation, b.segmentation) FROM masks a, masks b "
        "ORDER BY a.source_annotation_id, b.source_annotation_id"
    )
    codes = rle.encode(shapes())
    assert [row[0] for row in rows] == rle.iou_matrix(codes, codes).ravel().tolist()


def test_more_pairs_than_come_at_once(ask: Ask) -> None:
    assert ask(
        "SELECT count(*), sum(mask_iou(a.segmentation, b.segmentation))::BIGINT "
        "FROM masks a, masks b, range(500) WHERE a.mask_id = b.mask_id"
    ) == [(2000, 1500)]


def test_nothing_gives_nothing(ask: Ask) -> None:
    assert ask(
        "SELECT n, mask_area(s), mask_bbox(s), mask_polygon(s), mask_png(s), mask_iou(s, s) "
        "FROM (SELECT n, CASE WHEN n = 1 THEN segmentation END AS s FROM masks, range(2) t(n) "
        "WHERE source_annotation_id = 'm3') ORDER BY n"
    ) == [
        (0, None, None, None, None, None),
        (1, 0, [0.0, 0.0, 0.0, 0.0], [], outlines.png(shapes()[3]), 0.0),
    ]
    assert ask("SELECT mask_area(NULL)") == [(None,)]
    assert ask("SELECT mask_area(segmentation) FROM masks WHERE false") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("mask_area({'size': [2, 2], 'counts': '05'})", "mask_area: counts: must add up to 4"),
        ("mask_bbox({'size': [2, 2], 'counts': ''})", "mask_bbox: counts: must be a whole code"),
        ("mask_png({'size': [2, 2], 'counts': NULL})", "mask_png: segmentation: must have"),
        ("mask_area({'size': [4], 'counts': '04'})", r"mask_area: size: must be \[height, width\]"),
        ("mask_area({'size': [2, NULL], 'counts': '04'})", "mask_area: segmentation: must have"),
        ("mask_polygon({'size': [2, 2], 'counts': 'é'})", "mask_polygon: counts: must be COCO's"),
        (
            "mask_iou({'size': [2, 2], 'counts': '04'}, {'size': [4, 1], 'counts': '04'})",
            r"mask_iou: size: must be the same for both masks, but got \[2, 2\] and \[4, 1\]",
        ),
    ],
)
def test_what_is_no_mask_is_an_error_that_names_the_function(
    ask: Ask, call: str, message: str
) -> None:
    with pytest.raises((SqlError, duckdb.InvalidInputException), match=message):
        ask(f"SELECT {call}")


def test_the_gate_shows_the_reason_alone(filled: Lake) -> None:
    with pytest.raises(SqlError) as caught:
        run_user_sql(
            filled, "SELECT mask_area({'size': [2, 2], 'counts': '05'})", functions=mask_functions
        )
    expected = "mask_area: counts: must add up to 4 pixels (2 x 2), but got 5"
    assert str(caught.value) == expected


def test_the_same_letters_in_two_sizes_are_two_masks(ask: Ask) -> None:
    assert ask(
        "SELECT mask_iou(s, s) FROM (SELECT {'size': [h, 16 // h], 'counts': '1?'}"
        '::STRUCT("size" INTEGER[], counts VARCHAR) AS s FROM (VALUES (2), (4), (2)) t(h))'
    ) == [(1.0,), (1.0,), (1.0,)]


def test_a_large_picture_is_stopped_and_not_the_machine(filled: Lake) -> None:
    groups = [(HUGE**2 >> 5 * place) & 31 for place in range(7)]
    counts = "".join(
        chr(48 + group + (32 if place < 6 else 0)) for place, group in enumerate(groups)
    )
    sql = f"SELECT mask_png({{'size': [{HUGE}, {HUGE}], 'counts': '{counts}'}})"
    with pytest.raises(SqlError, match=r"(?i)memory|allocate"):
        run_user_sql(
            filled, sql, SqlLimits(memory_bytes=256 << 20, cpu_s=20), functions=mask_functions
        )


# The second wall holds as well where functions of ours were imported.
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT mask_area(s), content FROM read_text('{root}/secret.txt')",
        "COPY (SELECT mask_area(NULL)) TO '{root}/stolen.csv'",
        "ATTACH '{root}/catalog.sqlite' AS c (TYPE sqlite)",
        "SET enable_external_access = true",
        "LOAD sqlite_scanner",
        "SELECT * FROM sys",
        "SELECT * FROM mask_functions",
    ],
)
def test_the_worker_holds_with_functions(filled: Lake, sql: str) -> None:
    (filled.root / "secret.txt").write_text("canary")
    before = {path for path in filled.root.rglob("*") if path.suffix not in (".sqlite-shm",)}
    query = UserQuery(sql=sql.format(root=filled.root), relations=(), on_masks=True)
    with pytest.raises(SqlError):
        list(sqlgate._ask(query, {}, SqlLimits(), mask_functions))
    assert {path for path in filled.root.rglob("*") if path.suffix != ".sqlite-shm"} == before


def test_without_functions_there_are_none(filled: Lake) -> None:
    with pytest.raises(SqlError, match="mask_area does not exist"):
        run_user_sql(filled, "SELECT mask_area(segmentation) FROM masks")


def test_a_module_of_the_same_name_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("json.decoder")
    other.__file__ = mask_functions.__file__
    monkeypatch.setitem(sys.modules, "json.decoder", other)
    query = UserQuery(sql="SELECT 1", relations=(), on_masks=True)
    with pytest.raises(SqlError, match="others of these names are installed"):
        list(sqlgate._ask(query, {}, SqlLimits(), other))  # type: ignore[arg-type]


def test_a_notebook_reads_and_cannot_write(filled: Lake) -> None:
    with notebook.connect(filled.root) as opened:
        assert opened.execute("SELECT count(*) FROM current_masks").fetchall() == [(4,)]
        for sql in ("DELETE FROM masks", "DROP TABLE masks", "CREATE TABLE t AS SELECT 1 AS x"):
            with pytest.raises(duckdb.Error, match=r"(?i)read.only"):
                opened.execute(sql)
    assert filled.rows("SELECT count(*) AS n FROM masks") == [{"n": 4}]


def test_a_notebook_sees_what_is_committed_later(
    filled: Lake, make: Any, put: Callable[..., int]
) -> None:
    with notebook.connect(filled.root) as opened:
        put(make.image("b"))
        assert opened.execute("SELECT count(*) FROM images").fetchall() == [(2,)]
        assert opened.execute("SELECT count(*) FROM masks AT (VERSION => 1)").fetchall() == [(0,)]


def test_a_notebook_needs_a_store(tmp_path: Any) -> None:
    with pytest.raises(NotFoundError, match="maskloop init"):
        notebook.connect(tmp_path)
