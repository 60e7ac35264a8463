"""The click server: answers on images of the workspace, whole or in windows that it keeps."""

from collections.abc import Callable, Sequence

import httpx
import numpy as np
import onnxruntime
import pytest
import torch

from annotator.messages import Logits
from engine.geometry import Window
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import InteractivePredictor
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.model.sam import PromptableSam
from flows.annotating import decoders
from flows.annotating.clicks import ClickServer
from flows.annotating.people import annotator_server
from flows.annotating.pictures import Pictures
from flows.models import serving
from flows.models.embeddings import EmbeddingStore
from flows.progress import Silent
from flows.recipes import Recipe
from flows.workspace import Workspace
from storage.queue.items import NewItem

WINDOW = (20, 10, 84, 74)
CLICK = Prompts.clicks([(52.0, 42.0)], [1])
AGAIN = Prompts.clicks([(52.0, 42.0), (60.0, 42.0)], [1, 0], np.zeros((64, 64), np.float32))


def click_server(workspace: Workspace) -> ClickServer:
    return ClickServer(workspace, Pictures(workspace))


@pytest.fixture
def version(filled: Workspace, recipe: Recipe) -> str:
    return serving.ensure_base(filled, recipe, Silent())


@pytest.fixture
def image_id(filled: Workspace) -> str:
    return str(filled.lake.rows("SELECT image_id FROM images ORDER BY 1 LIMIT 1")[0]["image_id"])


def test_an_ambiguous_click_gets_three_answers(
    filled: Workspace, version: str, image_id: str
) -> None:
    server = click_server(filled)
    answers = server.predict(image_id, version, CLICK, window=None, multimask=True)
    assert [answer.mask().shape for answer in answers] == [(96, 128)] * 3


def test_a_window_is_encoded_once(
    filled: Workspace, version: str, image_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[tuple[int, ...]] = []
    original = Predictor.embed_each

    def watching(
        self: Predictor, images: Sequence[np.ndarray], *, side: int | None = None
    ) -> object:
        embedded.extend(pixels.shape[:2] for pixels in images)
        return original(self, images, side=side)

    monkeypatch.setattr(Predictor, "embed_each", watching)
    server = click_server(filled)
    for _ in range(2):
        [answer] = server.predict(image_id, version, AGAIN, window=WINDOW, multimask=False)
        assert answer.look.window == WINDOW
        assert answer.logits.shape == (64, 64)
    assert embedded == [(96, 128), (64, 64)]


@pytest.mark.parametrize(
    ("image", "model", "window", "error"),
    [
        pytest.param("f" * 32, None, None, LookupError, id="no such image"),
        pytest.param(None, "v999", None, LookupError, id="no such version"),
        pytest.param(None, None, (0, 0, 500, 10), ValueError, id="window beyond the image"),
        pytest.param(None, None, None, ValueError, id="logits of a window without it"),
    ],
)
def test_what_it_refuses(
    filled: Workspace,
    version: str,
    image_id: str,
    image: str | None,
    model: str | None,
    window: tuple[int, int, int, int] | None,
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        click_server(filled).predict(
            image or image_id, model or version, AGAIN, window=window, multimask=False
        )


def test_a_page_gets_the_embedding_that_the_server_decodes(
    filled: Workspace, version: str, image_id: str
) -> None:
    server = click_server(filled)
    predictor = serving.load_predictor(filled, version)
    clicks = InteractivePredictor(
        predictor, whole(server, image_id, version), parts(server, image_id, version)
    )
    for prompt, window, multimask in ((CLICK, None, True), (AGAIN, WINDOW, False)):
        given = server.predict(image_id, version, prompt, window=window, multimask=multimask)
        own = clicks.answer(prompt, window, multimask=multimask)
        for ours, theirs in zip(own, given, strict=True):
            torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=0)
            assert ours.iou == theirs.iou
            assert ours.look.window == theirs.look.window


def test_what_is_kept_and_what_is_new_decode_alike(
    filled: Workspace, version: str, image_id: str
) -> None:
    new = click_server(filled).predict(image_id, version, CLICK, window=None, multimask=True)
    predictor = serving.load_predictor(filled, version)
    EmbeddingStore(filled).keep([(image_id, predictor.embed(filled.pixels(image_id)))])
    kept = click_server(filled).predict(image_id, version, CLICK, window=None, multimask=True)
    for ours, theirs in zip(new, kept, strict=True):
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=0)


