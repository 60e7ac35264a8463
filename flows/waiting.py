"""What waits: images for people, answers for the store, items for proposals of a newer model.

Loads no model and nothing that could: it is asked every few seconds.
"""

from collections.abc import Mapping, Sequence

from flows.workspace import Workspace
from storage.catalog import models
from storage.queue.items import ItemHead
from storage.queue.schema import KINDS

Row = Mapping[str, object]

WATERMARK = "submissions"
# What the model in service proposes.
PROPOSED = ("assist", "gold", "second")
# Where it answers the clicks. An audit is about the masks of the model that it names.
SERVED = (*PROPOSED, "dispute")


def refs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(uri, image id) of rows of images."""
    return [(str(row["uri"]), str(row["image_id"])) for row in rows]


def watermark(workspace: Workspace) -> int:
    """The `seq` of the last submission that was merged."""
    rows = workspace.lake.rows("SELECT seq FROM watermarks WHERE name = ?", (WATERMARK,))
    return int(rows[0]["seq"]) if rows else 0


def unmerged_images(workspace: Workspace) -> set[str]:
    """Images that people have answered, but the store does not know yet."""
    new = workspace.queue.submissions_after(watermark(workspace), limit=None)
    return {submission.item.image_id for submission in new}


def free_and_known(workspace: Workspace) -> tuple[list[Row], list[Row]]:
    """Images that people may be asked about, and those that have labels or wait for people."""
    rows = workspace.lake.rows(
        "SELECT image_id, uri, file_name, split FROM images WHERE split <> 'gold' ORDER BY image_id"
    )
    waiting = workspace.queue.open_images() | unmerged_images(workspace)
    serving = workspace.pointer.current()
    refused = workspace.queue.asked_images(serving[0]) if serving else set()
    known: list[Row] = []
    free: list[Row] = []
    for row in rows:
        if row["split"] == "train" or row["image_id"] in waiting:
            known.append(row)
        elif row["image_id"] not in refused:
            free.append(row)
    return free, known


def outdated(workspace: Workspace) -> list[ItemHead]:
    """Ready items of another model than the one in service, and all of one that was revoked."""
    serving = workspace.pointer.current()
    if serving is None:
        return []
    current = serving[0]
    queue = workspace.queue
    heads = [item for item in queue.ready_items(KINDS) if item.model_version != current]
    if not heads:
        return []
    gone = models.revoked(workspace.lake)
    # Where the model in service was asked the same, its answer stands, or was skipped for good.
    asked = {kind: queue.asked_images(current, (kind,)) for kind in SERVED}
    return [
        item
        for item in heads
        if item.model_version in gone
        or (item.stage in SERVED and item.image_id not in asked[item.stage])
    ]
