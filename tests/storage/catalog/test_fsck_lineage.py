"""What `fsck` knows of lineage: gold trains nothing, revoked masks stand for and train nothing."""

from typing import Any

import pytest

from storage.catalog import fsck
from storage.catalog.lake import Lake
from storage.rows import ExportRow, RetractionRow, Row, TrainingSetRow, mask_id


class Inspector:
    """Knows the masks of `make.mask`."""

    def box_and_area(self, _size: tuple[int, int], _counts: str) -> tuple[list[float], int]:
        return [1.0, 2.0, 3.0, 4.0], 12


def taken(make: Any, name: str, **more: Any) -> RetractionRow:
    return RetractionRow(mask_id=mask_id(name), run_id="run", created_at=make.now, **more)


def learnt(image_id: str, *masks: str, num_masks: int | None = None) -> TrainingSetRow:
    ids = [mask_id(name) for name in masks]
    number = len(ids) if num_masks is None else num_masks
    return TrainingSetRow(version="v1", image_id=image_id, num_masks=number, mask_ids=ids)


def export(make: Any, run_id: str) -> ExportRow:
    return ExportRow(
        export_id="e",
        snapshot=1,
        format="coco",
        options="{}",
        num_images=0,
        num_masks=0,
        file_name="out.json",
        sha256="0" * 64,
        bytes=0,
        run_id=run_id,
        created_at=make.now,
    )


def breaches(lake: Lake) -> set[tuple[str, str, str]]:
    found = fsck.check(lake, current=lambda: None, submissions=list, inspect=Inspector())
    of_models = {"I9"}
    return {(b.invariant, b.where, b.message) for b in found if b.invariant not in of_models}


@pytest.fixture
def sound(lake: Lake, put: Any, make: Any) -> Lake:
    put(
        make.run("run"),
        make.image("a"),
        make.image("gold", split="gold", group_id="near"),
        make.model("v1", status="retired", training_snapshot=2),
        make.mask("kept", "a"),
        make.mask("revoked", "a"),
        # Revoked after v1 had learnt from it, which is how it may be.
        taken(make, "revoked", cause="annotator ada", snapshot=2),
        learnt("a", "kept", "revoked"),
        export(make, "run"),
    )
    return lake


def test_a_sound_line_has_no_breach(sound: Lake) -> None:
    assert breaches(sound) == set()


def test_each_breach_is_named(sound: Lake, put: Any, make: Any) -> None:
    rows: list[Row] = [
        make.image("twin", split="train", group_id="near"),
        make.mask("early", "a"),
        make.mask("by nobody", "a"),
        taken(make, "early", cause="run r", snapshot=1),
        taken(make, "by nobody"),
        learnt("gold"),
        learnt("twin", num_masks=2),
        learnt("a", "early"),
        export(make, "gone"),
    ]
    put(*rows)
    assert breaches(sound) == {
        ("gold", "image gold", "is gold, and v1 was trained on it (itself)"),
        ("gold", "image gold", "is gold, and v1 was trained on it (near-duplicate twin)"),
        (
            "retired",
            f"mask {mask_id('early')}",
            "was revoked (run r), and v1 was trained on it after that",
        ),
        (
            "retired",
            f"mask {mask_id('by nobody')}",
            "must have been taken away by an answer, or revoked: one of both",
        ),
        ("I6", "image twin", "v1 was trained on 0 masks of it, its row says 2"),
        ("I1", "exports e", "is there 2 times"),
        ("I2", "exports.run_id gone", "refers to a row of runs that is not there"),
    }


def test_a_view_that_lets_a_revoked_mask_stand_is_a_breach(sound: Lake) -> None:
    def spoil(tx: Any) -> None:
        tx.execute("DROP VIEW current_masks")
        tx.execute("CREATE VIEW current_masks AS FROM masks")

    sound.commit(spoil, message="as no maskloop makes it")
    [(invariant, where, message)] = breaches(sound)
    assert (invariant, where) == ("retired", f"mask {mask_id('revoked')}")
    assert message == "was taken away, and yet it stands"
