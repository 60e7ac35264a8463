"""The page's own test runner, on cases that Python made."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def run_vitest() -> Callable[[str, Path], None]:
    """Runs a file of tests in annotator/web on the cases in a folder; fails as it does."""

    def run(file: str, cases: Path) -> None:
        done = subprocess.run(
            ["sh", "infra/web.sh", "exec", "--no", "vitest", "run", file],
            cwd=PROJECT,
            env={**os.environ, "MASKLOOP_CASES": str(cases), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"

    return run