def test_it_says_how_a_page_decodes(filled: Workspace, version: str) -> None:
    described = click_server(filled).describe(version)
    assert described is not None
    assert (described.side, described.logits_side, described.sides) == (512, 128, (512, 256))
    assert described.closer_look == serving.load_predictor(filled, version).closer_look
    row = serving.model_row(filled, version)
    assert described.revision.startswith(row.weights_sha256[:16])


def test_a_decoder_is_exported_once(
    filled: Workspace, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported: list[int] = []
    original = decoders.decoder_graph

    def counting(model: PromptableSam, side: int) -> bytes:
        exported.append(side)
        return original(model, side)

    monkeypatch.setattr(decoders, "decoder_graph", counting)
    server = click_server(filled)
    first = server.decoder(version, 256)
    assert server.decoder(version, 256) == first
    assert click_server(filled).decoder(version, 256) == first, "another server finds the file"
    assert exported == [256]
    [kept] = (filled.root / "cache" / "decoders").iterdir()
    assert kept.read_bytes() == first
    with pytest.raises(LookupError, match="no page decodes frames of 300"):
        server.decoder(version, 300)


def test_a_decoder_too_slow_for_a_page_stays_on_the_server(
    filled: Workspace, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "embedding_shape", (256, 64, 64))
    server = click_server(filled)
    assert server.describe(version) is None
    with pytest.raises(LookupError):
        server.decoder(version, 512)


def test_no_decoder_of_a_version_that_there_is_not(filled: Workspace) -> None:
    server = click_server(filled)
    for ask in (server.describe, lambda version: server.decoder(version, 512)):
        with pytest.raises(LookupError):
            ask("v999")


def test_a_page_with_no_torch_answers_as_the_server(
    filled: Workspace, version: str, image_id: str
) -> None:
    """Over HTTP: the embedding and the graph that an item names, run by another runtime."""
    filled.queue.enqueue(
        [
            NewItem(
                image_id=image_id,
                file_name="scene.png",
                height=96,
                width=128,
                model_version=version,
                run_id="r",
                iteration=1,
                payload={"proposals": []},
            )
        ]
    )
    with annotator_server(filled) as url, httpx.Client(base_url=url, trust_env=False) as api:
        item = api.post("/api/lease", json={"annotator": "ada"}).json()["lease"]["item"]
        path, decoder = f"/api/items/{item['item_id']}", item["decoder"]
        asked = {"points": [[52.0, 42.0]], "labels": [1]}
        given = api.post(f"{path}/predict", json=asked).json()["masks"]
        embedding = ImageEmbedding.from_bytes(api.get(f"{path}/embedding").content)
        graph = api.get(decoder["urls"][str(embedding.frame.side)]).content
    assert decoder["version"] == version
    assert all(mask["window"] is None for mask in given), "too large for a closer look"
    logits, iou = decoded(graph, embedding, decoder["logits_side"])
    for place, mask in enumerate(given):
        theirs = Logits.model_validate(mask["logits"]).to_array()
        # They travel as float16.
        np.testing.assert_allclose(logits[0, 1 + place], theirs, atol=1e-2, rtol=1e-3)
        assert np.clip(iou[0, 1 + place], 0, 1) == pytest.approx(mask["predicted_iou"], abs=1e-4)


def decoded(graph: bytes, embedding: ImageEmbedding, logits_side: int) -> list[np.ndarray]:
    """What the graph makes of CLICK."""
    assert embedding.skips is not None
    hw = (logits_side, logits_side)
    tensors = CLICK.to_tensors(embedding.frame, hw)
    feed = {
        "features": embedding.features,
        "skip_2x": embedding.skips[0],
        "skip_4x": embedding.skips[1],
        "points": tensors.points[0],
        "labels": tensors.labels[0],
        "mask_logits": torch.zeros(1, *hw),
        "has_mask": torch.zeros(()),
    }
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    batch = {name: value.contiguous().numpy()[None] for name, value in feed.items()}
    return list(session.run(["logits", "iou"], batch))


def whole(server: ClickServer, image_id: str, version: str) -> ImageEmbedding:
    return ImageEmbedding.from_bytes(server.embedding(image_id, version, None))


def parts(
    server: ClickServer, image_id: str, version: str
) -> Callable[[Sequence[Window]], list[ImageEmbedding]]:
    """What a page fetches of windows."""

    def fetch(windows: Sequence[Window]) -> list[ImageEmbedding]:
        sent = [server.embedding(image_id, version, window) for window in windows]
        return [ImageEmbedding.from_bytes(data) for data in sent]

    return fetch
