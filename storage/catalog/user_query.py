"""What a user's SQL asks for, read from DuckDB's own syntax tree: one SELECT over our tables.

Anything else is refused here, before it runs anywhere. That is the first wall; the second is that
it runs in a process that has nothing but copies of the rows (`sql_worker`).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from storage.catalog import mask_functions
from storage.catalog.schema import TABLES, columns_of
from storage.catalog.views import VIEWS
from storage.errors import TerminalStorageError
from storage.rows import ROWS

MAX_SQL = 100_000
RELATIONS = frozenset({*TABLES, *VIEWS})
_COLUMNS = {row.table: tuple(columns_of(row)) for row in ROWS} | {
    name: view.columns for name, view in VIEWS.items()
}
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
_FORBIDDEN_FUNCTIONS = frozenset({"current_setting", "getenv", "getvariable", "write_log"})
# These may need any column, whichever names the text spells out.
_WHOLE_ROW = frozenset({"STAR", "POSITIONAL_REFERENCE"})


class SqlRefused(TerminalStorageError):  # noqa: N818 -- named for what happened
    """Not one SELECT over the tables of the store."""


class SqlError(TerminalStorageError):
    """DuckDB could not answer: a wrong column, too many rows, too slow."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A table or view that the query reads, as `name` in its text; `columns` are those it needs."""

    table: str
    snapshot: int | None
    name: str
    columns: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class UserQuery:
    """SQL that may run, and the relations that must be there when it does.

    `on_masks`: whether it calls one of `mask_functions.NAMES`.
    """

    sql: str
    relations: Sequence[Relation]
    on_masks: bool = False

    @property
    def is_pruned(self) -> bool:
        """Whether any column was left out."""
        return any(len(item.columns) < len(_COLUMNS[item.table]) for item in self.relations)


def parse(sql: str) -> UserQuery:
    """Read a query; raises SqlRefused with what is not allowed, SqlError for wrong syntax."""
    if len(sql) > MAX_SQL:
        raise SqlRefused(f"a query of at most {MAX_SQL} characters, but it has {len(sql)}")
    with duckdb.connect() as connection:
        try:
            tree = _tree(connection, sql)
            nodes = list(_nodes(tree))
            _check(nodes)
            return _query(connection, sql, tree, nodes)
        except duckdb.Error as error:
            raise SqlError(str(error)) from error
        except RecursionError as error:
            raise SqlRefused("the query is nested too deeply") from error


def all_columns(table: str) -> Sequence[str]:
    """The columns of a table or view, in their order."""
    return _COLUMNS[table]


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if kinds != [duckdb.StatementType.SELECT]:
        found = ", ".join(kind.name for kind in kinds) or "none"
        raise SqlRefused(f"only one SELECT is allowed, but got: {found}")
    answer = connection.execute("SELECT json_serialize_sql(CAST(? AS VARCHAR))", [sql]).fetchone()
    assert answer is not None, "a scalar function gives one row"
    tree = json.loads(answer[0])
    if tree["error"]:
        raise SqlRefused(f"only a plain SELECT is allowed: {tree['error_message']}")
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in the tree. A loop, because a user decides how deep the tree is."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _check(nodes: Sequence[dict[str, Any]]) -> None:
    ctes = _cte_names(nodes)
    for node in nodes:
        match node.get("type"):
            case "BASE_TABLE":
                _check_table(node, ctes)
            case "TABLE_FUNCTION":
                _check_table_function(node["function"])
            case "SHOW_REF":
                raise SqlRefused("only SELECT is allowed; docs/data_model.md shows the tables")
        function = str(node.get("function_name", "")).lower()
        if function in _FORBIDDEN_FUNCTIONS:
            raise SqlRefused(f"function {function} is not allowed")


def _cte_names(nodes: Sequence[dict[str, Any]]) -> set[str]:
    maps = (node["cte_map"]["map"] for node in nodes if isinstance(node.get("cte_map"), dict))
    return {entry["key"].lower() for entries in maps for entry in entries}


