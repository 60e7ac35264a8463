"""The click server: answers on images of the workspace, and what a page needs to answer itself."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

from annotator.ports import DecoderDescription, Found
from engine.geometry import Window
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import Answer, InteractivePredictor, embed_windows
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from flows.annotating.decoders import Decoders, described
from flows.annotating.pictures import Pictures
from flows.annotating.text_prompts import TextPrompts
from flows.clip.clips import not_known
from flows.errors import StageError, UsageError
from flows.files.text_masks import TextJob, masks_in
from flows.models import serving
from flows.models.embeddings import EmbeddingStore
from flows.workspace import Workspace
from storage.errors import ChecksumMismatchError, NotFoundError

_IN_MEMORY = 64
# An image, an encoder, and the window of the image or None for all of it.
_Key = tuple[str, str, Window | None]


class ClickServer:
    """The annotator's `ClickModels`; holds models and embeddings in memory.

    An image keeps the version it was enqueued with, whatever is promoted meanwhile.
    """

    def __init__(self, workspace: Workspace, pictures: Pictures) -> None:
        self._workspace = workspace
        self._pictures = pictures
        self._store = EmbeddingStore(workspace)
        self._decoders = Decoders(workspace)
        self._texts = TextPrompts(workspace)
        self._predictors: dict[str, Predictor] = {}
        self._descriptions: dict[str, DecoderDescription | LookupError | None] = {}
        self._embeddings: OrderedDict[_Key, ImageEmbedding] = OrderedDict()
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

        Raises LookupError when the image or the version is gone.
        """
        with self._lock:
            interactive = self._interactive(image_id, self._predictor(model_version))
            return interactive.answer(prompt, window, multimask=multimask)

    def reads_text(self, model_version: str) -> bool:
        """Whether `find` can be asked, as far as the add-on's card says."""
        with self._lock:
            try:
                return self._texts.missing(self._predictor(model_version)) is None
            except LookupError:
                return False

    def find(self, image_id: str, model_version: str, text: str) -> Found:
        """All masks that a text means, by the version that the item has.

        Raises LookupError as `predict` does, ValueError where it reads no texts or not these words.
        """
        job = TextJob(text=text, every=True)
        with self._lock:
            predictor = self._texts.reading(self._predictor(model_version))
            if unknown := predictor.unknown_words(text):
                raise ValueError(f"text: {not_known(unknown)}")
            embedding = self._whole(image_id, predictor)
            masks, presence = masks_in(predictor, job, embedding)
        return Found(presence=presence, masks=tuple(masks))

    def embedding(self, image_id: str, model_version: str, window: Window | None) -> bytes:
        """What `predict` decodes, as a safetensors file.

        Raises LookupError as it does, ValueError for a window that is not in the image, or of a
        model that takes none.
        """
        with self._lock:
            interactive = self._interactive(image_id, self._predictor(model_version))
            return interactive.look(window).embedding.to_bytes()

    def describe(self, model_version: str) -> DecoderDescription | None:
        """How a page decodes; None where it would be too slow.

        Looked up once, for every item that is handed out asks. Raises LookupError when the version
        is gone, also if it comes back later; a page then has the server decode.
        """
        if model_version not in self._descriptions:
            self._descriptions[model_version] = self._described(model_version)
        found = self._descriptions[model_version]
        if isinstance(found, LookupError):
            raise LookupError(str(found))
        return found

    def _described(self, version: str) -> DecoderDescription | LookupError | None:
        with self._lock:
            try:
                predictor = self._predictor(version)
            except LookupError as error:
                return error
            return described(predictor, serving.model_row(self._workspace, version))

    def decoder(self, model_version: str, side: int) -> bytes:
        """The ONNX graph for frames of `side`; raises LookupError where there is none."""
        description = self.describe(model_version)
        if description is None or side not in description.sides:
            raise LookupError(f"model {model_version}: no page decodes frames of {side} with it")
        with self._lock:
            row = serving.model_row(self._workspace, model_version)
            return self._decoders.graph(row, side)

    def _predictor(self, version: str) -> Predictor:
        if version not in self._predictors:
            try:
                self._predictors[version] = serving.load_predictor(self._workspace, version)
            except (UsageError, StageError, NotFoundError, ChecksumMismatchError) as error:
                raise LookupError(str(error)) from error
        return self._predictors[version]

    def _whole(self, image_id: str, predictor: Predictor) -> ImageEmbedding:
        def embed() -> ImageEmbedding:
            found = self._store.find(image_id, predictor.encoder_id)
            return found or predictor.embed(self._pictures.pixels(image_id)).as_kept()

        return self._kept((image_id, predictor.encoder_id, None), embed)

    def _interactive(self, image_id: str, predictor: Predictor) -> InteractivePredictor:
        def of_window(window: Window) -> ImageEmbedding:
            def embed() -> ImageEmbedding:
                x0, y0, x1, y1 = window
                part = self._pictures.part(image_id, 0, window)
                [embedding] = embed_windows(predictor, part, [(0, 0, x1 - x0, y1 - y0)])
                return embedding.as_kept()

            return self._kept((image_id, predictor.encoder_id, window), embed)

        embedding = self._whole(image_id, predictor)
        return InteractivePredictor(
            predictor, embedding, lambda windows: [of_window(window) for window in windows]
        )

    def _kept(self, key: _Key, make: Callable[[], ImageEmbedding]) -> ImageEmbedding:
        if key not in self._embeddings:
            self._embeddings[key] = make()
            while len(self._embeddings) > _IN_MEMORY:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]
