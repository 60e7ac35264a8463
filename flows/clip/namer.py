"""What the workspace's CLIP would call a mask, by some classes, and how sure it is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from engine.clip.classes import ClassPrompts, classifier
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.naming import NONE, Calibration, calibrate, probabilities
from engine.identity import canonical_json
from flows.clip.mask_vectors import Vectors, unpacked
from flows.workspace import Workspace

BY_PEOPLE = "SELECT mask_id, category FROM mask_names WHERE classes_hash IS NULL"


@dataclass(frozen=True)
class Namer:
    """Some classes as one CLIP sees them; classes (C, D) float32 unit vectors."""

    encoder: MaskEncoder
    prompts: ClassPrompts
    classes: npt.NDArray[np.float32]

    @classmethod
    def of(cls, encoder: MaskEncoder, prompts: ClassPrompts) -> Self:
        """The classes of `prompts`, embedded."""
        return cls(encoder, prompts, classifier(encoder.clip, prompts).astype(np.float32))

    @cached_property
    def classes_hash(self) -> str:
        """16 hex digits that name the classes, the templates and the CLIP."""
        both = canonical_json([self.prompts.hash, self.encoder.encoder_id])
        return hashlib.sha256(both.encode()).hexdigest()[:16]

    def unknown_words(self) -> tuple[str, ...]:
        """Those of the classes' names that the CLIP never learnt; templates matter less."""
        names = " ".join(name for synonyms in self.prompts.classes for name in synonyms)
        return self.encoder.clip.unknown_words(names)

    def calibration(self, workspace: Workspace) -> Calibration:
        """By the masks that people and files named, whatever stands of them now."""
        found = workspace.lake.arrow(
            f"SELECT named.category, v.vector FROM ({BY_PEOPLE}) named "
            "JOIN mask_vectors v USING (mask_id) WHERE v.encoder_id = ? ORDER BY v.mask_id",
            (self.encoder.encoder_id,),
        )
        numbers = self.prompts.numbers
        said = found["category"].to_pylist()
        names = np.array([numbers.get(name.casefold(), NONE) for name in said], dtype=np.int64)
        return calibrate(self._cosines(unpacked(found["vector"], self.encoder.clip.dim)), names)

    def names(self, vectors: Vectors, calibration: Calibration) -> list[tuple[str | None, float]]:
        """The likeliest class of each of (N, D) vectors of masks, None for none; how likely."""
        shares = probabilities(self._cosines(vectors), calibration)
        names: Sequence[str | None] = (*self.prompts.names, None)
        best = shares.argmax(axis=1)
        return [
            (names[number], float(score))
            for number, score in zip(best, shares.max(axis=1), strict=True)
        ]

    def _cosines(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        cosines: npt.NDArray[np.float32] = vectors.astype(np.float32) @ self.classes.T
        return cosines
