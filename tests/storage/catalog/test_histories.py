"""Any history of commits reads as a list of dictionaries would, at every snapshot of it.

DuckLake keeps small inserts in its catalog and large ones in files, and changes rows by listing the
old ones as deleted: the mixtures are what this tries.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest

from storage.catalog.lake import Lake, Transaction
from storage.rows import TrainingSetRow

State = dict[str, int]


def step(rng: random.Random, state: State) -> tuple[State, Callable[[Transaction], object]]:
    """The state after a random change, and the change."""
    kind = rng.choice(["few", "few", "many", "update", "update one", "delete"])
    if kind in ("few", "many"):
        number = rng.randint(1, 4) if kind == "few" else rng.randint(11, 60)
        new = {f"i{len(state) + n}-{rng.random()}": rng.randint(0, 9) for n in range(number)}
        rows = [TrainingSetRow(version="v", image_id=k, num_masks=v) for k, v in new.items()]
        return state | new, lambda tx: tx.insert(rows)
    if kind == "update one" and state:
        one = rng.choice(sorted(state))
        sql = "UPDATE training_sets SET num_masks = num_masks + 1 WHERE image_id = ?"
        return state | {one: state[one] + 1}, lambda tx: tx.execute(sql, [one])
    value = rng.randint(0, 9)
    if kind == "delete":
        kept = {key: number for key, number in state.items() if number != value}
        sql = "DELETE FROM training_sets WHERE num_masks = ?"
        return kept, lambda tx: tx.execute(sql, [value])
    grown = {key: 5 if number == value else number for key, number in state.items()}
    sql = "UPDATE training_sets SET num_masks = 5 WHERE num_masks = ?"
    return grown, lambda tx: tx.execute(sql, [value])


def stored(lake: Lake, **options: Any) -> list[tuple[str, int]]:
    rows = lake.rows("SELECT image_id, num_masks FROM training_sets", **options)
    return sorted((row["image_id"], row["num_masks"]) for row in rows)


def run_history(lake: Lake, seed: int, num_steps: int) -> None:
    rng = random.Random(seed)
    state: State = {}
    history = {lake.snapshot(): state}
    for _ in range(num_steps):
        state, change = step(rng, state)
        lake.commit(change, message="test")
        assert stored(lake) == sorted(state.items())
        history[lake.snapshot()] = state
    for snapshot in rng.sample(sorted(history), min(20, len(history))):
        assert stored(lake, snapshot=snapshot) == sorted(history[snapshot].items())


@pytest.mark.places("folder", "team", slow=True)
def test_a_short_history(lake: Lake) -> None:
    run_history(lake, seed=1, num_steps=15)


@pytest.mark.places("folder", "team", slow=True)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 4))
def test_a_long_history(lake: Lake, seed: int) -> None:
    run_history(lake, seed, num_steps=60)
