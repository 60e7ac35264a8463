"""Weights of every layout load through one door, which runs nothing and says what is wrong."""

import copy
import hashlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import build_model_from_openai_state_dict
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from engine.clip import weights
from engine.clip.card import ClipCard, write_card
from engine.clip.config import ClipConfig
from engine.clip.model import Clip, Embeddings
from engine.clip.vocabulary import tokens_of
from engine.model.card import TrainingData
from engine.model.integrity import UnreachableError, WeightsError

SMALL = "ViT-tiny-quickgelu"
TEXTS = ["a diagram", "a dog", "a cat on a mat"]


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An architecture as OpenAI's smallest, but small."""
    config = {
        "embed_dim": 64,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2,
        },
    }  # fmt: skip
    path = tmp_path_factory.mktemp("configs") / f"{SMALL}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)


@pytest.fixture(scope="module")
def original() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return open_clip.create_model(SMALL)


@pytest.fixture(scope="module")
def nano() -> Clip:
    return Clip.new(ClipConfig(tokens=tokens_of(TEXTS)), seed=3)


def pictures() -> list[Any]:
    chance = np.random.default_rng(0)
    return [chance.integers(0, 256, (*hw, 3)).astype(np.uint8) for hw in ((32, 32), (50, 81))]


def as_open_clip_does(model: Any) -> tuple[Embeddings, Embeddings]:
    """Its own embeddings of the pictures and the texts, by its own transform and tokenizer."""
    transform = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    images = torch.stack([transform(Image.fromarray(picture)) for picture in pictures()])
    with torch.no_grad():
        seen = model.encode_image(images, normalize=True)
        read = model.encode_text(open_clip.tokenize(TEXTS), normalize=True)
    return seen.numpy(), read.numpy()


def check_embeddings(clip: Clip, model: Any) -> None:
    seen, read = as_open_clip_does(model)
    np.testing.assert_allclose(clip.embed_images(pictures()), seen, rtol=0, atol=1e-5)
    np.testing.assert_allclose(clip.embed_texts(TEXTS), read, rtol=0, atol=1e-5)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_openais_layout(model: Any, path: Path) -> Path:
    """Half of the weights in float16, and three numbers beside them."""
    halves = {name: value.clone() for name, value in model.state_dict().items()}
    for name in halves:
        if name.endswith(("weight", "bias", "proj", "projection")) and ".ln_" not in name:
            halves[name] = halves[name].half()
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    torch.save(halves | {name: torch.tensor(value) for name, value in numbers.items()}, path)
    return path


def test_a_checkpoint_in_openais_layout_gives_the_embeddings_that_open_clip_gives(
    original: Any, tmp_path: Path
) -> None:
    path = in_openais_layout(original, tmp_path / "ViT.pt")
    clip = weights.open_clip(SMALL, path, sha256=sha256(path))
    tensors = torch.load(path, weights_only=True)
    check_embeddings(clip, build_model_from_openai_state_dict(tensors).float())


def test_openais_weights_are_refused_by_another_activation(original: Any, tmp_path: Path) -> None:
    path = in_openais_layout(original, tmp_path / "ViT.pt")
    with pytest.raises(ValueError, match=r"ViT.pt needs ViT-B-32-quickgelu, but got ViT-B-32$"):
        weights.open_clip("ViT-B-32", path)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (exec, ("import pathlib; pathlib.Path('marker').touch()",))


