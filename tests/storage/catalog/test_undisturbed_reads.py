"""On SQLite, DuckDB reads the catalog as of several moments: a disturbed read is done again."""

from typing import Any

import pytest

from storage.catalog import lake as lake_module
from storage.catalog.lake import Lake

pytestmark = pytest.mark.places("folder")


class Disturbed:
    """Another process commits while rows are fetched, the first `times`."""

    def __init__(self, lake: Lake, make: Any, times: int) -> None:
        self._other = Lake(lake.place)
        self._make = make
        self._times = times
        self.looks = 0
        self._committing = False
        self._dicts = lake_module._dicts

    def __call__(self, cursor: Any) -> Any:
        if not self._committing:
            self.looks += 1
        if not self._committing and self.looks <= self._times:
            self._committing = True
            row = self._make.run(f"other {self.looks}")
            self._other.commit(lambda tx: tx.insert([row]), message="meanwhile")
            self._committing = False
        return self._dicts(cursor)


@pytest.mark.parametrize(("times", "looks"), [(0, 1), (1, 2), (3, 4), (5, 6)])
def test_a_read_beside_a_commit_is_done_again(
    lake: Lake, make: Any, monkeypatch: pytest.MonkeyPatch, times: int, looks: int
) -> None:
    lake.rows("SELECT 1")
    disturbed = Disturbed(lake, make, times)
    monkeypatch.setattr(lake_module, "_dicts", disturbed)
    found = lake.rows("SELECT count(*) AS n FROM runs")
    assert found == [{"n": times}], "the last look saw all of them"
    assert disturbed.looks == looks
