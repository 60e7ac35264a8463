"""Processes that help to train: when one is lost, the reason is told, not the broken connection."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "lose_helper.py"
PROJECT = Path(__file__).parents[3]


# Two starts of Python with torch each.
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("memory", "MemoryError: process 2 of 2: MemoryError: all of it"),
        ("wrong", "HelperError: process 2 of 2: ValueError: weights: must be"),
        ("gone", "HelperError: process 2 of 2 ended with exit code 3"),
    ],
)
def test_why_a_process_was_lost_is_told(how: str, told: str) -> None:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), how],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [told]
