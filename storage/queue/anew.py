"""Asking about an image once more, although the same was asked and answered before."""

from sqlalchemy import Connection, exists, update

from storage.queue.documents import to_text
from storage.queue.items import NewItem, enqueue, keep_payloads
from storage.queue.schema import annotations, items


def ask_anew(connection: Connection, new: NewItem, since: int) -> bool:
    """Enqueue an item; if it is there and done, make it ready again with this payload.

    Not if it has an answer with a `seq` over `since`, which knew already why one would ask again.
    Its answers stay, and the next one comes on top. Returns whether it became ready.
    """
    if enqueue(connection, [new]):
        return True
    answered_since = exists().where(
        annotations.c.item_id == items.c.item_id, annotations.c.seq > since
    )
    done = update(items).where(
        items.c.image_id == new.image_id,
        items.c.model_version == new.model_version,
        items.c.stage == new.stage,
        items.c.state == "done",
        ~answered_since,
    )
    reopened = done.values(
        state="ready",
        openings=items.c.openings + 1,
        attempts=0,
        skips=0,
        run_id=new.run_id,
        iteration=new.iteration,
    )
    item_id = connection.execute(reopened.returning(items.c.item_id)).scalar_one_or_none()
    if item_id is None:
        return False
    keep_payloads(connection, {item_id: to_text("payload", new.payload)})
    return True
