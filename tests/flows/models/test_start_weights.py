"""What each recipe starts from: what ships, what is published, or a file of one's own."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from engine.model import weights
from engine.model.checkpoints import PUBLISHED, Published
from engine.model.registry import ModelConfig, build_model
from flows.errors import UsageError
from flows.models.start_weights import start_weights
from flows.progress import Silent
from flows.recipes import NANO, Recipe, recipe_named
from flows.settings import ModelSettings

TINY = ModelConfig(architecture="nano_tiny")
RECIPE = replace(NANO, name="tiny", start="nano_tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny.pth`, a state dict as Meta's are, and `tiny.safetensors`, one of our own."""
    folder = tmp_path_factory.mktemp("weights")
    model = build_model(TINY, seed=5)
    torch.save(model.state_dict(), folder / "tiny.pth")
    (folder / "tiny.safetensors").write_bytes(weights.to_bytes(model, TINY))
    return folder


@pytest.fixture
def site(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder over HTTP; downloads go to a home of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_nano_starts_from_what_ships() -> None:
    data, config = start_weights(NANO, ModelSettings(), Silent())
    assert data == weights.shipped().read_bytes()
    assert config.architecture == "nano"


@pytest.mark.parametrize("name", ["tiny.pth", "tiny.safetensors"])
@pytest.mark.parametrize("by", ["path", "url"])
def test_a_checkpoint_comes_from_a_path_or_a_url(
    folder: Path, site: str, name: str, by: str
) -> None:
    source = str(folder / name) if by == "path" else f"{site}/{name}"
    settings = ModelSettings(checkpoint=source, sha256=sha256(folder / name))
    data, config = start_weights(RECIPE, settings, Silent())
    assert config == TINY
    assert data == (folder / "tiny.safetensors").read_bytes()


def test_what_is_published_comes_by_itself(
    folder: Path, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Published(url=f"{site}/tiny.pth", sha256=sha256(folder / "tiny.pth"))
    monkeypatch.setitem(PUBLISHED, "nano_tiny", published)
    data, _ = start_weights(RECIPE, ModelSettings(), Silent())
    assert data == (folder / "tiny.safetensors").read_bytes()


def test_where_nothing_is_published_weights_are_random() -> None:
    data, config = start_weights(RECIPE, ModelSettings(), Silent())
    model, _ = weights.load(data)
    assert config == TINY
    random = build_model(TINY, seed=0)
    pairs = zip(model.parameters(), random.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_t", "vit_b", "vit_l", "vit_h"])
def test_each_architecture_has_a_recipe_of_its_name(name: str) -> None:
    recipe = recipe_named(name)
    assert recipe.start == name
    assert (recipe.training.frozen == ("image_encoder",)) == (name in PUBLISHED)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        pytest.param(
            RECIPE, {"checkpoint": "{}/none.pth"}, "none.pth: no such file", id="no such file"
        ),
        pytest.param(
            RECIPE,
            {"checkpoint": "{}/tiny.pth", "sha256": "0" * 64},
            "tiny.pth: .*SHA-256",
            id="another file",
        ),
        pytest.param(
            RECIPE,
            {"checkpoint": "https://example.org/tiny.pth"},
            "give the SHA-256",
            id="URL alone",
        ),
        pytest.param(
            recipe_named("vit_t"),
            {"checkpoint": "{}/tiny.safetensors"},
            "is of architecture nano_tiny, but recipe vit_t starts from vit_t",
            id="another architecture",
        ),
        pytest.param(
            recipe_named("vit_b"),
            {"checkpoint": "{}/tiny.pth"},
            "not the weights of vit_b",
            id="other tensors",
        ),
    ],
)
def test_a_wrong_checkpoint_is_named(
    folder: Path, recipe: Recipe, settings: dict[str, str], message: str
) -> None:
    filled = {key: value.format(folder) for key, value in settings.items()}
    with pytest.raises(UsageError, match=rf"maskloop\.toml: model\.checkpoint: .*{message}"):
        start_weights(recipe, ModelSettings(**filled), Silent())
