"""Image embeddings kept on disk, so that an annotator's click costs one decoder call."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

from engine.geometry import Window
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import Answer, InteractivePredictor, embed_windows
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from flows import serving
from flows.errors import StageError, UsageError
from flows.workspace import Workspace
from storage.rows import EmbeddingRow, utcnow

_IN_MEMORY = 64
# An image, an encoder, and the window of the image or None for all of it.
_Key = tuple[str, str, Window | None]


class EmbeddingStore:
    """Keeps and finds embeddings by image and encoder."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def keep(self, items: Sequence[tuple[str, ImageEmbedding]]) -> None:
        """Store `(image_id, embedding)` pairs and their rows, in one commit."""
        rows = []
        for image_id, embedding in items:
            key = f"embeddings/{embedding.encoder_id}/{image_id}.safetensors"
            stored = self._workspace.objects.put(key, embedding.to_bytes())
            rows.append(
                EmbeddingRow(
                    image_id=image_id,
                    encoder_id=embedding.encoder_id,
                    uri=stored.uri,
                    sha256=stored.sha256,
                    bytes=stored.bytes,
                    created_at=utcnow(),
                )
            )
        self._workspace.lake.commit(lambda tx: tx.insert(rows), message="embeddings")

    def find(self, image_id: str, encoder_id: str) -> ImageEmbedding | None:
        """The stored embedding, checked against its SHA-256; None when there is none."""
        rows = self._workspace.lake.rows(
            "SELECT uri, sha256 FROM embeddings WHERE image_id = ? AND encoder_id = ? "
            "ORDER BY created_at DESC LIMIT 1",
            (image_id, encoder_id),
        )
        if not rows:
            return None
        data = self._workspace.objects.get(rows[0]["uri"], sha256=rows[0]["sha256"])
        return ImageEmbedding.from_bytes(data)


class ClickServer:
    """The annotator's `ClickModels` and `ImageSource`; holds models and embeddings in memory."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._store = EmbeddingStore(workspace)
        self._predictors: dict[str, Predictor] = {}
        self._embeddings: OrderedDict[_Key, ImageEmbedding] = OrderedDict()
        self._last: tuple[str, npt.NDArray[np.uint8]] | None = None
        self._lock = Lock()

    def predict(
        self,
        image_id: str,
        model_version: str,
        prompt: Prompts,
        *,
        window: Window | None,
        multimask: bool,
    ) -> Sequence[Answer]:
        """Masks of `model_version` for one prompt on one image.

        An image keeps the version it was enqueued with, whatever is promoted meanwhile. Raises
        LookupError when the image or the version is gone.
        """
        with self._lock:
            try:
                interactive = self._interactive(image_id, self._predictor(model_version))
                return interactive.answer(prompt, window, multimask=multimask)
            except (UsageError, StageError) as error:
                raise LookupError(str(error)) from error

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; raises LookupError when the image is gone."""
        try:
            return self._workspace.pixels(image_id)
        except StageError as error:
            raise LookupError(str(error)) from error

    def _predictor(self, version: str) -> Predictor:
        if version not in self._predictors:
            self._predictors[version] = serving.load_predictor(self._workspace, version)
        return self._predictors[version]

    def _interactive(self, image_id: str, predictor: Predictor) -> InteractivePredictor:
        def whole() -> ImageEmbedding:
            found = self._store.find(image_id, predictor.encoder_id)
            return found or predictor.embed(self._at_hand(image_id))

        def of_window(window: Window) -> ImageEmbedding:
            def embed() -> ImageEmbedding:
                return embed_windows(predictor, self._at_hand(image_id), [window])[0]

            return self._kept((image_id, predictor.encoder_id, window), embed)

        embedding = self._kept((image_id, predictor.encoder_id, None), whole)
        return InteractivePredictor(
            predictor, embedding, lambda windows: [of_window(window) for window in windows]
        )

    def _at_hand(self, image_id: str) -> npt.NDArray[np.uint8]:
        """The image's pixels; the last image's are kept, for many windows of one are asked for."""
        if self._last is None or self._last[0] != image_id:
            self._last = (image_id, self._workspace.pixels(image_id))
        return self._last[1]

    def _kept(self, key: _Key, make: Callable[[], ImageEmbedding]) -> ImageEmbedding:
        if key not in self._embeddings:
            self._embeddings[key] = make()
            while len(self._embeddings) > _IN_MEMORY:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]
