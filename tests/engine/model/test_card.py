"""A model's card says what its weights are, and is never of other weights."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from engine.model import weights
from engine.model.card import ModelCard, Score, TrainingData, card_path, read_card, write_card
from engine.model.integrity import WeightsError
from engine.model.registry import ModelConfig, build_model

TINY = ModelConfig(architecture="nano_tiny")


def card_of(data: bytes, **changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "config": TINY,
        "sha256": hashlib.sha256(data).hexdigest(),
        "trained_on": (TrainingData(name="drawn worlds", license="CC0-1.0", num_images=1000),),
        "scores": (
            Score(data="nuclei", metric="iou_1_click", value=0.7, low=0.65, high=0.74),
            Score(data="segments", metric="noc90", value=7.25),
        ),
        "description": "für Tests",
        "made_by": "make pretrain",
    }
    return ModelCard(**values | changes)


@pytest.fixture(scope="module")
def data() -> bytes:
    return weights.to_bytes(build_model(TINY, seed=0), TINY)


@pytest.fixture
def file(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(data)
    return path


def test_a_card_survives_the_disk(file: Path, data: bytes) -> None:
    card = card_of(data)
    assert write_card(file, card) == card_path(file) == file.with_name("tiny.json")
    assert read_card(file) == card
    assert sorted(path.name for path in file.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_a_card_reads_as_plain_json(data: bytes) -> None:
    values = json.loads(card_of(data).to_json())
    assert values["config"] == {"architecture": "nano_tiny"}
    assert values["sha256"] == hashlib.sha256(data).hexdigest()
    assert values["trained_on"][0]["license"] == "CC0-1.0"
    assert values["scores"][0]["low"] == 0.65


def test_a_model_loads_with_its_card(file: Path, data: bytes) -> None:
    write_card(file, card_of(data))
    model, card = weights.load_with_card(file)
    assert card == card_of(data)
    assert model.side == 256


def test_a_card_of_another_architecture_is_refused(file: Path, data: bytes) -> None:
    write_card(file, card_of(data, config=ModelConfig(architecture="nano")))
    with pytest.raises(WeightsError, match=r"'nano_tiny'.*but its card says .*'nano'"):
        weights.load_with_card(file)


def test_a_card_is_not_written_beside_other_weights(file: Path) -> None:
    with pytest.raises(WeightsError, match=r"SHA-256 must be .*; its card must be of this file"):
        write_card(file, card_of(b"other weights"))
    assert not card_path(file).exists()


def test_weights_that_changed_under_their_card_are_refused(file: Path, data: bytes) -> None:
    write_card(file, card_of(data))
    file.write_bytes(data[:-1])
    with pytest.raises(WeightsError, match="restore the file that its card is of"):
        read_card(file)


def test_weights_without_a_card_say_so(file: Path) -> None:
    with pytest.raises(WeightsError, match=r"tiny\.json: no card to read"):
        read_card(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something else"}, "its format must be 'maskloop model card 1'"),
        ({"config": {"architecture": "vit_x"}}, "must be one of nano"),
        ({"config": ["nano"]}, "ModelConfig: must be an object"),
        ({"sha256": "abc"}, "must be 64 hex digits"),
        ({"sha256": 7}, "sha256: must be a text, but got 7"),
        ({"colour": "red"}, "ModelCard: has no colour"),
        ({"trained_on": [{"name": "x", "license": ""}]}, "license: must be a text"),
        ({"trained_on": [{"name": "x", "license": "MIT", "num_images": -1}]}, "at least 0"),
        ({"trained_on": None}, "not iterable"),
        ({"scores": [{"data": "x", "metric": "ap", "value": "high"}]}, "must be real number"),
        ({"scores": [{"data": "x", "metric": "ap", "value": 0.5, "low": 0.6}]}, "low <= value"),
        ({"scores": [{"data": "x", "metric": "ap", "value": float("nan")}]}, "must be finite"),
        ({"scores": [{"data": "x", "metric": "ap", "value": 1, "by": "me"}]}, "Score: has no by"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(
    data: bytes, change: dict[str, Any], message: str
) -> None:
    text = json.dumps(json.loads(card_of(data).to_json()) | change)
    with pytest.raises(WeightsError, match=f"x.json: not a model card .*{message}.*write it anew"):
        ModelCard.from_json(text, where="x.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(WeightsError, match="card: not a model card"):
        ModelCard.from_json(text)


@pytest.mark.parametrize("missing", ["config", "sha256", "trained_on"])
def test_a_card_without_what_matters_is_refused(data: bytes, missing: str) -> None:
    values = json.loads(card_of(data).to_json())
    del values[missing]
    with pytest.raises(WeightsError, match=missing):
        ModelCard.from_json(json.dumps(values))
