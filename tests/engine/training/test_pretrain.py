"""`make pretrain`, as small as it goes: weights with their card, and on again after a stop."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.drawing.worlds import WorldStyle
from engine.model import weights
from engine.training import pretrain


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: object) -> None:
    options = {
        "architecture": "nano_tiny",
        "steps": 2,
        "estimate-steps": 1,
        "worlds": 2,
        "batch": 2,
        "device": "cpu",
        "checkpoint": folder / "build" / "checkpoint.safetensors",
        "out": folder / "tiny.safetensors",
        **{name.replace("_", "-"): value for name, value in changes.items()},
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
    # Once is enough of processes, which take seconds to start.
    monkeypatch.setattr(pretrain, "ProcessPoolExecutor", lambda **_: ThreadPoolExecutor(1))

    def trained(*_: object) -> None:
        raise AssertionError("nothing was left to train")

    monkeypatch.setattr("engine.training.trainer._advance", trained)
    run(monkeypatch, tmp_path)
    assert out.read_bytes() == first
    with pytest.raises(AssertionError, match="nothing was left"):
        run(monkeypatch, tmp_path, steps=3)


def test_a_second_run_goes_on_with_other_worlds_and_its_card_tells_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "ProcessPoolExecutor", lambda **_: ThreadPoolExecutor(1))
    first, second = tmp_path / "tiny.safetensors", tmp_path / "second.safetensors"
    run(monkeypatch, tmp_path)
    run(monkeypatch, tmp_path, start=first, first_world=2, out=second)
    _, card = weights.load_with_card(second)
    names = [data.name for data in card.trained_on]
    assert [name.split(" (")[0] for name in names] == [
        "drawn worlds 0 to 1",
        "drawn worlds 2 to 3",
    ]
    assert card.made_by.count("engine.training.pretrain") == 2
    assert second.read_bytes() != first.read_bytes()


def test_worlds_are_the_same_each_time_and_nuclei_alone_are_complete() -> None:
    drawn = {index: pretrain.world(index) for index in range(12)}
    again = pretrain.world(3)
    assert (drawn[3].image == again.image).all()
    assert drawn[3].masks == again.masks
    for index, world in drawn.items():
        style = WorldStyle(hw=world.image.shape[:2], nucleus_radius=(4.0, 30.0))
        family = style.family(np.random.default_rng([pretrain.FIRST + index, 31]))
        assert world.complete == (family not in {"natural", "objects"}), family
