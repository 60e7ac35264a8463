"""Who may see which item: one place for all that shows something of one."""

from fastapi import Depends, Request

from annotator.access import Access, CallerNow
from annotator.routers.items import ItemId


def access_of(request: Request) -> Access:
    """The app's own."""
    access = request.app.state.access
    assert isinstance(access, Access), "create_app puts it there"
    return access


def _may_see(item_id: ItemId, request: Request, caller: CallerNow) -> None:
    access_of(request).check_item(caller, item_id)


MAY_SEE = Depends(_may_see)
"""For every route below `/api/items/{item_id}` that shows something of the item."""
