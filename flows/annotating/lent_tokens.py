"""Tokens for processes of our own, which annotate or look in a workspace where people sign in."""

from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import UsageError
from flows.workspace import Workspace
from storage.queue.errors import UnknownPerson
from storage.queue.people import People
from storage.queue.sessions import Sessions

VARIABLE = "MASKLOOP_TOKEN"
# What the loop itself signs with; it only looks.
LOOP = "loop"


@contextmanager
def lent_token(workspace: Workspace, name: str, *, seconds: float) -> Iterator[str | None]:
    """A token that signs as `name` while the block runs, `seconds` at most; None without people.

    Pass it on by the environment (VARIABLE): everybody on a machine can read command lines. Raises
    UsageError where `name` was revoked.
    """
    if not People(workspace.queue.database).any_added():
        yield None
        return
    sessions = Sessions(workspace.queue.database)
    try:
        token = sessions.lend(name, seconds)
    except UnknownPerson as error:
        raise UsageError(f"{error}; let it in again: maskloop annotators renew {name}") from error
    try:
        yield token
    finally:
        sessions.end(token)
