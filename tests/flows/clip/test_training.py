"""A CLIP's training: pairs out of folders, tables and the store; goes on; says what is wrong."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.clip.card import read_card
from engine.clip.views import ViewsConfig
from engine.clip.weights import load, load_with_card
from engine.images import DEFAULT_LIMITS
from flows.clip.pairs import file_pairs
from flows.clip.store_pairs import store_pairs
from flows.clip.training import ClipTrainRequest, train_on_files, train_on_store
from flows.errors import UsageError
from flows.images.sources import ImageReader, Sources
from flows.progress import Silent
from flows.settings import ClipSettings
from flows.workspace import Workspace

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 210)}
READER = ImageReader(Sources(), DEFAULT_LIMITS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 pictures with captions; every fourth has two."""
    where = tmp_path / "captioned"
    (where / "below").mkdir(parents=True)
    for number in range(24):
        colour = list(COLOURS)[number % 3]
        picture = np.random.default_rng(number).integers(0, 40, (30, 40, 3), dtype=np.uint8)
        picture[5:25, 5:20] = COLOURS[colour]
        path = where / ("below" if number % 2 else ".") / f"{number:02}.png"
        Image.fromarray(picture).save(path)
        second = "\n\na box\n" if number % 4 == 0 else ""
        path.with_suffix(".txt").write_text(f"a {colour} box{second}")
    return where


def listed(folder: Path) -> list[tuple[str, str]]:
    """(uri from the folder above, text) of every caption."""
    return [
        (path.with_suffix(".png").relative_to(folder.parent).as_posix(), line)
        for path in sorted(folder.rglob("*.txt"))
        for line in path.read_text().splitlines()
        if line
    ]


def as_csv(folder: Path) -> Path:
    path = folder.parent / "pairs.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "uri"), *((b, a) for a, b in listed(folder))])
    return path


def as_parquet(folder: Path) -> Path:
    path = folder.parent / "pairs.parquet"
    uris, texts = zip(*listed(folder), strict=True)
    absolute = [str(folder.parent / uris[0]), *uris[1:]]
    pq.write_table(pa.table({"uri": absolute, "text": list(texts), "more": [1] * len(uris)}), path)
    return path


def request(out: Path, **options: Any) -> ClipTrainRequest:
    given: dict[str, Any] = {"steps": 4, "batch": 6, "holdout": 0.3, "fresh": True}
    return ClipTrainRequest(
        out=out, start=ClipSettings(), said_in="--clip", device="cpu", **{**given, **options}
    )


def test_a_folder_a_csv_and_a_parquet_of_the_same_pairs_give_the_same(
    folder: Path, tmp_path: Path
) -> None:
    outcomes = []
    for number, where in enumerate((folder, as_csv(folder), as_parquet(folder))):
        out = tmp_path / f"{number}.safetensors"
        outcomes.append(train_on_files(where, READER, request(out), Silent()))
    first = outcomes[0]
    assert {outcome.sha256 for outcome in outcomes} == {first.sha256}
    assert first.num_images == 24
    held = first.num_held_out
    assert 2 <= held <= 12
    assert first.num_pairs + held <= 30
    assert first.before is not None
    assert first.after is not None
    assert first.after.recall is not None
    assert first.after.accuracy is None, "captions are no classes"
    assert not list(tmp_path.glob("*.checkpoint")), "what is finished needs none"


