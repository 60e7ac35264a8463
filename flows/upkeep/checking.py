"""`maskloop fsck`: the invariants of lake, queue and weights in one list."""

from engine import rle
from engine.rle import Rle
from flows.workspace import Workspace
from storage.catalog import fsck as lake_fsck
from storage.catalog import repair as lake_repair
from storage.catalog.fsck import Breach
from storage.catalog.repair import Repair
from storage.queue import check as queue_check


class RleInspector:
    """Looks inside masks for storage, which does not know how."""

    def box_and_area(self, size: tuple[int, int], counts: str) -> tuple[list[float], int]:
        """XYWH box and area of a mask; raises ValueError for a broken one."""
        mask = Rle(size, counts)
        rle.validate(mask, size)
        x0, y0, x1, y1 = (float(value) for value in rle.box(mask))
        return [x0, y0, x1 - x0, y1 - y0], rle.area(mask)


def fsck(workspace: Workspace, *, quick: bool = False) -> list[Breach]:
    """Every breach of an invariant; empty when the store is sound.

    A `quick` look takes no SHA-256 of files.
    """
    breaches = lake_fsck.check(
        workspace.lake,
        current=workspace.pointer.current,
        submissions=lambda: workspace.queue.submissions_after(0, limit=None),
        inspect=RleInspector(),
        quick=quick,
    )
    of_queue = queue_check.check(workspace.queue.database)
    return [*breaches, *(Breach(b.invariant, b.where, b.message) for b in of_queue)]


def repair(workspace: Workspace) -> list[Repair]:
    """Set right what can be, and say what was done; `fsck` tells what is left."""
    return lake_repair.repair(
        workspace.lake, current=workspace.pointer.current(), inspect=RleInspector()
    )
