"""Removes what crashes, expiry and compaction leave behind: files that nothing names any more."""

from collections.abc import Sequence
from dataclasses import replace

from storage.catalog.files import (
    METADATA,
    lake_files,
    named_by_rows,
    objects_there,
    scheduled,
)
from storage.catalog.lake import Lake
from storage.errors import TerminalStorageError
from storage.objects import FoundObject

# More than this share of all bytes, unexplained, is rather a fault of the listing than garbage.
MAX_SHARE = 0.05


class TooMuchGarbage(TerminalStorageError):  # noqa: N818 -- named for what happened
    """So much would be removed that somebody must have looked at the list."""


def collect(
    lake: Lake, *, min_age_s: float, delete: bool = False, max_share: float = 1.0
) -> list[FoundObject]:
    """The files that nothing names and that are older than `min_age_s`; deletes them if asked.

    A younger one may belong to a stage that is running. One that is swept all the same costs only
    time: its shard is found damaged at the commit, stays pending and is labelled again. A file that
    expiry or compaction has freed is as old as that, for somebody may still be reading it. Raises
    TooMuchGarbage when what nobody has freed is more than `max_share` of all bytes.
    """
    if min_age_s < 0:
        raise ValueError(f"min_age_s: must not be negative, but got {min_age_s}")
    with lake.lock():
        freed = scheduled(lake)
        there = objects_there(lake)
        named = lake_files(lake) | named_by_rows(lake)
        found = [
            replace(each, age_s=min(each.age_s, freed.get(each.uri, each.age_s)))
            for each in sorted(there, key=lambda each: each.uri)
            if each.uri not in named
        ]
        found = [each for each in found if each.age_s >= min_age_s]
        if delete:
            _check_share([each for each in found if each.uri not in freed], there, max_share)
            remove(lake, found)
    return found


def remove(lake: Lake, found: Sequence[FoundObject]) -> None:
    """Remove files that nothing names, and strike them off DuckLake's list; under the lock."""
    for each in found:
        lake.objects.remove(each.uri)
    gone = {each.uri for each in found} & scheduled(lake).keys()
    for uri in sorted(gone):
        # Straight in DuckLake's own table: its own sweep would take all that is on the list.
        lake.rows(
            f"DELETE FROM {METADATA}.ducklake_files_scheduled_for_deletion "
            "WHERE path_is_relative AND path = ?",
            (uri.partition("/")[2],),
        )


def _check_share(
    orphans: Sequence[FoundObject], there: Sequence[FoundObject], max_share: float
) -> None:
    num_bytes, total = sum(each.bytes for each in orphans), sum(each.bytes for each in there)
    if num_bytes > max_share * total:
        raise TooMuchGarbage(
            f"{num_bytes} of the store's {total} bytes would be deleted, more than "
            f"{max_share:.0%}; look at the list first, then add --yes"
        )
