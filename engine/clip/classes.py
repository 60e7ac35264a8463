"""Names of classes, in all the words that mean them, as vectors to compare with."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from engine.identity import canonical_json

if TYPE_CHECKING:  # torch takes seconds to import, and names of classes need none
    from engine.clip.model import Clip, Embeddings

PLAIN = ("a photo of a {}.",)
_SYNONYMS = "|"


@dataclass(frozen=True, kw_only=True)
class ClassPrompts:
    """Classes with their synonyms, the first of which names the class, and templates with a `{}`.

    Raises ValueError without a class or template, for a template without exactly one `{}`, for an
    empty name, and for a name that stands twice.
    """

    classes: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...] = PLAIN

    def __post_init__(self) -> None:
        if not self.classes or not self.templates:
            raise ValueError("classes, templates: must have at least one each, but one is empty")
        for place, synonyms in enumerate(self.classes, start=1):
            if not synonyms or not all(name.strip() for name in synonyms):
                raise ValueError(f"classes[{place}]: must have no empty name, but got {synonyms}")
        counts = Counter(name.casefold() for synonyms in self.classes for name in synonyms)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"classes: each name must stand once, but these do not: {twice}")
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"templates: must have one {{}} each, but got {template!r}")

    @classmethod
    def parse(cls, lines: Sequence[str], templates: Sequence[str] = PLAIN) -> Self:
        """A class a line, as `mug | cup`, and a template a line.

        Empty lines and those that begin with # are left out.
        """
        classes = (tuple(name.strip() for name in line.split(_SYNONYMS)) for line in told(lines))
        return cls(classes=tuple(classes), templates=tuple(told(templates)))

    @property
    def names(self) -> tuple[str, ...]:
        """C names, each the first of its synonyms."""
        return tuple(synonyms[0] for synonyms in self.classes)

    @property
    def numbers(self) -> dict[str, int]:
        """The class of each name and synonym, casefolded."""
        return {
            name.casefold(): number
            for number, synonyms in enumerate(self.classes)
            for name in synonyms
        }

    @property
    def hash(self) -> str:
        """16 hex digits that name classes, synonyms and templates, in their order."""
        return hashlib.sha256(canonical_json(self).encode()).hexdigest()[:16]

    def prompts(self) -> list[list[str]]:
        """For each class, each of its names in each template."""
        return [
            [template.replace("{}", name) for name in synonyms for template in self.templates]
            for synonyms in self.classes
        ]


def told(lines: Sequence[str]) -> list[str]:
    """The lines of a file of classes or templates that say something."""
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def classifier(clip: "Clip", prompts: ClassPrompts) -> "Embeddings":
    """(C, D) unit vectors: for each class the mean of its prompts' embeddings, normalised again."""
    texts = prompts.prompts()
    embedded = clip.embed_texts([text for group in texts for text in group])
    ends = np.cumsum([len(group) for group in texts])
    means = np.stack([rows.mean(axis=0) for rows in np.split(embedded, ends[:-1])])
    found: Embeddings = means / np.linalg.norm(means, axis=1, keepdims=True)
    return found
