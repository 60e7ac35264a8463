"""A class is the mean of all its names in all templates."""

import numpy as np
import pytest

from engine.clip.classes import ClassPrompts, classifier
from engine.clip.config import ClipConfig
from engine.clip.exam import Labelled
from engine.clip.model import Clip
from engine.clip.vocabulary import tokens_of

LINES = ["# kitchen", "mug | cup", "", " kettle ", "small spoon|teaspoon | tea spoon"]
TEMPLATES = ("a photo of a {}.", "the {} on a table")


def prompts() -> ClassPrompts:
    return ClassPrompts.parse(LINES, TEMPLATES)


def test_a_line_is_a_class_with_its_synonyms() -> None:
    assert prompts().classes == (
        ("mug", "cup"), ("kettle",), ("small spoon", "teaspoon", "tea spoon"),
    )  # fmt: skip
    assert prompts().names == ("mug", "kettle", "small spoon")
    assert prompts().prompts()[1] == ["a photo of a kettle.", "the kettle on a table"]


def test_each_class_is_the_normalised_mean_of_its_prompts() -> None:
    texts = [text for group in prompts().prompts() for text in group]
    clip = Clip.new(ClipConfig(tokens=tokens_of(texts)), seed=0)
    found = classifier(clip, prompts())
    assert found.shape == (3, clip.dim)
    assert found.dtype == np.float32
    for row, names in zip(found, prompts().classes, strict=True):
        total = np.zeros(clip.dim)
        for name in names:
            for template in TEMPLATES:
                total += clip.embed_texts([template.format(name)])[0]
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-5)


def test_the_hash_names_classes_synonyms_and_templates() -> None:
    others = [
        ClassPrompts.parse(["mug", "kettle"], TEMPLATES),
        ClassPrompts.parse(["mug | cup", "kettle"], TEMPLATES),
        ClassPrompts.parse(["mug | cup", "kettle"]),
        ClassPrompts.parse(["kettle", "mug | cup"]),
        prompts(),
    ]
    assert len({each.hash for each in others}) == len(others)
    assert prompts().hash == prompts().hash
    assert len(prompts().hash) == 16


@pytest.mark.parametrize(
    ("lines", "templates", "message"),
    [
        (["# nothing"], TEMPLATES, "must have at least one each"),
        (["mug"], (), "must have at least one each"),
        (["mug", "kettle |"], TEMPLATES, r"classes\[2\]: must have no empty name"),
        (["mug | cup", "Cup"], TEMPLATES, r"must stand once, but these do not: \['cup'\]"),
        (["mug"], ("a photo",), "must have one {} each, but got 'a photo'"),
        (["mug"], ("{} and {}",), "must have one {} each"),
    ],
)
def test_what_names_nothing_is_refused(
    lines: list[str], templates: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ClassPrompts.parse(lines, templates)


@pytest.mark.parametrize(
    ("count", "labels", "message"),
    [
        (2, [0], "one for each of 2 images"),
        (0, [], "at least 1"),
        (1, [3], "from 0 to 2, but got 3"),
    ],
)
def test_labels_that_fit_nothing_are_refused(count: int, labels: list[int], message: str) -> None:
    images = [np.zeros((2, 2, 3), np.uint8)] * count
    with pytest.raises(ValueError, match=message):
        Labelled(images=images, labels=labels, prompts=prompts())
