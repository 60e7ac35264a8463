"""The command line: `maskloop`. Exit code 0 done, 1 failed, 2 a mistake of the user's.

Commands import what they need when they run, so that `--help` does not wait for torch.
"""

import errno
import sys

import typer

from flows.cli import data, demo, inspect, models, serve, stages, store
from flows.cli.terminal import err
from flows.errors import StageError, UsageError
from storage.errors import NewerStoreError, StorageError, StorageFull

app = typer.Typer(
    name="maskloop",
    help="The Segment Anything data engine: train, annotate with people, generate, ask SQL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data.register(app)
stages.register(app)
models.register(app)
store.register(app)
inspect.register(app)
serve.register(app)
demo.register(app)

# A full disk, a full quota, and the limit that a shell sets with `ulimit -f`.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_TEXT = "the disk is full; nothing committed is lost: make room and run the command again"
# What SQLite says of the review queue then.
_FULL_WORDS = ("disk is full", "disk I/O error")
_INTERRUPTED = 130


def main() -> None:
    """Run the command and turn what went wrong into one line and an exit code."""
    try:
        app()
    except (UsageError, NewerStoreError, StorageFull) as error:
        _stop(str(error), 2)
    except (StageError, StorageError) as error:
        full = _is_full(error)
        _stop(_FULL_TEXT if full else str(error), 2 if full else 1)
    except OSError as error:
        if _is_full(error):
            _stop(_FULL_TEXT, 2)
        if error.filename is None:
            raise
        _stop(f"{error.filename}: {error.strerror}", 2)
    except SystemExit as error:
        # Typer has made this of Ctrl+C, without a word.
        if error.code != _INTERRUPTED:
            raise
        _stop("stopped; what was committed stays, the same command goes on from there", 130)


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
