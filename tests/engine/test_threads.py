"""Images on several cores, and how threads wait for each other."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from engine.threads import ImageWorkers, image_workers, one_on_all_cores


@pytest.mark.parametrize(
    ("module", "told", "found"),
    [
        ("engine.model.sam", None, "PASSIVE"),
        ("flows.models.serving", None, "PASSIVE"),
        ("flows.models.serving", "active", "ACTIVE"),
    ],
)
def test_threads_wait_without_spinning_unless_told_otherwise(
    module: str, told: str | None, found: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    asked = {} if told is None else {"OMP_WAIT_POLICY": told}
    # Printed by libgomp when torch loads it, so an answer that came too late would not be seen.
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}, torch"],
        env={**kept, **asked, "OMP_DISPLAY_ENV": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"OMP_WAIT_POLICY = '{found}'" in done.stderr


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with image_workers(2):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_results_come_in_order_and_few_wait() -> None:
    begun: list[int] = []

    def square(number: int) -> int:
        begun.append(number)
        time.sleep(0.001 * (number % 3))
        return number * number

    with ThreadPoolExecutor(2) as threads:
        workers = ImageWorkers(threads, 2)
        for number, result in enumerate(workers.in_order(square, range(30))):
            assert result == number * number
            assert len(begun) <= number + 4
    assert sorted(begun) == list(range(30))


def test_what_waits_when_the_workers_are_left_is_not_done() -> None:
    begun: list[int] = []

    def slow(number: int) -> int:
        begun.append(number)
        time.sleep(0.05)
        return number

    with image_workers(1) as workers:
        results = workers.in_order(slow, range(30))
        assert next(results) == 0
    assert len(begun) <= 3


def tiny_left() -> int:
    """How many of many numbers below 1e-38 torch's threads do not take for 0."""
    return int((torch.full((4_000_000,), 1e-40) * 0.5).count_nonzero())


def test_tiny_numbers_are_0_where_models_learn() -> None:
    assert tiny_left() > 0, "this processor takes them for 0 anyhow"
    with image_workers(2) as workers:
        assert list(workers.in_order(lambda _: tiny_left(), [0, 1])) == [0, 0]
    with one_on_all_cores() as thread:
        assert thread.submit(torch.get_num_threads).result() == torch.get_num_threads()
        assert thread.submit(tiny_left).result() == 0
    assert tiny_left() > 0, "the caller's numbers stay as they are"
