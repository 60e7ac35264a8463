"""`maskloop diff`: what changed between two snapshots, as a slow look at both of them has it."""

from collections.abc import Callable
from typing import Any

import pytest

from flows.errors import UsageError
from flows.lineage.diffing import Change, diff
from storage.rows import RetractionRow, mask_id, utcnow


def told(found: Any, names: dict[str, str]) -> dict[str, set[tuple[Any, ...]]]:
    """kind -> {(old names, new names)}."""
    made: dict[str, set[tuple[Any, ...]]] = {}
    for change in found.changes:
        pair = (
            tuple(names[each] for each in change.old),
            tuple(names[each] for each in change.new),
        )
        made.setdefault(change.kind, set()).add(pair)
    return made


def standing(looked_at: Any, snapshot: int, names: dict[str, str]) -> set[str]:
    rows = looked_at.workspace.lake.rows("SELECT mask_id FROM current_masks", snapshot=snapshot)
    return {names[row["mask_id"]] for row in rows}


def test_a_turn_adds_changes_and_replaces(looked_at: Any, names: dict[str, str]) -> None:
    found = diff(looked_at.workspace, *looked_at.ended[:2])
    made = told(found, names)
    assert made["added"] == {((), ("ada2",)), ((), ("bob2",))}
    # The model in service changed, and its mask lies on the earlier one's.
    assert made["changed"] == {(("ada1",), ("over",)), (("auto1",), ("auto2",))}
    ious = {names[change.new[0]]: change.iou for change in found.changes if change.iou}
    assert ious == {"over": pytest.approx(0.9), "auto2": pytest.approx(6 / 10)}


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 2), (1, 2), (2, 0)])
def test_it_is_the_difference_of_two_slow_looks(
    looked_at: Any, names: dict[str, str], start: int, end: int
) -> None:
    first, last = looked_at.ended[start], looked_at.ended[end]
    found = diff(looked_at.workspace, first, last)
    before, after = (standing(looked_at, number, names) for number in (first, last))
    assert {names[one] for change in found.changes for one in change.old} == before - after
    assert {names[one] for change in found.changes for one in change.new} == after - before


def test_nothing_changes_within_a_snapshot(looked_at: Any) -> None:
    found = diff(looked_at.workspace, looked_at.ended[1], looked_at.ended[1])
    assert found.changes == ()
    assert found.groups("stage") == []


def test_splits_merges_and_what_a_revocation_restores(
    turned: Any, names: dict[str, str], insert: Callable[..., None], drawn_mask: Callable[..., Any]
) -> None:
    lake, before = turned.workspace.lake, turned.workspace.lake.snapshot()
    taken = [
        RetractionRow(mask_id=mask_id(name), submission_id="s", run_id="r", created_at=utcnow())
        for name in ("bob3", "ada2", "bob2")
    ]
    revoked = RetractionRow(
        mask_id=mask_id("over"), run_id="r", created_at=utcnow(), cause="run r", snapshot=before
    )
    pieces = [
        drawn_mask("upper", "a3", "manual", (15, 1, 25, 6), run_id="merge3"),
        drawn_mask("lower", "a3", "manual", (15, 6, 25, 11), run_id="merge3"),
        drawn_mask("both", "a2", "manual", (1, 1, 25, 11), run_id="merge3"),
    ]
    insert(turned.workspace, *taken, revoked, *pieces)
    more = {mask_id(name): name for name in ("upper", "lower", "both")}
    made = told(diff(turned.workspace, before, lake.snapshot()), names | more)
    assert {
        kind: {tuple(map(frozenset, pair)) for pair in pairs} for kind, pairs in made.items()
    } == {
        "split": {(frozenset({"bob3"}), frozenset({"upper", "lower"}))},
        "merged": {(frozenset({"ada2", "bob2"}), frozenset({"both"}))},
        "changed": {(frozenset({"over"}), frozenset({"ada1"}))},
    }


def test_a_chain_of_masks_in_between_is_one_change(
    turned: Any, names: dict[str, str], insert: Callable[..., None], drawn_mask: Callable[..., Any]
) -> None:
    chain = [("ada1", "over"), ("over", "third"), ("third", "fourth")]
    for earlier, later in chain[1:]:
        # Elsewhere, so that nothing but the chain connects them.
        row = drawn_mask(
            later, "a1", "manual", (1, 12, 9, 18), run_id="m", supersedes=mask_id(earlier)
        )
        insert(turned.workspace, row)
    more = {mask_id(name): name for name in ("third", "fourth")}
    found = diff(turned.workspace, turned.ended[0], turned.workspace.lake.snapshot())
    assert (("ada1",), ("fourth",)) in told(found, names | more)["changed"]


def test_groups_count_by_image_stage_and_model(looked_at: Any) -> None:
    found = diff(looked_at.workspace, *looked_at.ended[:2])
    by_image = {row["image"]: row for row in found.groups("image")}
    assert {name: (row["added"], row["changed"]) for name, row in by_image.items()} == {
        "a1": (0, 1),
        "a2": (2, 0),
        "auto": (0, 1),
    }
    assert {row["stage"] for row in found.groups("stage")} == {"auto", "manual", "semi"}
    assert {row["model"] for row in found.groups("model")} == {"", "v2", "v3"}
    plain = found.to_dict("model")
    assert (plain["images"], plain["added"], plain["changed"]) == (3, 2, 2)
    assert plain["mean_iou"] == pytest.approx(0.75)
    assert len(plain["changes"]) == len(found.changes)
    assert isinstance(found.changes[0], Change)


@pytest.mark.parametrize("number", [0, 999])
def test_a_snapshot_that_there_is_not_is_named(looked_at: Any, number: int) -> None:
    with pytest.raises(UsageError, match=f"from 1 to [0-9]+, but got {number}"):
        diff(looked_at.workspace, 1, number)
