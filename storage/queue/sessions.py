"""Sessions: what a browser, or a program of ours, shows in place of a personal token.

A session ends with its time, when it lies unused, when its person signs out, gets a new token or is
revoked. The database tells the time, and keeps only a hash of what names the session.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from storage.queue.database import Database
from storage.queue.documents import check_name
from storage.queue.errors import QueueUnavailable, UnknownPerson
from storage.queue.people import Identity, of_token
from storage.queue.schema import people, sessions
from storage.queue.tokens import PERSONAL, SESSION, digest, equal, new_secret

# A month of daily work without the token at hand, and no longer, whoever copied the cookie.
LONGEST_S = 30 * 86_400.0
# From one working day to the next morning's coffee it ends; over lunch it does not.
IDLE_S = 12 * 3_600.0
# Each use starts IDLE_S anew, but is written down only so often: a write waits for the disk.
_RENEW_EVERY_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Session(Identity):
    """A session that is open; what it writes must also show `csrf_token`."""

    csrf_token: str


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A session with the secret that names it, which nobody can read again."""

    secret: str
    session: Session


class Sessions:
    """The sessions of people; every method may raise QueueUnavailable, like the queue's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sign_in(self, token: str) -> Opened | None:
        """Open a session for the owner of a personal token; None when it is nobody's."""
        with self._database.read() as connection:
            # Not under the writer's lock, or guesses would hold up everybody's work.
            if of_token(connection, token) is None:
                return None
        with self._database.write() as connection:
            owner = of_token(connection, token)
            return None if owner is None else self._open(connection, owner, IDLE_S)

    def lend(self, name: str, seconds: float) -> str:
        """The secret of a session for a program of ours that signs as `name`, added if need be.

        It ends after `seconds`. Raises UnknownPerson where `name` was revoked.
        """
        check_name("name", name)
        with self._database.write() as connection:
            row = connection.execute(select(people).where(people.c.name == name)).one_or_none()
            if row is None:
                owner = self._add_program(connection, name)
            elif row.revoked_at is not None:
                raise UnknownPerson(f"{name}: was revoked")
            else:
                owner = Identity(name=name, role=row.role)
            return self._open(connection, owner, seconds).secret

    def find(self, secret: str) -> Session | None:
        """The open session that a secret names; None when there is none."""
        with self._database.read() as connection:
            row = self._find(connection, secret)
        return None if row is None else _session_of(row)

    def use(self, secret: str) -> Session | None:
        """`find`, and its unused time starts anew."""
        with self._database.read() as connection:
            row = self._find(connection, secret)
            now = self._database.now(connection)
        if row is None:
            return None
        later = min(now + IDLE_S, row.created_at + LONGEST_S)
        if later - row.expires_at >= _RENEW_EVERY_S:
            # A database that is busy now must not cost a request that only reads.
            with suppress(QueueUnavailable):
                self._renew(row.id_sha256, later)
        return _session_of(row)

    def end(self, secret: str) -> None:
        """Close a session; one that is closed already stays so."""
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.id_sha256 == digest(secret)))

    def _open(self, connection: Connection, owner: Identity, seconds: float) -> Opened:
        now = self._database.now(connection)
        connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
        secret = new_secret(SESSION)
        session = Session(name=owner.name, role=owner.role, csrf_token=new_secret(""))
        statement = insert(sessions).values(
            id_sha256=digest(secret),
            name=session.name,
            csrf_token=session.csrf_token,
            created_at=now,
            expires_at=now + min(seconds, LONGEST_S),
        )
        connection.execute(statement)
        return Opened(secret=secret, session=session)

    def _add_program(self, connection: Connection, name: str) -> Identity:
        added = Identity(name=name, role="annotator")
        statement = insert(people).values(
            name=added.name,
            role=added.role,
            # Of a token that nobody has seen: a program of ours gets sessions only.
            token_sha256=digest(new_secret(PERSONAL)),
            created_at=self._database.now(connection),
        )
        connection.execute(statement)
        return added

    def _find(self, connection: Connection, secret: str) -> Row[Any] | None:
        shown = digest(secret)
        statement = (
            select(sessions, people.c.role)
            .join(people, people.c.name == sessions.c.name)
            .where(sessions.c.id_sha256 == shown, people.c.revoked_at.is_(None))
        )
        row = connection.execute(statement).one_or_none()
        if row is None or not equal(row.id_sha256, shown):
            return None
        return row if row.expires_at > self._database.now(connection) else None

    def _renew(self, id_sha256: str, expires_at: float) -> None:
        statement = update(sessions).where(
            sessions.c.id_sha256 == id_sha256, sessions.c.expires_at < expires_at
        )
        with self._database.write() as connection:
            connection.execute(statement.values(expires_at=expires_at))


def _session_of(row: Row[Any]) -> Session:
    return Session(name=row.name, role=row.role, csrf_token=row.csrf_token)
