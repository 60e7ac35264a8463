"""Items of the review queue: one image to look at, with the proposals of one model version."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, and_, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.dml import ReturningInsert

from storage.queue.database import insert_into
from storage.queue.documents import check_name, check_text, from_text, to_text
from storage.queue.pins import PINNED_PRIORITY, bring_forward_new
from storage.queue.schema import IS_READY, KINDS, items, payloads

WITHDRAWN = "withdrawn"


@dataclass(frozen=True, kw_only=True)
class NewItem:
    """An image to enqueue; sizes in pixels, higher `priority` goes first.

    `payload` is whatever the annotator needs (the proposals), as JSON. `stage` is its kind, one of
    `KINDS`. It is never given to `not_for`, and with a `for_role` to nobody else than leads.
    Without an `item_id` chance names it: one made of what it is would tell its kind, which those
    who work on it must not know.
    """

    image_id: str
    file_name: str
    height: int
    width: int
    model_version: str
    run_id: str
    iteration: int
    priority: float = 0.0
    payload: Mapping[str, Any] = field(default_factory=dict)
    stage: str = "assist"
    item_id: str = ""
    not_for: str | None = None
    for_role: Literal["lead"] | None = None

    def __post_init__(self) -> None:
        for name in ("image_id", "model_version", "run_id"):
            check_name(name, getattr(self, name))
        self._check_kind()
        check_text("file_name", self.file_name)
        for name in ("height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not abs(self.priority) < PINNED_PRIORITY:
            raise ValueError(
                f"priority: must be finite and below {PINNED_PRIORITY:.0f}, got {self.priority}"
            )
        if not self.item_id:
            object.__setattr__(self, "item_id", secrets.token_hex(16))
        check_name("item_id", self.item_id)

    def _check_kind(self) -> None:
        if self.stage not in KINDS:
            raise ValueError(f"stage: must be one of {', '.join(KINDS)}, got {self.stage!r:.80}")
        if self.not_for is not None:
            check_name("not_for", self.not_for)
        if self.for_role not in (None, "lead"):
            raise ValueError(f"for_role: must be 'lead' or None, got {self.for_role!r:.80}")


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item as it stands; who holds it is not part of it.

    `payload_text` is its payload as it is kept: JSON that may have megabytes.
    """

    item_id: str
    image_id: str
    file_name: str
    height: int
    width: int
    model_version: str
    stage: str
    run_id: str
    iteration: int
    priority: float
    payload_text: str = field(repr=False)
    state: str
    attempts: int
    skips: int
    dead_reason: str | None
    not_for: str | None
    for_role: Literal["lead"] | None

    @cached_property
    def payload(self) -> dict[str, Any]:
        """What was enqueued with it."""
        return from_text(self.payload_text)


_FIELDS = tuple(item.name for item in fields(Item))
_KEPT = {"payload_text": payloads.c.body.label("payload_text")}


def select_items() -> Select[Any]:
    """Items with their payload; `item_of` reads the rows."""
    columns = [_KEPT[name] if name in _KEPT else items.c[name] for name in _FIELDS]
    return select(*columns).join_from(items, payloads)


def item_of(row: Sequence[Any]) -> Item:
    """The item of a row that begins with the columns of `select_items`."""
    return Item(**dict(zip(_FIELDS, row, strict=False)))


def enqueue(connection: Connection, new: Sequence[NewItem], *, same_run: bool = False) -> int:
    """Insert the items that are not there; returns how many became ready.

    An item is there when its image, model version and stage are, whatever its state. One that was
    withdrawn from another run comes back, as an item of this run; one of the `same_run` where that
    is asked for. Raises ValueError when an explicit `item_id` already names another image.
    """
    # Backwards, so that of two with one key the first counts, as it does in two calls.
    offered = {_key(item): item for item in reversed(new)}
    bodies = {key: to_text("payload", item.payload) for key, item in offered.items()}
    # By key, so that of two processes with the same items none waits for the other in a circle.
    values = [_values(offered[key]) for key in sorted(offered)]
    try:
        rows = connection.execute(_insert_missing(connection, same_run), values).all()
    except IntegrityError as error:
        raise ValueError(f"item_id: must not name another image, got: {error.orig}") from error
    if rows:
        keep_payloads(connection, {row.item_id: bodies[_key(row)] for row in rows})
        bring_forward_new(connection)
    return len(rows)


def replace(connection: Connection, old_item_id: str, new: NewItem) -> bool:
    """Withdraw an item that is ready and enqueue another with its skips; False if neither is done.

    That is when it is not ready, or the new one is there already and was not withdrawn. Raises what
    `enqueue` raises.
    """
    old = update(items).where(items.c.item_id == old_item_id, IS_READY)
    withdrawn = old.values(state="dead", dead_reason=WITHDRAWN).returning(items.c.skips)
    with connection.begin_nested() as attempt:
        skips = connection.execute(withdrawn).scalar_one_or_none()
        if skips is None or not enqueue(connection, [new], same_run=True):
            attempt.rollback()
            return False
        of_new = (items.c[name] == getattr(new, name) for name in _KEY)
        connection.execute(update(items).where(*of_new).values(skips=skips))
    return True


@dataclass(frozen=True, kw_only=True)
class ItemHead:
    """An item without its payload; its `priority` is its own, also while its image is pinned."""

    item_id: str
    image_id: str
    model_version: str
    run_id: str
    iteration: int
    priority: float
    stage: str
    not_for: str | None
    for_role: Literal["lead"] | None


def ready(connection: Connection, kinds: Collection[str]) -> list[ItemHead]:
    """The items of some kinds that wait for anybody, in the order in which they are given out."""
    own = func.coalesce(items.c.base_priority, items.c.priority).label("priority")
    columns = [own if f.name == "priority" else items.c[f.name] for f in fields(ItemHead)]
    order = (items.c.skips, items.c.priority.desc(), items.c.item_id)
    statement = select(*columns).where(IS_READY, items.c.stage.in_(kinds)).order_by(*order)
    return [ItemHead(**row._mapping) for row in connection.execute(statement)]


_KEY = ("image_id", "model_version", "stage")


def _key(item: NewItem | Row[Any]) -> tuple[str, str, str]:
    return item.image_id, item.model_version, item.stage


def _values(item: NewItem) -> dict[str, Any]:
    values = {f.name: getattr(item, f.name) for f in fields(item) if f.name != "payload"}
    return {**values, "state": "ready"}


_REVIVED = ("run_id", "iteration", "priority", "not_for", "for_role")


def _insert_missing(connection: Connection, same_run: bool) -> ReturningInsert[Any]:
    statement = insert_into(connection, items)
    offered = statement.excluded
    revived: dict[str, Any] = {name: offered[name] for name in _REVIVED}
    revived |= {"state": "ready", "attempts": 0, "skips": 0, "dead_reason": None}
    revived["base_priority"] = None
    came_back = items.c.dead_reason == WITHDRAWN
    if not same_run:
        came_back = and_(came_back, items.c.run_id != offered.run_id)
    return statement.on_conflict_do_update(
        index_elements=_KEY,
        set_=revived,
        where=came_back,
    ).returning(items.c.item_id, *(items.c[name] for name in _KEY))


def keep_payloads(connection: Connection, bodies: Mapping[str, str]) -> None:
    """Keep the payloads of items, in place of those that they had."""
    statement = insert_into(connection, payloads)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["item_id"], set_={"body": statement.excluded.body}
        ),
        [{"item_id": item_id, "body": body} for item_id, body in bodies.items()],
    )
