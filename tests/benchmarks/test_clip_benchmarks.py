"""The benchmarks of a CLIP's names, in their quick form: one JSON object with what they promise."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.clip.config import ClipConfig
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of
from engine.clip.weights import to_bytes
from engine.drawing.wording import VOCABULARY_TEXTS

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that have learnt nothing."""
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    config = ClipConfig(tokens=tokens_of(VOCABULARY_TEXTS))
    path.write_bytes(to_bytes(Clip.new(config, seed=0)))
    return path


def run(name: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, f"benchmarks/{name}.py", "--json", "--quick", *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_names_are_judged_on_both_kinds_of_combinations(clip: Path) -> None:
    found = run("clip_zero_shot", "--clip", clip)
    for combinations in ("unseen", "seen"):
        own = found[combinations]
        assert own["scenes"] == 8
        assert own["kind"]["chance"] == pytest.approx(1 / 14)
        for question in ("kind", "colour, kind", "texture, colour, kind"):
            for way in ("one template", "ensemble", "synonyms"):
                marks = own[question][way]
                assert 0 <= marks["low"] <= marks["value"] <= marks["high"] <= 1
    sure = found["sureness"]["colour, kind"]
    assert 0 <= sure["ECE, fitted"] <= 1
    assert sure["log loss, fitted"] < sure["log loss, unfitted"]
    assert 0 <= sure["AUROC, none of these"] <= 1


def test_the_loop_and_the_batches_give_the_same_vectors(clip: Path) -> None:
    found = run("naming_throughput", "--clip", clip)
    assert found["crops"] == 2 * found["masks"] > 50
    assert found["cosine to the loop's vectors"] > 0.98
    assert found["times the loop"] > 0


def test_a_search_is_timed() -> None:
    found = run("naming_throughput", "--search", 1)
    assert found["vectors"] == 10_000
    assert found["median ms"] <= found["slowest ms"]


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/clip_zero_shot.py", "--clip", str(tmp_path / "none")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("no such file; run: make pretrain-clip")
