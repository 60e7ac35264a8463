"""What the annotator asks of those who own models and images; flows supplies both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.generation.by_text import TextMask
from engine.geometry import Window
from engine.model.closer_look import CloserLook
from engine.model.interactive import Answer
from engine.model.prompts import Prompts


@dataclass(frozen=True, kw_only=True)
class DecoderDescription:
    """What a page must know to decode the embeddings of a model version by itself.

    side: of the frame of a whole image; logits_side: of its masks, which are as much smaller in a
    smaller frame; revision: names the weights and the form of the graphs, so that whatever was kept
    under it may be used again.
    """

    side: int
    logits_side: int
    closer_look: CloserLook | None
    revision: str

    @property
    def sides(self) -> tuple[int, ...]:
        """Of all frames that there are, the whole image's first."""
        closer = () if self.closer_look is None else (self.closer_look.side,)
        return tuple(dict.fromkeys((self.side, *closer)))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a text means on an image; presence in [0, 1]: how likely there is any of it."""

    presence: float
    masks: tuple[TextMask, ...]


class ClickModels(Protocol):
    """Answers prompts with masks, by whichever model version an item was enqueued with.

    Also gives what a page needs to answer them by itself. Each may be called from several threads.
    """

    def predict(
        self,
        image_id: str,
        model_version: str,
        prompt: Prompts,
        *,
        window: Window | None,
        multimask: bool,
    ) -> Sequence[Answer]:
        """Masks for one prompt in pixels of the original image.

        Previous logits in the prompt are those of `window`, or of the whole image. Raises
        LookupError when there is no such image or model version, ValueError for prompts that the
        model cannot take, such as previous logits of another size.
        """

    def reads_text(self, model_version: str) -> bool:
        """Whether `find` may be asked; False where there is no such version."""

    def find(self, image_id: str, model_version: str, text: str) -> Found:
        """The masks that a text means, the likeliest first.

        Raises LookupError as `predict`, ValueError for a model that reads no texts.
        """

    def embedding(self, image_id: str, model_version: str, window: Window | None) -> bytes:
        """`ImageEmbedding.to_bytes` of an image, or of a window of it in a closer look's frame.

        `predict` decodes the very same. Raises LookupError as it does, ValueError for a window that
        is not in the image or of a model that takes none.
        """

    def describe(self, model_version: str) -> DecoderDescription | None:
        """How a page decodes; None where it would be too slow. Raises LookupError as `predict`."""

    def decoder(self, model_version: str, side: int) -> bytes:
        """The ONNX graph for frames of `side`.

        Raises LookupError as `predict`, and where the page should not decode, or not such frames.
        """


class ImageSource(Protocol):
    """Reads images by id; may be called from several threads."""

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; raises LookupError when there is no such image."""

    def part(self, image_id: str, level: int, window: Window) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB: a window of a level of `engine.tiles`, in pixels of the level.

        Raises LookupError when there is no such image, ValueError for a window not in the level.
        """
