"""Graphs with which a page decodes embeddings: exported once for a model version, and kept."""

import logging
from collections import OrderedDict
from threading import Lock

from annotator.ports import DecoderDescription
from engine.geometry import Frame
from engine.model.graph.decoder import REVISION, decoder_graph
from engine.model.predictor import Predictor
from flows.images.cache_folder import CacheFolder
from flows.models import serving
from flows.workspace import Workspace
from storage.rows import ModelVersionRow

_log = logging.getLogger(__name__)
# Cells times channels of an embedding that a page decodes: twice nano's. SAM's has 2^20, and its
# decoder takes seconds there.
_LIGHT = 1 << 17
# One megabyte each.
_IN_MEMORY = 8
_MAX_BYTES = 256 * 10**6


def described(predictor: Predictor, row: ModelVersionRow) -> DecoderDescription | None:
    """What a page must know to decode a version; None where it would be too slow there."""
    channels, height, width = predictor.embedding_shape
    if channels * height * width > _LIGHT:
        return None
    side = predictor.frame_side
    logits_side, _ = predictor.logits_hw(Frame(original_hw=(side, side), side=side))
    return DecoderDescription(
        side=side,
        logits_side=logits_side,
        closer_look=predictor.closer_look,
        revision=_revision(row),
    )


class Decoders:
    """Finds or makes graphs; two threads that ask for the same make it once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._kept = CacheFolder(workspace.folder("cache", "decoders"), _MAX_BYTES)
        self._at_hand: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def graph(self, row: ModelVersionRow, side: int) -> bytes:
        """The graph of a version for frames of `side`; raises ValueError as `decoder_graph`."""
        name = f"{_revision(row)}-{side}.onnx"
        with self._lock:
            if name not in self._at_hand:
                self._at_hand[name] = self._found(name) or self._made(name, row, side)
                while len(self._at_hand) > _IN_MEMORY:
                    self._at_hand.popitem(last=False)
            self._at_hand.move_to_end(name)
            return self._at_hand[name]

    def _found(self, name: str) -> bytes | None:
        path = self._kept.find(name)
        try:
            return None if path is None else path.read_bytes()
        except FileNotFoundError:
            return None  # dropped in between

    def _made(self, name: str, row: ModelVersionRow, side: int) -> bytes:
        graph = decoder_graph(serving.load_model(self._workspace, row), side)
        try:
            self._kept.keep(name, lambda stream: stream.write(graph))
        except OSError as error:
            _log.warning("%s: cannot be kept and will be made again: %s", name, error)
        return graph


def _revision(row: ModelVersionRow) -> str:
    return f"{row.weights_sha256[:24]}-{REVISION}"
