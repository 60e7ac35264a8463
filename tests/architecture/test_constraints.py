"""constraints.txt pins everything exactly, and names no host that somebody else may not reach."""

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LINES = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>\d[\w.!]*(\+\w+)?)$")


def normal(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = [*project["project"]["dependencies"]]
    for group in project["dependency-groups"].values():
        lines += group
    return [normal(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines]


def pins() -> list[str]:
    return [line for line in LINES if line.strip() and not line.startswith("#")]


def test_every_line_is_an_exact_pin() -> None:
    loose = [line for line in pins() if not PIN.match(line)]
    assert not loose, f"write name==version: {loose}"


def test_no_line_names_a_host_or_a_file() -> None:
    assert not [line for line in LINES if "://" in line or "@" in line or line.startswith("-")]


def test_no_version_is_of_one_machine_only() -> None:
    local = [line for line in pins() if "+" in line]
    assert not local, f"a local version (CPU or CUDA build) is not on the public index: {local}"


def test_no_package_is_pinned_twice() -> None:
    names = [normal(line.partition("==")[0]) for line in pins()]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", wanted())
def test_a_dependency_of_the_project_is_pinned(name: str) -> None:
    assert name in {normal(line.partition("==")[0]) for line in pins()}
