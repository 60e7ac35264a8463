"""Writes of a server's event loop: where the database has one writer, many share a commit.

SQLite takes hundredths of a millisecond for a step and, to have it on disk, up to a hundred times
as long. So all steps that came while the commit before was under way make one transaction, each
within a savepoint of its own. They run on the event loop: on a thread beside it, Python would have
every statement wait for its turn to compute. Only what may take long, to wait for the writer's turn
and for the disk, is on a thread. Nobody hears of an outcome before its commit is done.
"""

import asyncio
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from anyio import to_thread
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from storage.queue.database import Database
from storage.queue.prepared import Prepared
from storage.queue.work import Step

_Outcome = TypeVar("_Outcome")
_Asked = tuple[Step[Any], asyncio.Future[Any]]
_SAVE = Prepared(text("SAVEPOINT step"))
_UNDO = Prepared(text("ROLLBACK TO SAVEPOINT step"))
_KEEP = Prepared(text("RELEASE SAVEPOINT step"))


class Writes:
    """Runs steps, each wholly or not at all, for any number of event loops."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._groups: WeakKeyDictionary[asyncio.AbstractEventLoop, _Groups] = WeakKeyDictionary()

    async def run(self, step: Step[_Outcome]) -> _Outcome:
        """What a step gives, once it is committed; raises what it raises, QueueUnavailable."""
        if not self._database.single_writer:
            return await to_thread.run_sync(self._alone, step)
        loop = asyncio.get_running_loop()
        groups = self._groups.get(loop)
        if groups is None:
            groups = self._groups[loop] = _Groups(self._database)
        return await groups.run(step)

    def _alone(self, step: Step[_Outcome]) -> _Outcome:
        with self._database.write() as connection:
            return step(connection)


class _Groups:
    """The steps of one event loop, one group after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Asked] = []
        self._working: asyncio.Task[None] | None = None

    async def run(self, step: Step[_Outcome]) -> _Outcome:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Outcome] = loop.create_future()
        self._waiting.append((step, answer))
        if self._working is None:
            self._working = loop.create_task(self._work(loop))
        return await answer

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            group: list[_Asked] = []
            try:
                outcomes = await asyncio.to_thread(self._write, loop, group)
            except Exception as error:
                # No turn to write, or no commit: it failed for all of them.
                group = group or self._take()
                outcomes = [error] * len(group)
            for (_, answer), outcome in zip(group, outcomes, strict=True):
                _tell(answer, outcome)
        self._working = None

    def _write(self, loop: asyncio.AbstractEventLoop, group: list[_Asked]) -> list[Any]:
        """Write for all that wait, who then are in `group`; what each of them gets."""
        with self._database.write() as connection:
            steps = self._attempt_all(connection, group)
            return asyncio.run_coroutine_threadsafe(steps, loop).result()

    async def _attempt_all(self, connection: Connection, group: list[_Asked]) -> list[Any]:
        # With those that came while the turn to write was waited for.
        group += self._take()
        return [self._attempt(connection, step) for step, _ in group]

    def _take(self) -> list[_Asked]:
        taken, self._waiting = self._waiting, []
        return taken

    def _attempt(self, connection: Connection, step: Step[Any]) -> Any:
        """What a step gives, or the exception that undid it, and it alone."""
        _SAVE.rows(connection, {})
        try:
            with self._database.translated():
                outcome = step(connection)
        except Exception as error:
            try:
                _UNDO.rows(connection, {})
            except DBAPIError:
                # It took the whole transaction along, as a full disk may.
                raise error from None
            outcome = error
        _KEEP.rows(connection, {})
        return outcome


def _tell(answer: asyncio.Future[Any], outcome: Any) -> None:
    # Whoever asked may have gone away meanwhile.
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
