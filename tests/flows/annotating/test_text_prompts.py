"""Masks by a text over the annotator's API, and what the store knows of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from annotator.client import AnnotatorClient, ApiError
from annotator.submission import AddedMask, Click, Submission
from engine.clip.config import ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.clip.weights import to_bytes
from engine.model.text.prompted import TextPrompted
from engine.model.text.weights import text_card, text_to_bytes, write_text
from engine.model.weights import load, shipped
from flows.annotating.clicks import ClickServer
from flows.annotating.people import annotator_server
from flows.annotating.pictures import Pictures
from flows.merging.merge import merge_stage
from flows.models import serving
from flows.progress import Silent
from flows.recipes import Recipe
from flows.settings import ClipSettings, ModelSettings
from flows.upkeep.checking import fsck
from flows.workspace import Workspace
from storage.queue.items import NewItem

TEXT = "a red star"
Reading = Callable[..., Workspace]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CLIP of random weights and text prompts that find something everywhere."""
    folder = tmp_path_factory.mktemp("text")
    clip = Clip.new(ClipConfig(tokens=tokens_of([TEXT])), seed=0)
    (folder / "clip.safetensors").write_bytes(to_bytes(clip))
    (folder / "other.safetensors").write_bytes(
        to_bytes(Clip.new(ClipConfig(tokens=tokens_of([TEXT])), seed=1))
    )
    model, _ = load(shipped())
    torch.manual_seed(0)
    text = TextPrompted(model, clip.dim)
    text.locator.bias.data.fill_(3.0)
    data = text_to_bytes(text)
    write_text(folder / "text.safetensors", data, text_card(data, model, clip, trained_on=()))
    return folder


@pytest.fixture
def reading(filled: Workspace, recipe: Recipe, weights: Path) -> Reading:
    """A workspace with these weights, whose queue has an item without proposals."""
    version = serving.ensure_base(filled, recipe, Silent())
    [row] = filled.lake.rows(
        "SELECT image_id, file_name, height, width FROM images WHERE split = 'unlabelled' LIMIT 1"
    )
    item = NewItem(**row, model_version=version, run_id="assist", iteration=1)
    filled.queue.enqueue([item])

    def call(text: str = "text.safetensors", clip: str = "clip.safetensors") -> Workspace:
        settings = replace(
            filled.settings,
            clip=ClipSettings(weights=str(weights / clip)),
            model=ModelSettings(text=str(weights / text)),
        )
        return replace(filled, settings=settings)

    return call


def test_what_a_text_found_and_a_person_accepted_says_so_in_the_store(reading: Reading) -> None:
    workspace = reading()
    with annotator_server(workspace) as url, AnnotatorClient(url, "ada") as client:
        work = client.claim()
        assert work is not None
        assert work.item.reads_text
        found = client.find(work, TEXT)
        assert found.presence > 0.5
        assert [one.score for one in found.masks] == sorted(
            (one.score for one in found.masks), reverse=True
        )
        first, *_ = found.masks
        assert first.segmentation.size == (work.item.height, work.item.width)
        as_found = AddedMask(
            segmentation=first.segmentation, text=TEXT, predicted_iou=first.predicted_iou
        )
        corrected = as_found.model_copy(update={"clicks": (Click(x=5, y=5, label=1),)})
        client.submit(work, Submission(added=(as_found, corrected)))
    merge_stage(workspace, Silent())
    rows = workspace.lake.rows(
        """SELECT prompt, predicted_iou, model_version, annotator, generation_depth FROM masks
           WHERE stage = 'manual' ORDER BY prompt DESC"""
    )
    assert [row["prompt"] for row in rows] == [f"text: {TEXT}", "clicks"]
    assert rows[0]["predicted_iou"] == pytest.approx(first.predicted_iou)
    assert (rows[0]["model_version"], rows[0]["annotator"]) == (work.item.model_version, "ada")
    assert rows[0]["generation_depth"] == rows[1]["generation_depth"]
    assert fsck(workspace) == []


@pytest.mark.parametrize(
    ("files", "reads_text", "message"),
    [
        ({"text": "none.safetensors"}, False, "none.safetensors: no such file"),
        ({"clip": "other.safetensors"}, True, "clip_fingerprint must be"),
        ({"clip": "none.safetensors"}, True, "none.safetensors"),
    ],
    ids=["no text prompts", "of another CLIP", "no CLIP"],
)
def test_what_is_missing_is_said_in_a_line(
    reading: Reading, files: dict[str, str], reads_text: bool, message: str
) -> None:
    with annotator_server(reading(**files)) as url, AnnotatorClient(url, "ada") as client:
        work = client.claim()
        assert work is not None
        assert work.item.reads_text is reads_text
        with pytest.raises(ApiError, match=message) as refused:
            client.find(work, TEXT)
    assert refused.value.status == 422
    assert refused.value.problem.message.startswith("model.text: ")
    assert "\n" not in refused.value.problem.message


def test_words_that_mean_nothing_are_named(reading: Reading) -> None:
    with annotator_server(reading()) as url, AnnotatorClient(url, "ada") as client:
        work = client.claim()
        assert work is not None
        with pytest.raises(ApiError, match="it never learnt 'blue', 'mug'") as refused:
            client.find(work, "a blue mug")
    assert refused.value.status == 422


def test_another_model_s_text_prompts_are_not_asked(reading: Reading, weights: Path) -> None:
    workspace = reading()
    model, _ = load(shipped())
    with torch.no_grad():
        next(model.image_encoder.parameters()).add_(0.01)
    clip = Clip.new(ClipConfig(tokens=tokens_of([TEXT])), seed=0)
    data = text_to_bytes(TextPrompted(model, clip.dim))
    write_text(weights / "moved.safetensors", data, text_card(data, model, clip, trained_on=()))
    other = reading(text="moved.safetensors")
    version = serving.current_version(workspace)
    assert version is not None
    assert ClickServer(workspace, Pictures(workspace)).reads_text(version)
    server = ClickServer(other, Pictures(other))
    assert not server.reads_text(version)
    with pytest.raises(ValueError, match=r"text: v1 reads none, .* click, or draw a box"):
        server.find("any", version, TEXT)
    assert not server.reads_text("nothing"), "a model that is gone"
