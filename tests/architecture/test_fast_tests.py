"""`make test`: tests of the engine, all others, the page's; `make test-slow`: the slow ones."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "test.sh"
PYTHON = """#!/bin/sh
case "$*" in
*absent_packages*) echo "engine: $PYTHONPATH $*"; exit "$ENGINE" ;;
*) echo "others: $*"; exit "$OTHERS" ;;
esac
"""
NPM = """#!/bin/sh
echo "page: $*"
exit "$PAGE"
"""
SHARED = "--durations 40 --numprocesses auto --maxprocesses 4 --dist"


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def run(
    folder: Path,
    *arguments: str,
    speed: str = "fast",
    engine: int = 0,
    others: int = 0,
    page: int = 0,
) -> tuple[int, list[str]]:
    """The exit code, and what each runner of tests was told."""
    program(folder / "python", PYTHON)
    program(folder / "npm", NPM)
    program(folder / "node", "#!/bin/sh\n")
    done = subprocess.run(
        ["sh", SCRIPT, folder / "python", speed, *arguments],
        cwd=folder,
        env={
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "ENGINE": str(engine),
            "OTHERS": str(others),
            "PAGE": str(page),
            "PATH": f"{folder}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_three_share_all_fast_tests(tmp_path: Path) -> None:
    code, told = run(tmp_path)
    assert code == 0
    marked = f"-m pytest -m not slow {SHARED} loadfile"
    assert told == [
        f"engine: tests/architecture {marked} -p no:cacheprovider -p absent_packages tests/engine",
        f"others: {marked} --ignore tests/engine",
        "page: test",
    ]


@pytest.mark.parametrize("failing", [("engine",), ("others",), ("page",), ("engine", "page")])
def test_each_can_fail(tmp_path: Path, failing: tuple[str, ...]) -> None:
    code, told = run(tmp_path, **dict.fromkeys(failing, 1))
    assert code == 1
    assert len(told) == 3


def test_arguments_go_to_one(tmp_path: Path) -> None:
    assert run(tmp_path, "-k", "rle", others=3) == (3, ["others: -m pytest -m not slow -k rle"])


def test_the_slow_ones_go_one_by_one(tmp_path: Path) -> None:
    told = [f"others: -m pytest -m slow {SHARED} worksteal"]
    assert run(tmp_path, speed="slow", others=1) == (1, told)
