"""The click server: answers on images of the workspace, whole or in windows that it keeps."""

from collections.abc import Sequence

import numpy as np
import pytest

from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from flows import serving
from flows.embeddings import ClickServer
from flows.progress import Silent
from flows.recipes import Recipe
from flows.workspace import Workspace

WINDOW = (20, 10, 84, 74)
CLICK = Prompts.clicks([(52.0, 42.0)], [1])
AGAIN = Prompts.clicks([(52.0, 42.0), (60.0, 42.0)], [1, 0], np.zeros((64, 64), np.float32))


@pytest.fixture
def version(filled: Workspace, recipe: Recipe) -> str:
    return serving.ensure_base(filled, recipe, Silent())


@pytest.fixture
def image_id(filled: Workspace) -> str:
    return str(filled.lake.rows("SELECT image_id FROM images ORDER BY 1 LIMIT 1")[0]["image_id"])


def test_an_ambiguous_click_gets_three_answers(
    filled: Workspace, version: str, image_id: str
) -> None:
    answers = ClickServer(filled).predict(image_id, version, CLICK, window=None, multimask=True)
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
    server = ClickServer(filled)
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
        ClickServer(filled).predict(
            image or image_id, model or version, AGAIN, window=window, multimask=False
        )
