"""Annotators at work while their server is killed and their database crashes: nothing is lost.

The load is the one of `benchmarks/queue_load.py`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
# Besides these, a connection may break.
ALLOWED = {"200", "201", "204", "409", "503", "broken"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def under_load(backend: str, **faults: int) -> dict[str, Any]:
    """What a dozen quick annotators went through."""
    options = {"annotators": 12, "think": 0.2, "seconds": 20, "backend": backend, **faults}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "benchmarks/queue_load.py", "--json", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["backends"][backend]
    return found


def check_nothing_went_wrong(found: dict[str, Any]) -> None:
    assert found["statuses"].keys() <= ALLOWED
    assert found["unexpected"] == 0, "an error of the server, or 503 without Retry-After"
    assert (found["lost"], found["doubled"], found["breaches"]) == (0, 0, [])
    num_faults = found["kills"] + found["restarts"]
    assert found["stored"] >= found["acknowledged"] >= num_faults, "people got something done"


def test_twenty_kills_of_the_server_lose_nothing() -> None:
    found = under_load("sqlite", kills=20)
    assert found["kills"] == 20
    assert found["statuses"]["broken"] > 0
    check_nothing_went_wrong(found)


@pytest.mark.postgres
def test_crashes_of_postgres_are_503_and_lose_nothing() -> None:
    found = under_load("postgres", kills=3, restarts=15)
    assert (found["kills"], found["restarts"]) == (3, 15)
    assert found["statuses"].get("503", 0) > 0
    check_nothing_went_wrong(found)
