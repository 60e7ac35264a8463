"""`maskloop segment`: masks of a text in files, without a workspace."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from engine.clip.config import ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.clip.weights import to_bytes
from engine.drawing.captions import CaptionStyle, draw_captioned
from engine.drawing.wording import VOCABULARY_TEXTS
from engine.model.text.prompted import TextPrompted
from engine.model.text.weights import text_card, text_to_bytes, write_text
from engine.model.weights import load, shipped
from engine.model.weights import to_bytes as model_to_bytes
from flows.cli.app import app
from flows.errors import UsageError


@pytest.fixture(scope="module")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn scene, and the weights of a CLIP and of text prompts as they are before training."""
    folder = tmp_path_factory.mktemp("segment")
    scene = draw_captioned(3, CaptionStyle(hw=(160, 192)))
    (folder / "images").mkdir()
    Image.fromarray(scene.image).save(folder / "images" / "scene.png")
    model, _ = load(shipped())
    clip = Clip.new(ClipConfig(tokens=tokens_of(VOCABULARY_TEXTS)), seed=0)
    (folder / "clip.safetensors").write_bytes(to_bytes(clip))
    torch.manual_seed(0)
    data = text_to_bytes(TextPrompted(model, clip.dim))
    write_text(folder / "text.safetensors", data, text_card(data, model, clip, trained_on=()))
    return folder


def segment(folder: Path, *options: str) -> dict[str, object]:
    weights = ["--clip", "clip.safetensors", "--text-weights", "text.safetensors"]
    paths = [name if name.startswith("--") else str(folder / name) for name in weights]
    images = str(folder / "images")
    command = ["segment", images, "--text", "a red star", *paths, *options, "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_a_click_with_a_text_gives_a_mask_in_coco(scene_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks.json"
    said = segment(scene_folder, "--out", str(out), "--point", "60,70")
    document = json.loads(out.read_text())
    assert said["num_images"] == 1
    assert [image["file_name"] for image in document["images"]] == ["scene.png"]
    assert len(document["annotations"]) == said["num_masks"]
    assert document["info"]["made_by"]["text"] == "a red star"


def test_pictures_have_the_size_of_their_images(scene_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    segment(scene_folder, "--out", str(out), "--format", "png", "--all", "--min-presence", "0")
    assert np.asarray(Image.open(out / "scene.png.png")).shape == (160, 192)


def test_what_is_not_there_has_no_mask(scene_folder: Path, tmp_path: Path) -> None:
    said = segment(scene_folder, "--out", str(tmp_path / "a.json"), "--min-presence", "1")
    assert said["num_masks"] == 0
    assert isinstance(said["presence"], dict)
    assert list(said["presence"]) == ["scene.png"]


def test_a_checkpoint_of_the_same_encoder_answers_in_place_of_what_ships(
    scene_folder: Path, tmp_path: Path
) -> None:
    model, config = load(shipped())
    with torch.no_grad():
        for parameter in model.prompt_encoder.parameters():
            parameter.neg_()
    path = tmp_path / "other.safetensors"
    path.write_bytes(model_to_bytes(model, config))
    given = [["--checkpoint", str(path)], ["--device", "cpu"]]
    documents = []
    for options in given:
        out = tmp_path / "masks.json"
        segment(scene_folder, "--out", str(out), "--point", "60,70", *options)
        documents.append(json.loads(out.read_text()))
    weights = [document["info"]["made_by"]["weights_sha256"] for document in documents]
    files = [path, shipped()]
    assert weights == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    ours, usual = (document["annotations"] for document in documents)
    assert [each["segmentation"] for each in ours] != [each["segmentation"] for each in usual]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--checkpoint", "x.pth"), "--arch: say what x.pth is"),
        (("--checkpoint", "x.pth", "--arch", "vit_b"), "x.pth: no such file"),
        (("--checkpoint", "no.safetensors"), "no.safetensors: no such file"),
        (("--checkpoint", "text.safetensors"), "--checkpoint: "),
        (("--arch", "vit_x"), "--arch: must be one of"),
        (("--sha256", "00"), "--sha256: is of a --checkpoint"),
        (("--device", "cuda:99"), "--device: must be a device that is there"),
    ],
)
def test_the_model_is_named_as_for_generate_with_the_same_errors(
    cli: Callable[..., Any],
    scene_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(scene_folder)
    reading = (
        "--text",
        "a star",
        "--clip",
        "clip.safetensors",
        "--text-weights",
        "text.safetensors",
    )
    said = cli("segment", "images", "--out", "m.json", *reading, *options)
    assert said.code == 2
    assert len(said.errors) == 1
    assert line in said.err
    assert cli("generate", "images", "--out", "m.json", *options) == said


def test_text_prompts_of_another_encoder_are_refused(
    cli: Callable[..., Any], scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene_folder)
    said = cli(
        *("segment", "images", "--text", "a star", "--out", "m.json", "--arch", "resnet18"),
        *("--clip", "clip.safetensors", "--text-weights", "text.safetensors"),
    )
    assert said.code == 2
    assert len(said.errors) == 1
    assert "--text-weights: text.safetensors: encoder_id must be " in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--point", "60"], r"--point: must be X,Y such as 120,80, but got '60'"),
        (["--point", "900,20"], "--point: must lie in the image of 192x160"),
        (["--all", "--point", "9,9"], "--all: is for a text alone"),
        (["--text", " "], "--text: must say something"),
        (["--text", "a red mug"], "--text: must be of words that .* but it never learnt 'mug'; "),
        (["--clip", "none.safetensors"], "--clip: none.safetensors: no such file"),
    ],
)
def test_a_mistake_is_named(
    scene_folder: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        segment(scene_folder, "--out", str(tmp_path / "masks.json"), *options)
