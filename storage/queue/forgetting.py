"""An image leaves the review queue, with its items and what people answered to them."""

from sqlalchemy import delete, select

from storage.queue.database import Database
from storage.queue.schema import annotations, items, payloads, pins, submissions


def forget(database: Database, image_id: str) -> int:
    """Delete all items of an image and everything about them; returns how many there were."""
    of_image = select(items.c.item_id).where(items.c.image_id == image_id)
    with database.write() as connection:
        for table in (annotations, submissions, payloads):
            connection.execute(delete(table).where(table.c.item_id.in_(of_image)))
        connection.execute(delete(pins).where(pins.c.image_id == image_id))
        return connection.execute(delete(items).where(items.c.image_id == image_id)).rowcount
