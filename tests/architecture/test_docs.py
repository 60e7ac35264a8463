"""The documents tell the whole truth: commands, settings, recipes, links."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGES = ("flows", "annotator", "engine", "storage")
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"\bMASKLOOP_[A-Z][A-Z_]+")


def documents() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def commands() -> list[tuple[str, Any]]:
    """(`maskloop models list`, its command) for each leaf of the command tree."""
    from typer.main import get_command

    from flows.cli.app import app

    return list(_leaves(get_command(app), "maskloop"))


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if children := getattr(command, "commands", None):
        for name, child in children.items():
            yield from _leaves(child, f"{path} {name}")
    elif not command.hidden:
        yield path, command


def setting_names(cls: type[Any], prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(cls)
    for item in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hint := hints[item.name]) and isinstance(hint, type):
            yield from setting_names(hint, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by the rule of code hosts."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+\s+(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", item.lower()).replace(" ", "-") for item in headings}


def test_every_command_is_documented() -> None:
    text = documents()
    missing = [path for path, _ in commands() if not re.search(rf"{re.escape(path)}\b", text)]
    assert not missing, f"say in README.md or docs/ what these do: {missing}"


def test_every_command_shows_an_example() -> None:
    bare = [
        path
        for path, command in commands()
        if path not in f"{command.help or ''} {command.epilog or ''}"
    ]
    assert not bare, f"their --help shows no example of their use: {bare}"


def test_every_setting_is_documented() -> None:
    from flows.settings import Settings

    text = documents()
    missing = [name for name in setting_names(Settings) if f"`{name}`" not in text]
    assert not missing, f"docs/settings.md lacks: {missing}"


def test_every_environment_variable_is_documented() -> None:
    read = {
        name
        for package in PACKAGES
        for path in (PROJECT / package).rglob("*.py")
        for name in VARIABLE.findall(path.read_text(encoding="utf-8"))
    }
    missing = sorted(name for name in read if name not in documents())
    assert not missing, f"docs/settings.md lacks: {missing}"


def test_every_recipe_is_documented() -> None:
    from flows.recipes import RECIPES

    missing = [name for name in RECIPES if f"`{name}`" not in documents()]
    assert not missing, f"say in README.md or docs/ what these are for: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_links_of_a_page_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for match in LINK.finditer(text):
        target, _, anchor = (match[1] or match[2]).partition("#")
        if ":" in target:
            continue  # another host
        path = page if not target else page.parent / target
        known = path.exists() and (path.suffix != ".md" or not anchor or anchor in anchors(path))
        if not known:
            broken.append(match[0])
    assert not broken, f"these lead nowhere: {broken}"


def test_a_broken_link_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `word` here\n\n```\n# not a heading\n```\n", encoding="utf-8")
    assert anchors(page) == {"a-word-here"}
