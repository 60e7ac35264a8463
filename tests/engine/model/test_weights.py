"""Weights survive the disk bit by bit, and nothing that is not weights is loaded."""

import hashlib
import pickle
import random
from pathlib import Path

import pytest
import torch
from segment_anything import sam_model_registry

from engine.model import weights
from engine.model.checkpoints import PUBLISHED
from engine.model.integrity import normal_sha256
from engine.model.registry import ModelConfig, build_model

TINY = ModelConfig(architecture="nano_tiny")


@pytest.fixture(scope="module")
def tiny() -> bytes:
    return weights.to_bytes(build_model(TINY, seed=3), TINY)


def test_round_trip_keeps_every_number(tiny: bytes) -> None:
    model, config = weights.load(tiny)
    assert config == TINY
    for name, value in build_model(TINY, seed=3).state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_the_same_weights_give_the_same_bytes(tiny: bytes) -> None:
    assert weights.to_bytes(build_model(TINY, seed=3), TINY) == tiny
    assert weights.to_bytes(build_model(TINY, seed=4), TINY) != tiny


def test_another_sha_is_refused(tiny: bytes) -> None:
    with pytest.raises(weights.WeightsError, match="SHA-256 must be 0000"):
        weights.load(tiny, sha256="0" * 64)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_is_found_by_the_sha(tiny: bytes, seed: int) -> None:
    damaged = bytearray(tiny)
    chance = random.Random(seed)
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    with pytest.raises(weights.WeightsError):
        weights.load(bytes(damaged), sha256=hashlib.sha256(tiny).hexdigest())


@pytest.mark.parametrize("cut", [0, 4, 100, 5000])
def test_a_truncated_file_is_refused(tiny: bytes, cut: int) -> None:
    with pytest.raises(weights.WeightsError):
        weights.load(tiny[:cut])


def test_another_architecture_is_refused_by_name() -> None:
    claims_nano = weights.to_bytes(build_model(TINY, seed=0), ModelConfig(architecture="nano"))
    with pytest.raises(weights.WeightsError, match="not the weights of nano"):
        weights.load(claims_nano)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (exec, ("import pathlib; pathlib.Path('marker').touch()",))


def test_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = tmp_path / "sam.pth"
    evil.write_bytes(pickle.dumps(_Payload()))
    with pytest.raises(weights.WeightsError, match="not a checkpoint of tensors"):
        weights.load_meta_checkpoint(evil, "vit_b")
    with pytest.raises(weights.WeightsError):
        weights.load(evil)
    assert not (tmp_path / "marker").exists()


def test_metas_layout_of_vit_b_loads_through_the_same_door(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        original = sam_model_registry["vit_b"]()
    path = tmp_path / "sam_vit_b.pth"
    torch.save(original.state_dict(), path)
    model = weights.load_meta_checkpoint(path, "vit_b")
    for name, value in original.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert model.side == 1024


def test_a_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsError, match="no such file; download"):
        weights.load_meta_checkpoint(tmp_path / "none.pth", "vit_b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "expected a state dict, but found list"),
        ({"a": torch.zeros(1), "b": 3}, "nothing but tensors by name, but 'b' is a int"),
        ({"model": {"a": torch.zeros(1)}}, "'model' is a dict; save its state dict alone"),
        ({7: torch.zeros(1)}, "nothing but tensors by name, but 7"),
    ],
    ids=["a list", "a number", "a dict in a dict", "a number for a name"],
)
def test_anything_but_tensors_by_name_is_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "sam.pth")
    with pytest.raises(weights.WeightsError, match=message):
        weights.load_meta_checkpoint(tmp_path / "sam.pth", "vit_t")


def test_a_checkpoint_of_another_sha_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sam.pth").write_bytes(b"anything")
    with pytest.raises(weights.WeightsError, match=r"SHA-256 must be 0000.*download it again"):
        weights.load_meta_checkpoint(tmp_path / "sam.pth", "vit_b", sha256="0" * 64)


def test_a_url_that_nobody_knows_needs_its_sha() -> None:
    with pytest.raises(weights.WeightsError, match="give the SHA-256 of the file too"):
        weights.load_meta_checkpoint("https://example.org/sam.pth", "vit_b")


def test_a_checkpoint_by_url_comes_out_of_the_cache(tmp_path: Path) -> None:
    """No server is there to ask: what was downloaded before serves."""
    config = ModelConfig(architecture="resnet18")
    tensors = build_model(config, seed=5).state_dict()
    torch.save(tensors, tmp_path / "saved")
    data = (tmp_path / "saved").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / f"{sha256[:16]}-sam.pth").write_bytes(data)
    model = weights.load_meta_checkpoint(
        "https://example.invalid/sam.pth", "resnet18", sha256=sha256, cache=tmp_path
    )
    for name, value in tensors.items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_a_published_checkpoint_has_an_address_and_a_sha(architecture: str) -> None:
    published = PUBLISHED[architecture]
    assert published.url.startswith("https://")
    assert normal_sha256(published.sha256, "table") == published.sha256
    assert ModelConfig(architecture=architecture)


def test_the_shipped_weights_load_and_their_card_says_how_good_they_are() -> None:
    model, card = weights.load_with_card(weights.shipped())
    assert card.config.architecture == "nano"
    assert {score.data for score in card.scores} == {"segments", "nuclei"}
    assert "engine.training.pretrain" in card.made_by
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_an_unknown_architecture_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="must be one of nano, nano_tiny, vit_b"):
        ModelConfig(architecture="vit_x")