def test_the_weights_have_a_card_with_the_marks_of_their_exam(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours.safetensors"
    outcome = train_on_files(folder, READER, request(out, made_by="by hand"), Silent())
    clip, card = load_with_card(out)
    assert card.made_by == "by hand"
    assert card.sha256 == outcome.sha256
    assert [data.name for data in card.trained_on] == ["captioned"]
    scores = {score.metric: score.value for score in card.scores}
    assert outcome.after is not None
    assert outcome.after.recall is not None
    assert scores["R@1, texts of images"] == outcome.after.recall.texts_of_images[1]
    assert set(card.scores[0].data.split()) >= {str(outcome.num_held_out), "held-out"}
    assert clip.embed_texts(["a red box"]).shape == (1, clip.dim)


# A process more, which imports torch.
def test_two_processes_give_what_one_does_and_one_of_them_writes(
    folder: Path, tmp_path: Path
) -> None:
    outcomes = [
        train_on_files(
            folder, READER, request(tmp_path / f"{count}.safetensors", processes=count), Silent()
        )
        for count in (1, 2)
    ]
    one, two = outcomes
    assert [outcome.processes for outcome in outcomes] == [1, 2]
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert (two.before, two.after) == (one.before, one.after)
    alone, shared = (load(tmp_path / f"{count}.safetensors") for count in (1, 2))
    picture = np.full((30, 30, 3), 90, dtype=np.uint8)
    likeness = alone.embed_images([picture]) @ shared.embed_images([picture]).T
    assert likeness.item() > 0.999
    assert not list(tmp_path.glob("*.checkpoint"))


def test_it_goes_on_from_what_is_trained_and_learns_new_words(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train_on_files(folder, READER, request(first), Silent())
    for path in folder.rglob("*.txt"):
        path.write_text(path.read_text().replace("red", "crimson"))
    start = ClipSettings(weights=str(first))
    options = {"fresh": False, "start": start, "locked": "image"}
    given = ClipTrainRequest(out=second, said_in="--clip", steps=3, batch=6, **options)  # type: ignore[arg-type]
    outcome = train_on_files(folder, READER, given, Silent())
    assert outcome.num_new_tokens == 1
    before, after = load(first), load(second)
    assert set(before.config.tokens) < set(after.config.tokens)
    picture = np.full((30, 30, 3), 90, dtype=np.uint8)
    np.testing.assert_array_equal(before.embed_images([picture]), after.embed_images([picture]))
    assert [data.name for data in read_card(second).trained_on] == ["captioned", "captioned"]
    locked = ClipTrainRequest(out=second, said_in="", steps=1, batch=6, start=start, locked="text")
    assert train_on_files(folder, READER, locked, Silent()).num_new_tokens == 0


class _Stopping(Silent):
    """Plays somebody who presses Ctrl+C at a step."""

    def __init__(self, at: int) -> None:
        self.notes: list[str] = []
        self._at = at

    def step(self, what: str, done: int, total: int) -> None:
        assert done <= total
        if what.startswith("training") and done == self._at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_stopped_it_ends_as_if_it_had_not_been(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    stopping = _Stopping(at=53)
    given = request(out, steps=55, batch=2)
    with pytest.raises(KeyboardInterrupt):
        train_on_files(folder, READER, given, stopping)
    assert "stopped after step 53 of 55; the same command goes on from step 50" in stopping.notes
    assert not out.exists()
    assert len(list(tmp_path.glob("out-*.checkpoint"))) == 1
    resumed = train_on_files(folder, READER, given, Silent())
    assert resumed.resumed_at == 50
    whole = train_on_files(
        folder, READER, request(tmp_path / "whole.safetensors", steps=55, batch=2), Silent()
    )
    assert whole.resumed_at == 0
    assert (resumed.sha256, resumed.after) == (whole.sha256, whole.after)


def test_what_cannot_be_read_is_listed_and_the_others_are_learnt(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "00.png").write_bytes(b"no picture")
    (folder / "02.txt").unlink()
    (folder / "04.txt").write_bytes(b"\xff\xfe\xfa")
    (folder / "06.txt").write_text("\n")
    outcome = train_on_files(folder, READER, request(tmp_path / "o.safetensors"), Silent())
    assert outcome.num_images == 20
    assert len(outcome.problems) == 4
    told = "\n".join(outcome.problems)
    assert "00.png: not an image that can be read" in told
    assert "02.png: has no caption; write one into 02.txt beside it" in told
    assert "04.txt: not UTF-8 text" in told
    assert "06.txt: is empty; write what the image shows" in told


def test_rows_that_say_nothing_are_listed_by_their_number(folder: Path) -> None:
    table = folder.parent / "pairs.csv"
    table.write_text("uri,text\ncaptioned/00.png,a box\n,a box\ncaptioned/02.png\nnone.png,x\n")
    found, problems = file_pairs(table, READER)
    assert len(found) == 2
    assert problems == [
        f"{table}: row 3: uri: is empty; name an image",
        f"{table}: row 4: text: is empty; write what the image shows",
    ]
    assert "none.png: no such file" in str(found.look(1))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"url,text\nx,y\n", "a.csv: lacks the column uri, .* it has 'url', 'text'"),
        ("a.csv", b"", "a.csv: lacks the column uri and text, .* it has none"),
        ("a.csv", b"uri,text\n\xff,y\n", "a.csv: not UTF-8 text; save it as that"),
        ("a.parquet", b"PAR1 not so", "a.parquet: not a Parquet file"),
        ("a.tsv", b"uri\ttext\n", "a.tsv: not one of .csv, .parquet; expected a folder"),
        ("none.csv/", None, "none.csv: no such folder or file; expected a folder"),
    ],
)
def test_a_file_that_is_no_list_of_pairs_is_refused(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        file_pairs(tmp_path / name, READER)


def test_a_parquet_of_numbers_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [1], "text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="uri: must be a column of text, but is of int64"):
        file_pairs(tmp_path / "a.parquet", READER)


def test_too_few_pairs_are_said(tmp_path: Path, folder: Path) -> None:
    table = folder.parent / "pairs.csv"
    table.write_text("uri,text\nnone.png,a box\n")
    with pytest.raises(UsageError, match=r"0 pairs to train on, .*none.png: no such file"):
        train_on_files(table, READER, request(tmp_path / "o.safetensors"), Silent())
    with pytest.raises(UsageError, match="--batch: must be at most the number of pairs"):
        train_on_files(folder, READER, request(tmp_path / "o.safetensors", batch=99), Silent())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("a.pt")}, "--out: must end in .safetensors"),
        ({"out": Path("none/a.safetensors")}, "--out: none/a.safetensors: must be a file in a"),
        ({"holdout": 1.0}, "--holdout: must be from 0 to below 1"),
        ({"at_once": 9}, "--at-once: must be at most --batch, 6, but got 9"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(**{"out": Path("a.safetensors"), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps: must be at least 1, but got 0"),
        ({"batch": 1}, "--batch: must be at least 2, but got 1"),
        ({"learning_rate": -1.0}, "--learning-rate: must be positive"),
        ({"device": "cuda:77"}, "--device: must be a device that is there"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    folder: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    given = ClipTrainRequest(
        out=tmp_path / "o.safetensors",
        start=ClipSettings(),
        said_in="",
        fresh=True,
        **options,
    )
    with pytest.raises(UsageError, match=message):
        train_on_files(folder, READER, given, Silent())


def test_the_store_gives_named_masks_without_gold_and_without_clip_s_own_names(
    filled: Workspace,
) -> None:
    source = store_pairs(filled, ViewsConfig(), 64)
    masks = {mask["mask_id"]: mask for image in source.images for mask in image}
    expected = filled.lake.rows(
        "SELECT m.mask_id FROM current_masks m JOIN images i USING (image_id) "
        "WHERE i.split <> 'gold'"
    )
    assert set(masks) == {row["mask_id"] for row in expected}
    some = sorted(masks)[0]
    filled.lake.commit(
        lambda tx: tx.execute(
            "UPDATE mask_labels SET classes_hash = 'abc', accepted_by = 'threshold 0.9' "
            "WHERE mask_id = ?",
            (some,),
        ),
        message="as if CLIP had said it",
    )
    left = store_pairs(filled, ViewsConfig(), 64)
    assert {mask["mask_id"] for image in left.images for mask in image} == set(masks) - {some}
    seen = source.look(0)
    assert not isinstance(seen, str)
    assert len(seen.pictures) == 2 * len(source.images[0])
    assert {picture.shape for picture in seen.pictures} == {(64, 64, 3)}
    for saying in seen.sayings:
        assert saying.label is not None
        assert source.prompts.names[saying.label] in saying.text


def test_the_store_s_masks_are_learnt_in_the_views_of_the_settings(
    filled: Workspace, tmp_path: Path
) -> None:
    clip = replace(filled.settings.clip, views=("context", "blur", "attention", "tight"))
    request = ClipTrainRequest(
        out=tmp_path / "o.safetensors",
        start=clip,
        said_in="",
        fresh=True,
        steps=1,
        holdout=0.0,
    )
    changed = replace(filled, settings=replace(filled.settings, clip=clip))
    outcome = train_on_store(changed, request, Silent())
    masks = filled.lake.rows(
        "SELECT count(*) AS n FROM current_masks JOIN images USING (image_id) WHERE split <> 'gold'"
    )
    assert outcome.num_pairs == 3 * masks[0]["n"]


def test_a_store_of_one_name_has_nothing_to_tell_apart(filled: Workspace) -> None:
    filled.lake.commit(
        lambda tx: tx.execute("UPDATE mask_labels SET category = 'cell'"), message="one name"
    )
    with pytest.raises(UsageError, match="store: masks outside the gold set have 1 names"):
        train_on_store(filled, request(filled.root / "o.safetensors"), Silent())
