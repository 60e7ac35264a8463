"""A workspace's store in a notebook: `from flows.notebook import connect`."""

from pathlib import Path

from engine import mask_functions
from flows import settings
from storage.catalog import notebook
from storage.catalog.notebook import DuckDBPyConnection


def connect(root: Path | str | None = None) -> DuckDBPyConnection:
    """DuckDB, reading the store of the workspace at `root`, with all functions on masks.

    Without `root`, the workspace found by `MASKLOOP_HOME` or upward from here. Raises UsageError
    where there is none.
    """
    folder = settings.find_root() if root is None else Path(root)
    place = settings.read_settings(folder).store.place(folder)
    return notebook.connect(place, functions=mask_functions)