class Published(torch.nn.Module):
    """As OpenAI published theirs: traced, in halves, with three numbers beside the weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        for name in ("visual", "transformer", "token_embedding", "ln_final"):
            setattr(self, name, copy.deepcopy(getattr(model, name)))
        for name in ("positional_embedding", "text_projection", "logit_scale"):
            setattr(self, name, copy.deepcopy(getattr(model, name)))
        for name, value in (
            ("input_resolution", 32),
            ("context_length", 77),
            ("vocab_size", 49408),
        ):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.visual(image) * self.logit_scale + self.ln_final.weight.mean()


@pytest.fixture
def archive(original: Any, tmp_path: Path) -> Path:
    path = tmp_path / "ViT-B-32.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        traced = torch.jit.trace(Published(original).eval(), torch.zeros(1, 3, 32, 32))
        traced.save(str(path))
    return path


def test_an_archive_as_openai_publishes_gives_the_embeddings_that_open_clip_gives(
    original: Any, archive: Path
) -> None:
    check_embeddings(weights.open_clip(SMALL, archive, sha256=sha256(archive)), original)


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("data.pkl", pickle.dumps(_Payload()), r"it names builtins.exec, which is no weight"),
        ("data.pkl", b"", "not an archive of weights"),
        ("data/0", b"123", "not an archive of weights"),
    ],
    ids=["code", "nothing", "too few numbers"],
)
def test_an_archive_that_lies_is_refused_in_a_line(
    archive: Path, tmp_path: Path, part: str, content: bytes, message: str
) -> None:
    evil = tmp_path / "evil.pt"
    with zipfile.ZipFile(archive) as good, zipfile.ZipFile(evil, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, content if name.endswith(f"/{part}") else good.read(name))
    with pytest.raises(WeightsError, match=message) as caught:
        weights.open_clip(SMALL, evil)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["epoch_1.pt", "open_clip_pytorch_model.bin", "m.safetensors"])
def test_what_open_clip_writes_gives_the_embeddings_that_it_gives(
    original: Any, tmp_path: Path, name: str
) -> None:
    path, tensors = tmp_path / name, original.state_dict()
    if name.endswith(".pt"):
        spread = {f"module.{key}": value for key, value in tensors.items()}
        torch.save({"epoch": 1, "name": "run", "state_dict": spread, "optimizer": {}}, path)
    elif name.endswith(".bin"):
        torch.save(tensors, path)
    else:
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    check_embeddings(weights.open_clip(SMALL, str(path), sha256=sha256(path)), original)


def test_ours_survive_the_disk_bit_by_bit(nano: Clip, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(weights.to_bytes(nano))
    for again in (
        weights.load(path, sha256=sha256(path)),
        weights.load(path.read_bytes()),
        weights.open_clip("nano-clip", path, sha256=sha256(path)),
    ):
        assert again.config == nano.config
        assert again.fingerprint == nano.fingerprint
        assert np.array_equal(again.embed_texts(TEXTS), nano.embed_texts(TEXTS))
    assert weights.to_bytes(nano) == path.read_bytes()


def test_fine_tuned_weights_of_open_clips_keep_their_architecture(
    original: Any, tmp_path: Path
) -> None:
    path = in_openais_layout(original, tmp_path / "ViT.pt")
    clip = weights.open_clip(SMALL, path)
    again = weights.load(weights.to_bytes(clip))
    assert again.config.architecture == SMALL
    assert again.fingerprint == clip.fingerprint
    assert again.frame == clip.frame


@pytest.fixture
def bad(
    tmp_path: Path, nano: Clip, original: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder of files that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.pt").write_bytes(pickle.dumps(_Payload()))
    torch.save({"state_dict": {"a": _Payload()}}, tmp_path / "nested.pt")
    (tmp_path / "cut.safetensors").write_bytes(weights.to_bytes(nano)[:5000])
    (tmp_path / "nano.safetensors").write_bytes(weights.to_bytes(nano))
    torch.save({"visual.proj": torch.zeros(3)}, tmp_path / "few.pt")
    in_openais_layout(original, tmp_path / "good.pt")
    yield tmp_path
    assert not (tmp_path / "marker").exists(), "code in a file was run"


@pytest.mark.parametrize(
    ("architecture", "name", "digest", "message"),
    [
        (SMALL, "good.pt", "0" * 64, r"good.pt: SHA-256 must be 0000.*; download it again"),
        (SMALL, "good.pt", "12ab", r"good.pt: a SHA-256 must be 64 hex digits, but got '12ab'"),
        (SMALL, "code.pt", None, r"code.pt: not a checkpoint of tensors \("),
        (SMALL, "nested.pt", None, r"nested.pt: not a checkpoint of tensors \("),
        (SMALL, "none.pt", None, r"none.pt: no such file; download the checkpoint there"),
        (SMALL, "few.pt", None, rf"few.pt: not the weights of {SMALL}: "),
        (SMALL, "cut.safetensors", None, r"cut.safetensors: .*safetensors"),
        (SMALL, "nano.safetensors", None, rf"nano.safetensors: must be of {SMALL}, but is of nano"),
        ("RN50-quickgelu", "good.pt", None, r"good.pt: not the weights of RN50-quickgelu: "),
        ("nano-clip", "good.pt", None, r"good.pt: not a nano-clip of maskloop"),
    ],
    ids=[
        "another SHA-256", "no SHA-256", "a pickle with code", "code within", "missing",
        "few tensors", "cut", "ours of another", "of another", "another's for ours",
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_clear_line(
    bad: Path, architecture: str, name: str, digest: str | None, message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        weights.open_clip(architecture, bad / name, sha256=digest)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("architecture", "given", "message"),
    [
        ("ViT-Q-99", "laion2b", r"^architecture: must be nano-clip or one .* got 'ViT-Q-99'$"),
        (
            "ViT-B-32",
            "lion",
            r"^weights: must be a file or one of ViT-B-32's tags \(openai, .*lion",
        ),
        (
            "ViT-B-32",
            "openai",
            r"^architecture: openai needs ViT-B-32-quickgelu, but got ViT-B-32$",
        ),
        ("ViT-B-32", None, r"^weights: must be given for ViT-B-32: a file, or a published tag$"),
    ],
    ids=["architecture", "tag", "activation", "no weights"],
)
def test_a_wrong_name_is_one_clear_line(architecture: str, given: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weights.open_clip(architecture, given)


def test_a_published_tag_comes_out_of_the_hubs_local_cache(
    original: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {
        "hf_hub": "someone/small/",
        "mean": (0.1,) * 3,
        "std": (0.9,) * 3,
        "interpolation": "bilinear",
        "resize_mode": "squash",
        "quick_gelu": True,
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, SMALL, {"tag": published})
    repository = tmp_path / "models--someone--small"
    snapshot = repository / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1" * 40)
    file = snapshot / "open_clip_pytorch_model.bin"
    torch.save(original.state_dict(), file)
    clip = weights.open_clip(SMALL, "tag", sha256=sha256(file), cache=tmp_path)
    assert clip.frame.resize == "squash", "as these weights see images"
    assert clip.frame.mean == (0.1, 0.1, 0.1)
    with pytest.raises(WeightsError, match="SHA-256 must be 0000"):
        weights.open_clip(SMALL, "tag", sha256="0" * 64, cache=tmp_path)


def test_a_tag_that_cannot_be_had_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnreachableError, match=r"^ViT-B-32 laion2b_e16: .* give its path$"):
        weights.open_clip("ViT-B-32", "laion2b_e16", cache=tmp_path)


def test_weights_and_their_card_agree(nano: Clip, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(weights.to_bytes(nano))
    data = (TrainingData(name="drawn scenes", license="Apache-2.0"),)
    write_card(path, ClipCard(config=nano.config, sha256=sha256(path), trained_on=data))
    clip, card = weights.load_with_card(path)
    assert clip.fingerprint == nano.fingerprint
    assert card.config.tokens == nano.config.tokens
    assert card.trained_on == data
    path.write_bytes(weights.to_bytes(Clip.new(nano.config, seed=4)))
    with pytest.raises(WeightsError, match="SHA-256 must be"):
        weights.load_with_card(path)
