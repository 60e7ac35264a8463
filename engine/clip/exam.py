"""What a CLIP is asked while it trains: images by their classes' names, and pairs it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.clip.classes import ClassPrompts, classifier
from engine.clip.frames import Pixels
from engine.clip.model import Clip
from engine.clip.pairs import Pairs, alike_of
from engine.clip.retrieval import Recall, recall_at


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images, each with the number of its class among those of `prompts`, counted from 0.

    Raises ValueError for lists of different lengths, for none, and for a label that is no class.
    """

    images: Sequence[Pixels]
    labels: Sequence[int]
    prompts: ClassPrompts

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or not self.images:
            raise ValueError(
                f"labels: must be one for each of {len(self.images)} images, at least 1, "
                f"but got {len(self.labels)}"
            )
        if not set(self.labels) <= set(range(len(self.prompts.classes))):
            raise ValueError(
                f"labels: must be from 0 to {len(self.prompts.classes) - 1}, "
                f"but got {min(self.labels)} to {max(self.labels)}"
            )


@dataclass(frozen=True, kw_only=True)
class Marks:
    """After `step` steps: the share of images named rightly, and R@k; None if not asked."""

    step: int
    accuracy: float | None
    recall: Recall | None


@dataclass(frozen=True, kw_only=True)
class Exam:
    """The questions; either may be left out. All of `pairs` are embedded each time."""

    labelled: Labelled | None = None
    pairs: Pairs | None = None

    def marks(self, clip: Clip, step: int) -> Marks:
        """How `clip` does."""
        recall = None
        if self.pairs is not None:
            indices = range(len(self.pairs))
            images, texts = self.pairs.fetch(indices)
            embedded = clip.embed_images(images), clip.embed_texts(texts)
            recall = recall_at(*embedded, alike=alike_of(self.pairs, indices, texts))
        accuracy = None if self.labelled is None else zero_shot_accuracy(clip, self.labelled)
        return Marks(step=step, accuracy=accuracy, recall=recall)


def zero_shot_accuracy(clip: Clip, labelled: Labelled) -> float:
    """The share of images whose most similar class is their own, in [0, 1]."""
    classes = classifier(clip, labelled.prompts)
    similar = clip.embed_images(labelled.images) @ classes.T
    return float((similar.argmax(axis=1) == np.asarray(labelled.labels)).mean())
