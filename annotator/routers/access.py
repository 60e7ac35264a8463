"""Who may see which item: one place for all that shows something of one."""

from fastapi import Depends, Request

from annotator.problems import unknown
from annotator.routers.items import ItemId


def readable(item_id: str, caller: Request) -> bool:  # noqa: ARG001 (nobody signs in)
    """Whether who sends `caller` may see the item: everybody may, for nobody signs in."""
    return True


def _may_see(item_id: ItemId, request: Request) -> None:
    if not readable(item_id, request):
        # Not 403: it would tell that there is one.
        raise unknown(f"item {item_id}: no such item")


MAY_SEE = Depends(_may_see)
"""For every route below `/api/items/{item_id}` that shows something of the item."""
