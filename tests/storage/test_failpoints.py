"""A failpoint kills where it is told to, and nowhere else."""

import os
import subprocess
import sys

import pytest

from storage.failpoints import EXIT_CODE, VARIABLE, failpoint

SCRIPT = """
from storage.failpoints import failpoint
for number in range(3):
    failpoint("commit.after_add")
    failpoint("commit.after_update")
    print(number, flush=True)
"""


@pytest.mark.parametrize(
    ("asked", "code", "printed"),
    [
        ("", 0, "012"),
        ("shard.after_write", 0, "012"),
        ("commit.after_add", EXIT_CODE, ""),
        ("commit.after_add:1", EXIT_CODE, ""),
        ("commit.after_update:3", EXIT_CODE, "01"),
        ("commit.after_update:4", 0, "012"),
    ],
)
def test_it_kills_at_the_nth_time(asked: str, code: int, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, VARIABLE: asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.replace("\n", "")) == (code, printed)


def test_a_name_that_nobody_knows_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="unknown failpoint"):
        failpoint("commit.after_lunch")
