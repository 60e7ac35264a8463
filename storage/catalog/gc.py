"""Removes what crashes leave behind: files that nothing names, and that nobody is writing."""

from storage.catalog.commit_lock import commit_lock
from storage.catalog.files import Orphan, orphans
from storage.catalog.lake import Lake
from storage.objects import FolderObjects


def collect(
    lake: Lake, objects: FolderObjects, *, min_age_s: float, delete: bool = False
) -> list[Orphan]:
    """The files that nothing names and that are older than `min_age_s`; deletes them if asked.

    A younger one may belong to a stage that is running. One that is swept all the same costs only
    time: its shard is found damaged at the commit, stays pending and is labelled again.
    """
    if min_age_s < 0:
        raise ValueError(f"min_age_s: must not be negative, but got {min_age_s}")
    with commit_lock(lake.root):
        found = [orphan for orphan in orphans(lake, objects) if orphan.age_s >= min_age_s]
        if delete:
            for orphan in found:
                objects.path(orphan.uri).unlink(missing_ok=True)
    return found
