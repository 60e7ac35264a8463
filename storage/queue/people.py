"""Who may work on the queue, and as what; each has one personal token, of which a hash is kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from storage.queue.database import Database, as_utc
from storage.queue.documents import check_name
from storage.queue.errors import NameTaken, UnknownPerson
from storage.queue.schema import ROLES, people, sessions
from storage.queue.tokens import PERSONAL, digest, equal, new_secret

Role = Literal["annotator", "lead"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Somebody who has shown a secret of theirs."""

    name: str
    role: Role


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody who was added; `revoked_at` is None while they may sign in."""

    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None
    num_sessions: int


class People:
    """The list of people; every method may raise QueueUnavailable, like the queue's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, role: Role = "annotator") -> str:
        """Let somebody in; returns their token, which nobody can read again.

        Raises NameTaken, ValueError for what is no name or no role.
        """
        check_name("name", name)
        if role not in ROLES:
            raise ValueError(f"role: must be one of {', '.join(ROLES)}, got {role!r}")
        token = new_secret(PERSONAL)
        with self._database.write() as connection:
            row = {"name": name, "role": role, "token_sha256": digest(token)}
            now = self._database.now(connection)
            try:
                connection.execute(insert(people).values(**row, created_at=now))
            except IntegrityError as error:
                raise NameTaken(f"{name}: is there already") from error
        return token

    def renew(self, name: str) -> str:
        """A new token in place of the old one, for somebody revoked as well; sessions end.

        Raises UnknownPerson.
        """
        token = new_secret(PERSONAL)
        with self._database.write() as connection:
            _change(connection, name, token_sha256=digest(token), revoked_at=None)
        return token

    def revoke(self, name: str) -> None:
        """Let somebody in no more: their token is void, their sessions end; raises UnknownPerson.

        Their answers stay, and so does an item that they hold, until its lease runs out.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            _change(connection, name, revoked_at=func.coalesce(people.c.revoked_at, now))

    def everybody(self) -> list[Person]:
        """All who were ever added, by name, with their sessions that have not ended."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            live = and_(sessions.c.name == people.c.name, sessions.c.expires_at > now)
            statement = (
                select(people, func.count(sessions.c.id_sha256).label("num_sessions"))
                .select_from(people.outerjoin(sessions, live))
                .group_by(people.c.name)
            )
            found = [_person_of(row) for row in connection.execute(statement)]
        # Here, because databases do not agree on the order of letters.
        return sorted(found, key=lambda person: person.name)

    def any_added(self) -> bool:
        """Whether somebody was ever added, revoked since or not: then all must sign in."""
        with self._database.read() as connection:
            return connection.execute(select(people.c.name).limit(1)).first() is not None

    def any_admitted(self) -> bool:
        """Whether there is somebody who can sign in."""
        admitted = select(people.c.name).where(people.c.revoked_at.is_(None)).limit(1)
        with self._database.read() as connection:
            return connection.execute(admitted).first() is not None

    def of_token(self, token: str) -> Identity | None:
        """Whose personal token this is; None when it is nobody's, or its owner was revoked."""
        with self._database.read() as connection:
            return of_token(connection, token)


def of_token(connection: Connection, token: str) -> Identity | None:
    """`People.of_token` as a step of a transaction."""
    shown = digest(token)
    statement = select(people.c.name, people.c.role, people.c.token_sha256).where(
        people.c.token_sha256 == shown, people.c.revoked_at.is_(None)
    )
    row = connection.execute(statement).one_or_none()
    if row is None or not equal(row.token_sha256, shown):
        return None
    return Identity(name=row.name, role=row.role)


def _change(connection: Connection, name: str, **values: Any) -> None:
    statement = update(people).where(people.c.name == name).values(**values)
    if connection.execute(statement).rowcount == 0:
        raise UnknownPerson(f"{name}: nobody was added under this name")
    connection.execute(delete(sessions).where(sessions.c.name == name))


def _person_of(row: Row[Any]) -> Person:
    return Person(
        name=row.name,
        role=row.role,
        created_at=as_utc(row.created_at),
        revoked_at=None if row.revoked_at is None else as_utc(row.revoked_at),
        num_sessions=row.num_sessions,
    )
