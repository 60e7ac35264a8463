"""Help of every command: quick, and with an example."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer.main

from flows.cli.app import app


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command and group of commands."""
    for name, command in sorted(group.commands.items()):
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = cli(*words, "--help")
    assert said.code == 0
    assert f"Example: maskloop {' '.join(words)}" in said.out


def test_the_commands_are_those_of_the_issue() -> None:
    named = {" ".join(words) for words in ALL}
    assert named >= {
        "init", "import coco", "add", "train", "assist", "generate", "loop", "annotate",
        "evaluate", "models list", "models show", "models promote", "models rollback", "merge",
        "fsck", "store gc", "sql", "export coco", "status", "report", "serve", "demo",
        "annotators add", "annotators list", "annotators renew", "annotators revoke",
    }  # fmt: skip


HEAVY = ("torch", "duckdb", "prefect", "ray", "sqlalchemy", "fastapi")


def test_help_waits_for_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['maskloop', '--help']\n"
        "from flows.cli import app\n"
        "try: app.main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("import", "coco"), ("status", "--colour"), ("evaluate", "--recipe")],
    ids=" ".join,
)
def test_a_command_that_is_none_is_a_usage_error(
    cli: Callable[..., Any], arguments: tuple[str, ...]
) -> None:
    said = cli(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert "Error" in said.err
