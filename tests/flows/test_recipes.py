"""Named configurations: each is whole, and variants are checked as it is."""

from dataclasses import replace

import pytest

from flows.errors import UsageError
from flows.recipes import RECIPES, GateConfig, recipe_named


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_found_by_its_name(name: str) -> None:
    recipe = recipe_named(name)
    assert recipe.name == name
    assert recipe.assist.num_images <= recipe.assist.pool
    assert set(recipe.gate.metrics) <= {"iou_1_click", "iou_3_clicks", "iou_5_clicks"}


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        UsageError, match="recipe 'huge': unknown; there are: nano, quick, detector"
    ):
        recipe_named("huge")


def test_only_what_changes_masks_changes_the_generation_key() -> None:
    recipe = recipe_named("nano")
    finer = replace(recipe, generation=replace(recipe.generation, points_per_side=48))
    other = replace(recipe, name="other", shard_size=3).computing_in("float32")
    assert finer.generation_key() != recipe.generation_key() == other.generation_key()
    assert recipe.computing_in("bfloat16").generation_key() != recipe.generation_key()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"shard_size": 0}, "shard_size"), ({"clicks_per_image": 0}, "clicks_per_image")],
    ids=["shard size", "clicks"],
)
def test_numbers_are_checked(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: must be at least 1, but got 0"):
        replace(recipe_named("nano"), **change)


def test_a_margin_is_a_share() -> None:
    with pytest.raises(ValueError, match=r"margin: must be in \[0, 1\), but got 1"):
        GateConfig(margin=1)
