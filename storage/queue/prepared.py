"""Statements of every request: compiled once, then run by the database's driver itself.

SQLAlchemy takes ten times as long to bind a statement and to wrap its rows as SQLite to run it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A statement as one kind of database reads it.

    `fixed` are the values that it was built with; `places` is None where the driver knows names.
    """

    text: str
    fixed: Mapping[str, Any]
    places: Sequence[str] | None

    def fill(self, values: Mapping[str, Any]) -> Mapping[str, Any] | Sequence[Any]:
        named = {**self.fixed, **values}
        return named if self.places is None else [named[place] for place in self.places]


class Prepared:
    """A statement of SQLAlchemy's with named parameters; one object serves every database.

    Of an INSERT or an UPDATE without values, `columns` are the parameters.
    """

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._forms: dict[str, _Form] = {}

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows that it gives, none where it gives no rows; raises what `execute` would."""
        dialect = connection.dialect
        form = self._forms.get(dialect.name) or self._formed(dialect)
        driver: Any = connection.connection.driver_connection
        try:
            cursor = driver.execute(form.text, form.fill(values))
            return cursor.fetchall() if cursor.description else []
        except dialect.loaded_dbapi.Error as error:
            lost = dialect.is_disconnect(error, driver, None)
            if lost:
                connection.invalidate(error)
            # The parameters stay out of it: they hold people's work.
            raise DBAPIError.instance(
                form.text,
                None,
                error,
                dialect.loaded_dbapi.Error,
                connection_invalidated=lost,
                dialect=dialect,
            ) from error

    def first(self, connection: Connection, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The first of its rows, None where there is none."""
        return next(iter(self.rows(connection, values)), None)

    def _formed(self, dialect: Dialect) -> _Form:
        compiled: Any = self._statement.compile(dialect=dialect, column_keys=self._columns)
        binds = compiled.bind_names.items()
        form = _Form(
            text=str(compiled),
            fixed={name: bind.effective_value for bind, name in binds if not bind.required},
            places=compiled.positiontup if compiled.positional else None,
        )
        self._forms[dialect.name] = form
        return form
