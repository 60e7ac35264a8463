"""What commands print: data on stdout, everything else on stderr."""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.tree import Tree

from flows.progress import listening

# Without markup: what is printed quotes paths and rows, whose square brackets mean themselves.
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
# Rich takes a file or a pipe for a terminal of 80 columns and cuts tables to that.
_piped = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=1_000_000)
_QUIET_S = 2.0
_SHOWN_PROBLEMS = 10
_LINE_EVERY_S = 15.0


def print_json(value: Any) -> None:
    """One JSON value on stdout and nothing else."""
    sys.stdout.write(json.dumps(_plain(value), default=str, indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """The same value with null for what JSON has no number for: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def show_problems(problems: Sequence[str]) -> None:
    """What was left out, one line each, the first few of many."""
    for line in problems[:_SHOWN_PROBLEMS]:
        err.print(f"left out: {line}")
    if (more := len(problems) - _SHOWN_PROBLEMS) > 0:
        err.print(f"... and {more} more")


def print_table(rows: Sequence[dict[str, Any]], *, title: str | None = None) -> None:
    """Rows of equal keys as a table, cut only to fit a terminal; says so when there are none."""
    if not rows:
        out.print("(no rows)")
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, (int, float)) else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    (out if out.is_terminal else _piped).print(table)


def print_tree(tree: Tree) -> None:
    """A tree, whose lines are cut only to fit a terminal."""
    (out if out.is_terminal else _piped).print(tree)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


class TerminalProgress:
    """A bar where there is a terminal, a line now and then where there is none.

    Nothing is shown for work that ends within two seconds.
    """

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self._task: Any = None
        self._what = ""
        self._since = time.monotonic()
        self._last_line = 0.0

    def __enter__(self) -> "TerminalProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars.live.is_started:
            self._bars.stop()

    def step(self, what: str, done: int, total: int) -> None:
        """Move the bar of `what`."""
        name = what.partition(" (")[0]
        if name != self._what:
            self._begin(name)
        if time.monotonic() - self._since < _QUIET_S:
            return
        if err.is_terminal:
            self._move(what, done, total)
        elif time.monotonic() - self._last_line > _LINE_EVERY_S or done == total:
            self._last_line = time.monotonic()
            err.print(f"  {what}: {done} of {total}")

    def _begin(self, name: str) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task, self._what = None, name
        self._since, self._last_line = time.monotonic(), 0.0

    def _move(self, what: str, done: int, total: int) -> None:
        if self._task is None:
            # Not before: a display that showed nothing still leaves an empty line behind.
            self._bars.start()
            self._task = self._bars.add_task(what, total=total)
        self._bars.update(self._task, description=what, completed=done, total=total)

    def note(self, text: str) -> None:
        """A line that stays."""
        err.print(text)


@contextmanager
def terminal_progress() -> Iterator[TerminalProgress]:
    """Show the progress of every stage that runs inside the block."""
    with TerminalProgress() as progress, listening(progress):
        yield progress
