"""`models promote` and `models rollback`: which version serves, and what changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.workspace import Workspace

Cli = Callable[..., Any]


@pytest.fixture
def two(at_home: Workspace, recipe: Recipe) -> Workspace:
    """A workspace with v2 in service, and v1 before it."""
    row = serving.model_row(at_home, serving.ensure_base(at_home, recipe, Silent()))
    at_home.lake.commit(lambda tx: tx.insert([replace(row, version="v2")]), message="test")
    serving.promote(at_home, "v2", reason="test")
    return at_home


def test_promoting_what_serves_changes_nothing(cli: Cli, two: Workspace) -> None:
    before = two.lake.snapshot(), two.pointer.history()
    said = cli("models", "promote", "v2")
    assert (said.code, said.out) == (0, "v2 serves already; nothing changed\n")
    assert (two.lake.snapshot(), two.pointer.history()) == before
    assert cli("models", "rollback").out == "v1 serves\n"
    assert serving.current_version(two) == "v1"


def test_promoting_another_can_be_taken_back(cli: Cli, two: Workspace) -> None:
    assert cli("models", "promote", "v1").out == "v1 serves\n"
    assert cli("models", "rollback").out == "v2 serves\n"
    assert serving.current_version(two) == "v2"
