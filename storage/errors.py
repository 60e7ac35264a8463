"""What storage raises: errors that may pass (retry) and errors that will not (stop)."""


class StorageError(Exception):
    """Something about the stored bytes, rows or items; the message says what and what to do."""


class TransientStorageError(StorageError):
    """A later try can succeed: locked, busy, unreachable."""


class TerminalStorageError(StorageError):
    """Trying again will not help."""


class StorageFull(TerminalStorageError):  # noqa: N818 -- named for what happened
    """No space left; nothing that was committed is lost."""


class NotFoundError(TerminalStorageError):
    """There is no such store, object, snapshot or row."""


class ChecksumMismatchError(TerminalStorageError):
    """The bytes are not the ones that were stored."""


class NewerStoreError(TerminalStorageError):
    """The store was written by a newer maskloop than this one."""
