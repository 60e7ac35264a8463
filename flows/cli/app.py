"""The command line: `maskloop`. Exit code 0 done, 1 failed, 2 a mistake of the user's.

Commands import what they need when they run, so that `--help` does not wait for torch.
"""

import errno
import sys

import typer

from flows.cli import data, demo, inspect, models, serve, stages, store
from flows.cli.terminal import err
from flows.errors import StageError, UsageError
from storage.errors import StorageError

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


def main() -> None:
    """Run the command and turn what went wrong into one line and an exit code."""
    try:
        app()
    except UsageError as error:
        _stop(str(error), 2)
    except (StageError, StorageError) as error:
        _stop(str(error), 1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _stop("the disk is full; nothing committed is lost: make room and run the command again", 2)
    except KeyboardInterrupt:
        _stop("stopped; what was committed stays, the same command goes on from there", 130)


def _stop(message: str, code: int) -> None:
    err.print(f"[bold red]error:[/] {_one_line(message)}", markup=True)
    sys.exit(code)


def _one_line(message: str) -> str:
    # A message may quote user data; square brackets in it are no markup.
    return " ".join(message.split()).replace("[", "\\[")


if __name__ == "__main__":
    main()
