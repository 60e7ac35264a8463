"""What becomes an exit code: 2 for a user's mistake, 1 for a stage that failed."""


class UsageError(Exception):
    """The user can put it right: one line with file, field, what was expected, the remedy."""


class NoWorkspaceError(UsageError):
    """Neither this folder nor one above it is a workspace."""


class StageError(Exception):
    """A stage could not finish; nothing is lost, and the message says how to go on."""
