"""`make pretrain`, as small as it goes: weights with their card, and on again after a stop."""

import sys
from pathlib import Path

import pytest

from engine.model import weights
from engine.training import pretrain


def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    options = {
        "architecture": "nano_tiny",
        "steps": 2,
        "estimate-steps": 1,
        "worlds": 2,
        "batch": 2,
        "device": "cpu",
        "checkpoint": folder / "build" / "checkpoint.safetensors",
        "out": folder / "tiny.safetensors",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["pretrain", *arguments])
    pretrain.main()


def test_it_writes_weights_with_a_card_and_goes_on_from_its_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, tmp_path)
    out = tmp_path / "tiny.safetensors"
    _, card = weights.load_with_card(out)
    assert card.config.architecture == "nano_tiny"
    assert "no real image" in card.trained_on[0].description
    assert card.trained_on[0].num_images == 2
    assert "--steps 2 --estimate-steps 1" in card.made_by
    first = out.read_bytes()
    out.unlink()

    def trained(*_: object) -> None:
        raise AssertionError("nothing was left to train")

    monkeypatch.setattr("engine.training.trainer._advance", trained)
    run(monkeypatch, tmp_path)
    assert out.read_bytes() == first


def test_worlds_are_the_same_each_time_and_nuclei_alone_are_complete() -> None:
    worlds = [pretrain.world(index) for index in range(12)]
    again = pretrain.world(3)
    assert (worlds[3].image == again.image).all()
    assert worlds[3].masks == again.masks
    assert {world.complete for world in worlds} == {True, False}
