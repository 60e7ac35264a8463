"""`make test` runs the engine's tests beside all others, and fails when either does."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "test.sh"
PYTHON = """#!/bin/sh
case "$*" in
*absent_packages*) echo "engine: $*"; exit "$ENGINE" ;;
*) echo "others: $*"; exit "$OTHERS" ;;
esac
"""


def run(folder: Path, *arguments: str, engine: int = 0, others: int = 0) -> tuple[int, list[str]]:
    """The exit code, and what each pytest was told."""
    python = folder / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", SCRIPT, python, *arguments],
        cwd=folder,
        env={**os.environ, "ENGINE": str(engine), "OTHERS": str(others)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, [line for line in done.stdout.splitlines() if ": -m pytest" in line]


def test_two_share_all_tests(tmp_path: Path) -> None:
    code, told = run(tmp_path)
    assert code == 0
    others, engine = told
    assert others == "others: -m pytest --ignore tests/engine"
    assert engine.endswith(" tests/engine")


@pytest.mark.parametrize(("engine", "others"), [(1, 0), (0, 1), (1, 1)])
def test_either_can_fail(tmp_path: Path, engine: int, others: int) -> None:
    code, told = run(tmp_path, engine=engine, others=others)
    assert code == 1
    assert len(told) == 2


def test_arguments_go_to_one(tmp_path: Path) -> None:
    assert run(tmp_path, "-k", "rle", others=3) == (3, ["others: -m pytest -k rle"])
