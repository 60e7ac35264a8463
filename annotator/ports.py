"""What the annotator asks of those who own models and images; flows supplies both."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.geometry import Window
from engine.model.interactive import Answer
from engine.model.prompts import Prompts


class ClickModels(Protocol):
    """Answers prompts with masks, by whichever model version an item was enqueued with."""

    def predict(
        self,
        image_id: str,
        model_version: str,
        prompt: Prompts,
        *,
        window: Window | None,
        multimask: bool,
    ) -> Sequence[Answer]:
        """Masks for one prompt in pixels of the original image; called from several threads.

        Previous logits in the prompt are those of `window`, or of the whole image. Raises
        LookupError when there is no such image or model version, ValueError for prompts that the
        model cannot take, such as previous logits of another size.
        """


class ImageSource(Protocol):
    """Reads images by id."""

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; raises LookupError when there is no such image."""