def _check_table(node: dict[str, Any], ctes: set[str]) -> None:
    name = node["table_name"].lower()
    if node["catalog_name"] or node["schema_name"]:
        raise SqlRefused(f"name tables without catalog and schema: {name}")
    if name not in RELATIONS | ctes:
        raise SqlRefused(f"no table {name!r}; there are: {', '.join(sorted(RELATIONS))}")


def _check_table_function(function: dict[str, Any]) -> None:
    name = str(function.get("function_name", "")).lower()
    if name not in _TABLE_FUNCTIONS:
        raise SqlRefused(
            f"table function {name!r} is not allowed; "
            f"allowed: {', '.join(sorted(_TABLE_FUNCTIONS))}"
        )


def _query(
    connection: duckdb.DuckDBPyConnection, sql: str, tree: Any, nodes: Sequence[dict[str, Any]]
) -> UserQuery:
    tables = [node for node in nodes if node.get("type") == "BASE_TABLE"]
    tables = [node for node in tables if node["table_name"].lower() in RELATIONS]
    words = None if _needs_whole_rows(nodes, tables) else _words(nodes)
    travels = any(node["at_clause"] for node in tables)
    relations = {item.name: item for item in (_relation(node, words) for node in tables)}
    if travels:
        # The copies know no time travel: each version of a table becomes a table of its own.
        sql = _written(connection, tree)
    called = {str(node.get("function_name", "")).lower() for node in nodes}
    on_masks = not called.isdisjoint(mask_functions.NAMES)
    return UserQuery(sql=sql, relations=tuple(relations.values()), on_masks=on_masks)


def _needs_whole_rows(nodes: Sequence[dict[str, Any]], tables: Sequence[dict[str, Any]]) -> bool:
    # `SELECT m FROM masks m` means the row itself.
    rows = {node["alias"].lower() or node["table_name"].lower() for node in tables}
    return any(
        node.get("class") in _WHOLE_ROW
        or node.get("ref_type") == "NATURAL"
        or bool(node.get("column_name_alias"))
        or (node.get("type") == "COLUMN_REF" and node["column_names"][-1].lower() in rows)
        for node in nodes
    )


def _words(nodes: Sequence[dict[str, Any]]) -> set[str]:
    """Every string of the tree: a column whose name is not among them is not used."""
    words: set[str] = set()
    for node in nodes:
        for value in node.values():
            texts = value if isinstance(value, list) else [value]
            words.update(text.lower() for text in texts if isinstance(text, str))
    return words


def _relation(node: dict[str, Any], words: set[str] | None) -> Relation:
    table = node["table_name"].lower()
    columns = _COLUMNS[table]
    if words is not None:
        # At least one, to count the rows by.
        columns = tuple(name for name in columns if name in words) or columns[:1]
    if node["at_clause"] is None:
        return Relation(table=table, snapshot=None, name=table, columns=columns)
    snapshot = _version(node["at_clause"])
    name = f"{table}@{snapshot}"
    node |= {"alias": node["alias"] or table, "table_name": name, "at_clause": None}
    return Relation(table=table, snapshot=snapshot, name=name, columns=columns)


def _version(clause: dict[str, Any]) -> int:
    value = clause["expr"].get("value", {})
    number = value.get("value") if isinstance(value, dict) else None
    if clause["unit"].upper() != "VERSION" or not isinstance(number, int):
        raise SqlRefused("AT: write AT (VERSION => number of a snapshot)")
    return number


def _written(connection: duckdb.DuckDBPyConnection, tree: Any) -> str:
    answer = connection.execute(
        "SELECT json_deserialize_sql(CAST(? AS JSON))", [json.dumps(tree)]
    ).fetchone()
    assert answer is not None, "a scalar function gives one row"
    return str(answer[0])
