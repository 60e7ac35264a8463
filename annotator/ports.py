"""What the annotator asks of those who own models and images; flows supplies both."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from engine.model.predictor import Prediction
from engine.model.prompts import Prompts


class ClickModels(Protocol):
    """Answers prompts with masks, by whichever model version an item was enqueued with."""

    def predict(
        self, image_id: str, model_version: str, prompts: Prompts, multimask: bool
    ) -> Prediction:
        """Masks for prompts in pixels of the original image; called from several threads.

        Raises LookupError when there is no such image or model version, ValueError for prompts
        that the model cannot take, such as previous logits of another size.
        """


class ImageSource(Protocol):
    """Reads images by id."""

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; raises LookupError when there is no such image."""
