"""Removes what crashes leave behind: files that nothing names, and that nobody is writing."""

from storage.catalog.files import orphans
from storage.catalog.lake import Lake
from storage.objects import FoundObject


def collect(lake: Lake, *, min_age_s: float, delete: bool = False) -> list[FoundObject]:
    """The files that nothing names and that are older than `min_age_s`; deletes them if asked.

    A younger one may belong to a stage that is running. One that is swept all the same costs only
    time: its shard is found damaged at the commit, stays pending and is labelled again.
    """
    if min_age_s < 0:
        raise ValueError(f"min_age_s: must not be negative, but got {min_age_s}")
    with lake.lock():
        found = [orphan for orphan in orphans(lake) if orphan.age_s >= min_age_s]
        if delete:
            for orphan in found:
                lake.objects.remove(orphan.uri)
    return found
