"""Which model serves: only one that passed its gate, one change at a time, and the way back."""

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from storage.failpoints import EXIT_CODE, VARIABLE
from storage.queue.errors import StaleGeneration
from storage.queue.pointer import GateDecision, ModelPointer


def gate(pointer: ModelPointer, version: str, **changes: Any) -> int:
    values = {"passed": True, "reason": "better", "metrics": {"mean_iou": 0.5}, **changes}
    return pointer.record_gate(GateDecision(model_version=version, **values))


def test_at_first_nothing_serves(pointer: ModelPointer) -> None:
    assert pointer.current() is None
    assert pointer.history() == []
    assert pointer.rollback(0) is None


def test_each_promotion_is_a_generation(pointer: ModelPointer, promote: Any) -> None:
    for number, version in enumerate(["v1", "v2", "v3"], start=1):
        assert promote(version) is True
        assert pointer.current() == (version, number)
    history = pointer.history()
    assert [(p.generation, p.model_version, p.kind) for p in history] == [
        (1, "v1", "promote"),
        (2, "v2", "promote"),
        (3, "v3", "promote"),
    ]


def test_a_promotion_against_an_old_rival_fails(pointer: ModelPointer, promote: Any) -> None:
    promote("v1")
    late = gate(pointer, "v3")
    promote("v2")
    assert pointer.promote("v3", 1, late) is False
    assert pointer.promote("v3", 7, late) is False
    assert pointer.current() == ("v2", 2)


def test_a_promotion_repeated_after_a_lost_answer_changes_nothing(pointer: ModelPointer) -> None:
    passed = gate(pointer, "v1")
    assert pointer.promote("v1", 0, passed) is True
    assert pointer.promote("v1", 0, passed) is True
    assert pointer.promote("v1", 0, gate(pointer, "v1")) is False, "another gate, another call"
    assert len(pointer.history()) == 1


def test_only_what_passed_its_own_gate_serves(pointer: ModelPointer) -> None:
    failed = gate(pointer, "v1", passed=False, reason="worse on small cells")
    other = gate(pointer, "v2")
    for gate_id in (failed, other, 99):
        with pytest.raises(ValueError, match="gate_id: must be a passed gate of v1"):
            pointer.promote("v1", 0, gate_id)
    assert pointer.current() is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_cannot_pass_but_are_kept(
    pointer: ModelPointer, value: float
) -> None:
    with pytest.raises(ValueError, match=r"mean_iou.*must be finite to pass"):
        gate(pointer, "v1", metrics={"mean_iou": value})
    assert gate(pointer, "v1", metrics={"mean_iou": value}, passed=False) == 1


@pytest.mark.parametrize(
    ("changes", "field"), [({"model_version": ""}, "model_version"), ({"reason": " "}, "reason")]
)
def test_a_decision_says_of_what_and_why(changes: dict[str, str], field: str) -> None:
    values = {"model_version": "v1", "reason": "better", **changes}
    with pytest.raises(ValueError, match=f"^{field}: must"):
        GateDecision(passed=True, **values)


def test_rollback_goes_back_step_by_step(pointer: ModelPointer, promote: Any) -> None:
    for version in ("v1", "v2", "v3"):
        promote(version)
    assert pointer.former() == pointer.rollback(3) == "v2"
    assert pointer.former() == pointer.rollback(4) == "v1"
    assert pointer.former() is None
    assert pointer.rollback(5) is None
    assert pointer.current() == ("v1", 5)
    promote("v4")
    assert pointer.rollback(6) == "v1"
    assert [(p.kind, p.model_version, p.restores) for p in pointer.history()[3:]] == [
        ("rollback", "v2", 2),
        ("rollback", "v1", 1),
        ("promote", "v4", 6),
        ("rollback", "v1", 1),
    ]


def test_a_rollback_repeated_does_not_go_back_twice(pointer: ModelPointer, promote: Any) -> None:
    for version in ("v1", "v2", "v3"):
        promote(version)
    pointer.rollback(3)
    with pytest.raises(StaleGeneration, match="generation 4 is in service, not 3"):
        pointer.rollback(3)
    assert pointer.current() == ("v2", 4)


def test_of_many_at_once_one_is_promoted(pointer: ModelPointer) -> None:
    gates = {f"v{number}": gate(pointer, f"v{number}") for number in range(8)}
    start, won = threading.Barrier(8), []

    def race(version: str) -> None:
        start.wait(10)
        if pointer.promote(version, 0, gates[version]):
            won.append(version)

    threads = [threading.Thread(target=race, args=(version,)) for version in gates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(won) == 1
    assert pointer.current() == (won[0], 1)


def test_queue_and_pointer_share_a_file(url: str, people: Any, promote: Any) -> None:
    people.enqueue("a")
    promote("v1")
    other = ModelPointer.open(url)
    assert other.current() == ("v1", 1)
    other.close()


KILLED_AFTER_THE_SWAP = """
import sys
from storage.queue.pointer import ModelPointer
ModelPointer.open(sys.argv[1]).promote("v1", 0, 1)
"""


def test_a_promotion_whose_answer_is_lost_stands(pointer: ModelPointer, url: str) -> None:
    passed = gate(pointer, "v1")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_THE_SWAP, url],
        env={**os.environ, VARIABLE: "promote.after_cas"},
        check=False,
    )
    assert killed.returncode == EXIT_CODE
    assert pointer.current() == ("v1", 1)
    assert pointer.promote("v1", 0, passed) is True
    assert len(pointer.history()) == 1
