"""The store in a notebook: a connection of DuckDB's own to read with, as fast as DuckDB is."""

from pathlib import Path

from duckdb import DuckDBPyConnection as DuckDBPyConnection

from storage.catalog import connection, mask_functions
from storage.catalog.lake import Lake
from storage.catalog.mask_functions import MaskFunctions
from storage.catalog.place import Place


def connect(place: Place | Path, *, functions: MaskFunctions | None = None) -> DuckDBPyConnection:
    """A connection that reads the tables and views of the store at `place`.

    With `functions`, SQL on it knows `mask_functions.NAMES`. Each statement sees the snapshot that
    is the newest when it runs; `BEGIN` holds on to one. It cannot write rows, which guards against
    slips: nothing stops whoever has the connection from reading other files. For SQL of strangers
    there is `sqlgate`. Raises NotFoundError where there is no store, NewerStoreError for one that
    this code does not know.
    """
    lake = Lake.open(place)
    opened = connection.connect(lake.place, read_only=True)
    opened.execute("USE lake")
    if functions is not None:
        mask_functions.register(opened, functions)
    return opened
