"""A sound store has no breach, and each way to break it is seen and named."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from storage.catalog import fsck, shards
from storage.catalog.fsck import Breach
from storage.catalog.lake import Lake
from storage.objects import Objects
from storage.rows import (
    AgreementRow,
    DecisionRow,
    EmbeddingRow,
    MaskLabelRow,
    RetractionRow,
    ReviewRow,
    SuppressionRow,
    TrainingSetRow,
    WatermarkRow,
    mask_id,
)


@dataclass(frozen=True)
class Submitted:
    seq: int
    submission_id: str
    body_sha: str = "b" * 64


class Inspector:
    """Knows one good mask: 12 pixels in the box that `make.mask` writes."""

    def box_and_area(self, size: tuple[int, int], counts: str) -> tuple[list[float], int]:
        assert size == (20, 30)
        if counts == "broken":
            raise ValueError("the runs add up to 7 pixels, not 600")
        return [1.0, 2.0, 3.0, 4.0], 12


@dataclass
class Case:
    """A store, and what the queue says beside it."""

    lake: Lake
    objects: Objects
    make: Any
    current: tuple[str, int] | None
    submissions: list[Submitted]

    def put(self, *rows: Any) -> None:
        self.lake.commit(lambda tx: tx.insert(rows), message="test")

    def sql(self, statement: str) -> None:
        self.lake.commit(lambda tx: tx.execute(statement), message="test")

    def check(self) -> list[Breach]:
        return fsck.check(
            self.lake,
            current=lambda: self.current,
            submissions=lambda: self.submissions,
            inspect=Inspector(),
        )

    def shard_file(self, column: str) -> str:
        row = self.lake.rows(f"SELECT {column} AS uri FROM shards WHERE state = 'committed'")[0]
        return str(row["uri"])

    def overwrite(self, uri: str, data: bytes) -> None:
        self.objects.remove(uri)
        self.objects.put(uri, data)

    def flip(self, uri: str) -> None:
        data = bytearray(self.objects.get(uri, sha256=self.objects.sha256(uri)))
        data[-20] ^= 1
        self.overwrite(uri, bytes(data))


def review(make: Any, seq: int, **changes: Any) -> ReviewRow:
    values = {"submission_id": f"s{seq}", "body_sha256": "b" * 64} | changes
    return ReviewRow(
        image_id="a",
        item_id="i",
        annotator="ann",
        model_version="v1",
        run_id="run",
        seq=seq,
        num_proposals=0,
        num_accepted=0,
        num_edited=0,
        num_rejected=0,
        num_added=0,
        num_clicks=0,
        submitted_at=make.now,
        **values,
    )


def decision(action: str, **changes: Any) -> DecisionRow:
    return DecisionRow(
        proposal_id="p",
        submission_id="s1",
        image_id="a",
        model_version="v1",
        action=action,
        run_id="run",
        **changes,
    )


def agreement(make: Any, **changes: Any) -> AgreementRow:
    row = AgreementRow(
        submission_id="s1",
        image_id="a",
        annotator="ann",
        kind="second",
        mean_iou=0.5,
        f1_50=0.5,
        num_masks=1,
        num_reference_masks=2,
        num_matched=1,
        is_disputed=True,
        run_id="run",
        created_at=make.now,
    )
    return replace(row, **changes)


def retraction(make: Any, **changes: Any) -> RetractionRow:
    row = RetractionRow(
        mask_id=mask_id("label"), submission_id="s1", run_id="run", created_at=make.now
    )
    return replace(row, **changes)


@pytest.fixture
def case(lake: Lake, make: Any) -> Case:
    objects = lake.objects
    weights = objects.put("models/w.safetensors", b"weights")
    embedding = objects.put("embeddings/enc/a.safetensors", b"embedding")
    case = Case(lake, objects, make, ("v1", 1), [Submitted(1, "s1"), Submitted(2, "s2")])
    row = make.shard("k", ["a", "b"])
    case.put(
        make.run("run"),
        make.image("a"),
        make.image("b"),
        make.image("g", split="gold"),
        make.model("v1", weights_uri=weights.uri, weights_sha256=weights.sha256),
        make.mask("label", "a"),
        make.mask("gold", "g"),
        make.mask("retracted", "a"),
        agreement(make),
        retraction(make, mask_id=mask_id("retracted")),
        TrainingSetRow(version="v1", image_id="a", num_masks=1),
        EmbeddingRow(
            image_id="a",
            encoder_id="enc",
            uri=embedding.uri,
            sha256=embedding.sha256,
            bytes=embedding.bytes,
            created_at=make.now,
        ),
        review(make, 1),
        WatermarkRow(name="submissions", seq=1, updated_at=make.now),
        row,
        make.shard("waits", ["c"]),
    )
    shards.commit_shards(lake, [make.work(lake, row)])
    return case


@pytest.mark.places("folder", "team")
def test_a_sound_store_has_no_breach(case: Case) -> None:
    assert case.check() == []


def leave(case: Case, uri: str) -> None:
    """A file that nobody has touched for days."""
    case.objects.put(uri, b"left behind")
    old = time.time() - 4 * 24 * 3600
    os.utime(case.objects.address(uri), (old, old))


Break = tuple[str, str, Callable[[Case], object]]

# Everything here is done to one store at once; what would hide another breach is below.
FIRST: dict[str, Break] = {
    "a set twice": ("I1", "image a", lambda c: c.put(c.make.image_set("k", "a", 2))),
    "a mask twice": ("I1", "masks", lambda c: c.put(c.make.mask("label", "a"))),
    "an image twice": ("I1", "images a", lambda c: c.put(c.make.image("a"))),
    "a set without a shard": ("I1b", "shard l", lambda c: c.put(c.make.image_set("l", "g", 0))),
    "a mask of an unknown model": (
        "I2",
        "masks.model_version v7",
        lambda c: c.put(c.make.mask("x", "a", model_version="v7")),
    ),
    "a mask of an unknown image": (
        "I2",
        "masks.image_id z",
        lambda c: c.put(c.make.mask("x", "z")),
    ),
    "a label without a mask": (
        "I2",
        "mask_labels.mask_id z",
        lambda c: c.put(
            MaskLabelRow(mask_id="z", category="cat", score=1.0, created_at=c.make.now)
        ),
    ),
    "a suppression without a mask": (
        "I2",
        "suppressions.mask_id z",
        lambda c: c.put(SuppressionRow(mask_id="z", by_mask_id="z", iou=1.0, run_id="run")),
    ),
    "a decision whose mask is gone": (
        "I2",
        "decisions.mask_id z",
        lambda c: c.put(decision("accepted", mask_id="z")),
    ),
    "a withheld proposal that became a mask": (
        "withheld",
        "proposal p",
        lambda c: c.put(decision("withheld", mask_id=mask_id("label"))),
    ),
    "an agreement of no answer": (
        "I2",
        "agreements.submission_id s8",
        lambda c: c.put(agreement(c.make, submission_id="s8")),
    ),
    "an agreement with no answer": (
        "I2",
        "agreements.reference_submission_id s7",
        lambda c: c.put(agreement(c.make, reference_submission_id="s7")),
    ),
    "an agreement twice": ("I1", "agreements s1", lambda c: c.put(agreement(c.make))),
    "a retraction by no answer": (
        "I2",
        "retractions.submission_id s6",
        lambda c: c.put(retraction(c.make, submission_id="s6")),
    ),
    "a retraction of no mask": (
        "I2",
        "retractions.mask_id z",
        lambda c: c.put(retraction(c.make, mask_id="z")),
    ),
    "a retraction twice": (
        "I1",
        "retractions " + mask_id("label"),
        lambda c: c.put(*[retraction(c.make)] * 2),
    ),
    "a submission merged too early": ("I3", "s2", lambda c: c.put(review(c.make, 2))),
    "a submission merged twice": ("I3", "s1", lambda c: c.put(review(c.make, 1))),
    "a submission that nobody made": (
        "I3",
        "s9",
        lambda c: c.put(review(c.make, 9, submission_id="s9")),
    ),
    "another body than was submitted": (
        "I3",
        "s1",
        lambda c: c.sql("UPDATE reviews SET body_sha256 = 'x'"),
    ),
    "a shard's file that changed": ("I7", "shard k", lambda c: c.flip(c.shard_file("mask_uri"))),
    "an embedding that is gone": (
        "I7",
        "embedding of image a",
        lambda c: c.objects.remove("embeddings/enc/a.safetensors"),
    ),
    "an old file without a name": (
        "I8",
        "lake/, models/",
        lambda c: leave(c, "lake/main/masks/x.parquet"),
    ),
    "weights that changed": (
        "I9",
        "model v1",
        lambda c: c.overwrite("models/w.safetensors", b"weightz"),
    ),
    "nothing promoted": (
        "I9",
        "model_versions.status",
        lambda c: c.sql("UPDATE model_versions SET status = 'retired'"),
    ),
    "a control that serves": (
        "I9",
        "model v1",
        lambda c: c.sql("UPDATE model_versions SET role = 'control'"),
    ),
    "a broken mask": (
        "I11",
        "mask",
        lambda c: c.put(c.make.mask("x", "a", segmentation={"size": [20, 30], "counts": "broken"})),
    ),
    "a mask of another size": (
        "I11",
        "mask",
        lambda c: c.put(c.make.mask("x", "a", segmentation={"size": [30, 20], "counts": "x"})),
    ),
    "a mask with another area": (
        "I11",
        "mask",
        lambda c: c.put(c.make.mask("x", "a", area=13)),
    ),
    "a mask with another box": (
        "I11",
        "mask",
        lambda c: c.put(c.make.mask("x", "a", bbox=[0.0, 2.0, 3.0, 4.0])),
    ),
    "a path of a machine": (
        "I12",
        "images.uri",
        lambda c: c.sql("UPDATE images SET uri = '/data/a.png' WHERE image_id = 'a'"),
    ),
    "a gold image that trained": (
        "gold",
        "image g",
        lambda c: c.put(TrainingSetRow(version="v1", image_id="g", num_masks=1)),
    ),
}

SECOND: dict[str, Break] = {
    "a planned image without a set": (
        "I1b",
        "shard k",
        lambda c: c.sql("DELETE FROM image_sets WHERE image_id = 'a'"),
    ),
    "a submission that was not merged": ("I3", "s1", lambda c: c.sql("DELETE FROM reviews")),
    "a mask that is missing from a shard": (
        "I6",
        "shard k",
        lambda c: c.sql("DELETE FROM masks WHERE shard_key = 'k' AND image_id = 'a'"),
    ),
    "a mask of a shard that was not committed": (
        "I6",
        "shard waits",
        lambda c: c.put(c.make.auto_mask("waits", "a", 9)),
    ),
    "weights that are gone": (
        "I9",
        "model v1",
        lambda c: c.objects.remove("models/w.safetensors"),
    ),
    "another model promoted": (
        "I9",
        "model_versions.status",
        lambda c: setattr(c, "current", ("v2", 2)),
    ),
}


THIRD: dict[str, Break] = {
    "a shard's file that is gone": (
        "I7",
        "shard k",
        lambda c: c.objects.remove(c.shard_file("set_uri")),
    ),
}


@pytest.mark.places("folder", "team", slow=True)
@pytest.mark.parametrize("breaks", [FIRST, SECOND, THIRD], ids=["first", "second", "third"])
def test_each_breach_is_named(case: Case, breaks: dict[str, Break]) -> None:
    if case.lake.place.in_s3:
        # There the server alone says when a file was written.
        breaks = {name: done for name, done in breaks.items() if done[0] != "I8"}
    for _, _, break_it in breaks.values():
        break_it(case)
    found = case.check()
    assert all(breach.message for breach in found)
    unseen = [
        name
        for name, (invariant, where, _) in breaks.items()
        if not any(b.invariant == invariant and where in b.where for b in found)
    ]
    assert unseen == [], found


def test_a_lost_data_file_is_named_and_the_rest_is_still_checked(case: Case, make: Any) -> None:
    case.put(*(make.mask(f"many {number}", "a") for number in range(50)))
    lost = next((case.lake.root / "lake" / "main" / "masks").glob("ducklake-*.parquet"))
    lost.unlink()
    case.objects.remove("models/w.safetensors")
    found = case.check()
    name = lost.relative_to(case.lake.root)
    assert Breach("I7", f"file {name}", "a snapshot needs it and it is gone") in found
    assert any(breach.invariant == "I9" for breach in found)
    assert found[0].to_dict()["where"] == f"file {name}"


def test_a_young_file_without_a_name_is_no_breach(case: Case) -> None:
    (case.lake.root / "models" / "new.tmp").write_bytes(b"being written")
    assert case.check() == []
