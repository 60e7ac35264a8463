"""`maskloop label` and `maskloop search`: names, suggestions, and masks found by likeness."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.clip.classes import ClassPrompts
from engine.clip.config import ClipConfig
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.drawing.kinds import KINDS
from flows.clip.labelling import LabelOutcome, label_stage
from flows.clip.searching import search
from flows.errors import UsageError
from flows.progress import Silent
from flows.upkeep.checking import fsck
from flows.upkeep.forgetting import forget
from flows.workspace import Workspace
from storage.catalog.forgetting import trace
from storage.rows import MaskLabelRow, utcnow

NAMES = ("ball | sphere", *sorted(KINDS.keys() - {"ball"}))
CLASSES = ClassPrompts.parse(NAMES, ["a photo of a {}.", "a {}"])
Label = Callable[..., LabelOutcome]


@pytest.fixture(scope="module")
def encoder() -> MaskEncoder:
    """Of random weights: what it says is arbitrary, and always the same."""
    words = [text for group in CLASSES.prompts() for text in group]
    return MaskEncoder(Clip.new(ClipConfig(tokens=tokens_of(words)), seed=0))


@pytest.fixture
def label(filled: Workspace, encoder: MaskEncoder) -> Label:
    def call(prompts: ClassPrompts = CLASSES, **options: object) -> LabelOutcome:
        return label_stage(filled, encoder, prompts, Silent(), **options)

    return call


def num_all(workspace: Workspace) -> int:
    return int(workspace.lake.rows("SELECT count(*) AS n FROM current_masks")[0]["n"])


def unname(workspace: Workspace) -> int:
    """As if the file had named few masks; returns how many others there are."""
    which = "mask_labels WHERE mask_id >= '4'"
    num = int(workspace.lake.rows(f"SELECT count(*) AS n FROM {which}")[0]["n"])
    workspace.lake.commit(lambda tx: tx.execute(f"DELETE FROM {which}"), message="unnamed")
    assert 10 < num < num_all(workspace) - 3
    return num


def suggested(workspace: Workspace) -> list[dict[str, Any]]:
    return workspace.lake.rows(
        "SELECT * FROM mask_labels WHERE classes_hash IS NOT NULL ORDER BY score"
    )


def test_every_mask_without_a_name_gets_a_suggestion(filled: Workspace, label: Label) -> None:
    num = unname(filled)
    before = filled.lake.rows("SELECT * FROM mask_names ORDER BY mask_id")
    outcome = label()
    assert outcome.num_seen == num_all(filled)
    assert outcome.num_reviewed == num_all(filled) - num
    assert outcome.num_named + outcome.num_none == num
    rows = suggested(filled)
    assert len(rows) == num
    assert {row["category"] for row in rows} <= {*KINDS, None}
    assert {row["category"] for row in rows} != {None}
    assert all(1 / (len(KINDS) + 1) <= row["score"] <= 1 for row in rows)
    assert {row["accepted_by"] for row in rows} == {None}
    assert {row["run_id"] for row in rows} == {outcome.run_id}
    assert filled.lake.rows("SELECT * FROM mask_names ORDER BY mask_id") == before, (
        "suggestions are no facts"
    )
    assert fsck(filled) == []


def test_asked_again_it_has_nothing_to_do_and_new_classes_need_no_image(
    filled: Workspace, label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    unname(filled)
    first = label()
    # What was seen once is compared only: no image is read again.
    monkeypatch.setattr(Workspace, "reader", _Unread())
    again = label()
    assert (again.num_seen, again.num_named, again.num_none) == (0, 0, 0)
    others = label(ClassPrompts.parse(["star", "leaf"]))
    assert others.num_seen == 0
    assert others.num_named + others.num_none == first.num_named + first.num_none
    assert others.classes_hash != first.classes_hash


def test_words_that_were_never_learnt_are_said(filled: Workspace, encoder: MaskEncoder) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    def said(*names: str) -> list[str]:
        heard = Heard()
        label_stage(filled, encoder, ClassPrompts.parse(names), heard)
        return [note for note in heard.notes if note.startswith("names of classes")]

    assert said(*NAMES) == []
    [note] = said("ball", "saxophone")
    assert "it never learnt 'saxophone'; use other words" in note


class _Unread:
    """A reader of images that nobody may ask."""

    sources = None
    remote = None


def test_what_a_person_or_a_file_named_is_not_asked(filled: Workspace, label: Label) -> None:
    before = filled.lake.rows("SELECT mask_id, category FROM mask_names ORDER BY 1")
    assert len(before) == num_all(filled)
    outcome = label()
    assert (outcome.num_seen, outcome.num_named, outcome.num_none) == (len(before), 0, 0)
    assert outcome.num_reviewed == len(before)
    assert filled.lake.rows("SELECT mask_id, category FROM mask_names ORDER BY 1") == before


def test_a_threshold_accepts_what_is_sure_enough_also_of_earlier_runs(
    filled: Workspace, label: Label
) -> None:
    unname(filled)
    label()
    named = [row for row in suggested(filled) if row["category"] is not None]
    threshold = named[len(named) // 2]["score"]
    sure = {row["mask_id"]: row["category"] for row in named if row["score"] >= threshold}
    outcome = label(accept=threshold)
    assert outcome.num_accepted == len(sure)
    rows = filled.lake.rows("SELECT * FROM mask_names WHERE classes_hash IS NOT NULL")
    assert {row["mask_id"]: row["category"] for row in rows} == sure
    assert {row["accepted_by"] for row in rows} == {f"threshold {threshold:g}"}
    assert label(accept=threshold).num_accepted == 0


def test_a_person_s_name_comes_before_the_threshold_s(filled: Workspace, label: Label) -> None:
    unname(filled)
    label(accept=0.01)
    mask_id = suggested(filled)[-1]["mask_id"]
    person = MaskLabelRow(
        mask_id=mask_id, category="stone", score=1.0, accepted_by="ada", created_at=utcnow()
    )
    filled.lake.commit(lambda tx: tx.insert([person]), message="a person says otherwise")
    label(redo=True, accept=0.01)
    found = filled.lake.rows(
        "SELECT category, accepted_by FROM mask_names WHERE mask_id = ?", (mask_id,)
    )
    assert found == [{"category": "stone", "accepted_by": "ada"}]


def test_an_image_that_is_gone_is_named_and_the_others_are_done(
    filled: Workspace, label: Label
) -> None:
    unname(filled)
    row = filled.lake.rows(
        "SELECT i.file_name, i.uri, count(*) AS n FROM current_masks JOIN images i "
        "USING (image_id) GROUP BY ALL ORDER BY 1 LIMIT 1"
    )[0]
    path = Path(str(filled.reader.sources.place(row["uri"])))
    kept = path.read_bytes()
    path.unlink()
    try:
        outcome = label()
    finally:
        path.write_bytes(kept)
    assert len(outcome.unread) == 1
    assert row["file_name"] in outcome.unread[0]
    assert outcome.num_seen == num_all(filled) - row["n"]
    assert label().num_seen == row["n"], "the next run does what was left"


@pytest.mark.parametrize("accept", [0.0, 1.5])
def test_a_threshold_that_is_no_probability_is_refused(label: Label, accept: float) -> None:
    with pytest.raises(UsageError, match="--accept: must be above 0"):
        label(accept=accept)


def test_a_search_finds_what_is_nearest(
    filled: Workspace, label: Label, encoder: MaskEncoder
) -> None:
    label()
    rows = filled.lake.rows("SELECT mask_id, vector FROM mask_vectors")
    vectors = {row["mask_id"]: np.frombuffer(row["vector"], "<f2") for row in rows}
    query = encoder.clip.embed_texts(["a leaf"])[0]
    expected = sorted(vectors, key=lambda name: -float(vectors[name].astype(float) @ query))
    hits = search(filled, encoder, text="a leaf", count=5)
    with pytest.raises(UsageError, match=r"TEXT must be of words .* it never learnt 'teapot'"):
        search(filled, encoder, text="a teapot")
    assert [hit.mask_id for hit in hits] == expected[:5]
    assert hits[0].similarity == pytest.approx(float(vectors[expected[0]] @ query), abs=2e-3)
    assert hits[0].category is not None
    everything = search(filled, encoder, text="a leaf", count=10_000)
    assert len(everything) == len(vectors)


def test_what_is_like_a_mask_is_not_that_mask(
    filled: Workspace, label: Label, encoder: MaskEncoder
) -> None:
    label()
    mask_id = filled.lake.rows("SELECT min(mask_id) AS name FROM mask_vectors")[0]["name"]
    hits = search(filled, encoder, like=mask_id, count=3)
    assert len(hits) == 3
    assert mask_id not in {hit.mask_id for hit in hits}
    assert hits[0].similarity >= hits[1].similarity >= hits[2].similarity


def test_a_mask_that_was_retired_is_found_no_more(
    filled: Workspace, label: Label, encoder: MaskEncoder
) -> None:
    label()
    best = search(filled, encoder, text="a leaf", count=1)[0]
    filled.lake.commit(
        lambda tx: tx.execute("DELETE FROM masks WHERE mask_id = ?", (best.mask_id,)),
        message="gone",
    )
    hits = search(filled, encoder, text="a leaf", count=10_000)
    assert best.mask_id not in {hit.mask_id for hit in hits}
    assert len(hits) == num_all(filled)


def test_nothing_is_left_of_an_image_that_is_forgotten(
    filled: Workspace, label: Label, encoder: MaskEncoder
) -> None:
    label()
    best = search(filled, encoder, text="a leaf", count=1)[0]
    forget(filled, trace(filled.lake, best.image_id))
    assert not filled.lake.rows("SELECT 1 FROM mask_vectors WHERE image_id = ?", (best.image_id,))
    kept = [path for path in filled.root.rglob("*") if path.is_file()]
    assert not [path for path in kept if best.mask_id.encode() in path.read_bytes()]
    assert not [path for path in kept if np.str_(best.mask_id).tobytes() in path.read_bytes()]


def test_a_search_in_vain_says_what_to_do(filled: Workspace, encoder: MaskEncoder) -> None:
    with pytest.raises(UsageError, match="run: maskloop label"):
        search(filled, encoder, text="a leaf")
    with pytest.raises(UsageError, match="takes a text, or --like"):
        search(filled, encoder)
