"""The command line: `maskloop`. Exit code 0 done, 1 failed, 2 a mistake of the user's.

Commands import what they need when they run, so that `--help` does not wait for torch.
"""

import errno
import sys

import typer

from flows.cli import (
    annotators,
    audit,
    clip,
    data,
    demo,
    follow,
    forget,
    fsck,
    generate,
    inspect,
    lineage,
    models,
    naming,
    pins,
    segment,
    serve,
    sql,
    stages,
    upkeep,
)
from flows.cli.terminal import err
from flows.errors import StageError, UsageError
from storage.errors import NewerStoreError, StorageError, StorageFull

app = typer.Typer(
    name="maskloop",
    help=(
        "The Segment Anything data engine: train, annotate with people, generate, ask SQL.\n\n"
        "Example: maskloop demo"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data.register(app)
stages.register(app)
generate.register(app)
segment.register(app)
models.register(app)
naming.register(app)
clip.register(app)
audit.register(app)
annotators.register(app)
pins.register(app)
sql.register(app)
fsck.register(app)
upkeep.register(app)
forget.register(app)
inspect.register(app)
lineage.register(app)
serve.register(app)
follow.register(app)
demo.register(app)

# A full disk, a full quota, and the limit that a shell sets with `ulimit -f`.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_TEXT = "the disk is full; nothing committed is lost: make room and run the command again"
# What SQLite says of the review queue then.
_FULL_WORDS = ("disk is full", "disk I/O error")
_STOPPED_TEXT = "stopped; what was committed stays, the same command goes on from there"
_INTERRUPTED = 130


def main() -> None:
    """Run the command and turn what went wrong into one line and an exit code."""
    try:
        app()
    except SystemExit as error:
        # Typer has made this of Ctrl+C, without a word.
        if error.code != _INTERRUPTED:
            raise
        _stop(_STOPPED_TEXT, _INTERRUPTED)
    except Exception as error:
        if (verdict := _verdict(error)) is None:
            raise
        _stop(*verdict)


def _verdict(error: Exception) -> tuple[str, int] | None:
    """(line, exit code) for what may go wrong; None for what may not."""
    if _is_interrupted(error):
        return _STOPPED_TEXT, _INTERRUPTED
    if isinstance(error, (UsageError, NewerStoreError, StorageFull)):
        return str(error), 2
    if _is_full(error):
        return _FULL_TEXT, 2
    if isinstance(error, (StageError, StorageError)):
        return str(error), 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 2
    return None


def _is_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl+C is behind an error: DuckDB makes one of it, in the middle of a query."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, however many hands it went through."""
    while error is not None:
        if isinstance(error, StorageFull) or getattr(error, "errno", None) in _FULL:
            return True
        if isinstance(error, StorageError) and any(word in str(error) for word in _FULL_WORDS):
            return True
        error = error.__cause__
    return False


def _stop(message: str, code: int) -> None:
    err.print(f"error: {' '.join(message.split())}")
    sys.exit(code)


if __name__ == "__main__":
    main()
