"""docs/data_model.md has exactly the tables, columns and types that the store has."""

import re
from pathlib import Path

import pytest

from storage.catalog.lake import Lake
from storage.catalog.sqlgate import run_user_sql
from storage.catalog.views import VIEWS

PAGE = (Path(__file__).parents[3] / "docs" / "data_model.md").read_text(encoding="utf-8")
COLUMN = re.compile(r"^\| `(\w+)` \| (.+?)(, null)? \| ", re.MULTILINE)
TABLE = re.compile(r"^### (\w+)\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
EXAMPLES = re.findall(r"^```sql\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)


def documented() -> dict[str, list[tuple[str, str, bool]]]:
    return {
        name: [(column, kind, bool(null)) for column, kind, null in COLUMN.findall(text)]
        for name, text in TABLE.findall(PAGE)
    }


def test_every_table_and_column_is_documented(lake: Lake) -> None:
    stored: dict[str, list[tuple[str, str, bool]]] = {}
    for row in lake.rows(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() "
        f"WHERE database_name = 'lake' AND table_name NOT IN {tuple(VIEWS)} "
        "ORDER BY table_name, column_index"
    ):
        column = (row["column_name"], row["data_type"], row["is_nullable"])
        stored.setdefault(row["table_name"], []).append(column)
    assert documented() == stored


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_columns_that_are_documented(lake: Lake, name: str) -> None:
    stored = tuple(lake.arrow(f"SELECT * FROM {name}").column_names)
    assert stored == VIEWS[name].columns
    section = re.search(rf"^## The view {name}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    if name != "current_masks":
        assert tuple(re.findall(r"^\| `(\w+)` \|", section[1], re.MULTILINE)) == stored


@pytest.mark.parametrize("sql", EXAMPLES, ids=lambda sql: " ".join(sql.split())[:40])
def test_an_example_runs(lake: Lake, sql: str) -> None:
    assert run_user_sql(lake, sql).num_columns > 0


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
