"""What the review queue answers when it cannot do what it was asked; each has its HTTP status."""

# ruff: noqa: N818 - named for what happened, like the statuses; not all of them are errors.

from storage.errors import TerminalStorageError, TransientStorageError


class QueueUnavailable(TransientStorageError):
    """503: the database is locked, full or unreachable; try again. Nothing acknowledged is lost."""


class QueueMoved(TerminalStorageError):
    """503: the queue is in another database now, and this one takes nothing any more."""


class StaleLease(TerminalStorageError):
    """409: the item was finished or given to another, who is not named; keep the draft."""


class IdempotencyConflict(TerminalStorageError):
    """422: this idempotency key was already used for another item or another body."""


class UnknownItem(TerminalStorageError):
    """404: no item has this id."""


class StaleGeneration(TerminalStorageError):
    """409: another model went into service since the caller looked."""


class NameTaken(TerminalStorageError):
    """409: somebody has this name already, or had it; work that is signed with it stays theirs."""


class UnknownPerson(TerminalStorageError):
    """404: nobody was added under this name."""


class NotHeld(TerminalStorageError):
    """409: nobody holds this item now, so there is no lease to end."""
