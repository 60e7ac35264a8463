"""What stands: people's masks, and the newest automatic ones of the model in service."""

from typing import Any

import pytest

from storage.catalog import models
from storage.catalog.lake import Lake
from storage.rows import MaskRow, RetractionRow, SuppressionRow, mask_id

NAMES = {mask_id(name): name for name in ("a", "b", "c", "d", "old", "new", "person", "other")}


def standing(lake: Lake, **options: Any) -> set[str]:
    rows = lake.rows("SELECT mask_id FROM current_masks", **options)
    return {NAMES[row["mask_id"]] for row in rows}


def auto(make: Any, name: str, image_id: str, version: str, config: str = "config") -> MaskRow:
    return make.mask(
        name, image_id, "auto", model_version=version, config_hash=config, shard_key="k"
    )


@pytest.mark.places("folder", "team", slow=True)
@pytest.mark.parametrize("stage", ["label", "manual", "semi"])
def test_a_persons_mask_stands_until_it_is_superseded(
    lake: Lake, put: Any, make: Any, stage: str
) -> None:
    put(make.mask("old", "1", stage), make.mask("other", "1", stage))
    assert standing(lake) == {"old", "other"}
    put(make.mask("new", "1", "semi", supersedes=mask_id("old")))
    assert standing(lake) == {"new", "other"}


@pytest.mark.places("folder", "team", slow=True)
def test_automatic_masks_stand_only_for_the_model_in_service(
    lake: Lake, put: Any, make: Any
) -> None:
    put(
        make.model("v1", status="promoted"),
        make.model("v2", status="candidate"),
        auto(make, "a", "1", "v1"),
        auto(make, "b", "1", "v2"),
        make.image_set("k", "1", 1, model_version="v1"),
        make.image_set("k", "1", 1, model_version="v2"),
    )
    assert standing(lake) == {"a"}
    before = lake.snapshot()
    models.set_status(lake, "v1", "retired")
    models.set_status(lake, "v2", "promoted")
    assert standing(lake) == {"b"}
    assert standing(lake, snapshot=before) == {"a"}


@pytest.mark.places("folder", "team", slow=True)
def test_the_newest_set_of_each_image_stands(lake: Lake, put: Any, make: Any) -> None:
    put(
        make.model("v1"),
        auto(make, "old", "1", "v1", "coarse"),
        auto(make, "new", "1", "v1", "fine"),
        auto(make, "other", "2", "v1", "coarse"),
        make.image_set("k", "1", 1, config_hash="coarse", created_at=make.later(0)),
        make.image_set("k", "1", 1, config_hash="fine", created_at=make.later(1)),
        make.image_set("k", "2", 1, config_hash="coarse", created_at=make.later(0)),
    )
    assert standing(lake) == {"new", "other"}


@pytest.mark.places("folder", "team", slow=True)
def test_a_newer_empty_set_leaves_nothing(lake: Lake, put: Any, make: Any) -> None:
    put(
        make.model("v1"),
        auto(make, "old", "1", "v1", "coarse"),
        make.image_set("k", "1", 1, config_hash="coarse", created_at=make.later(0)),
        make.image_set("k", "1", 0, config_hash="fine", created_at=make.later(1)),
    )
    assert standing(lake) == set()


@pytest.mark.places("folder", "team", slow=True)
def test_an_automatic_mask_without_its_set_does_not_stand(lake: Lake, put: Any, make: Any) -> None:
    put(make.model("v1"), auto(make, "a", "1", "v1"))
    assert standing(lake) == set()


@pytest.mark.places("folder", "team", slow=True)
def test_a_suppression_counts_while_the_persons_mask_stands(
    lake: Lake, put: Any, make: Any
) -> None:
    put(
        make.model("v1"),
        auto(make, "a", "1", "v1"),
        auto(make, "b", "1", "v1"),
        make.image_set("k", "1", 2),
        make.mask("person", "1", "manual"),
        SuppressionRow(mask_id=mask_id("a"), by_mask_id=mask_id("person"), iou=0.8, run_id="r"),
    )
    assert standing(lake) == {"b", "person"}
    put(make.mask("new", "1", "manual", supersedes=mask_id("person")))
    assert standing(lake) == {"a", "b", "new"}


@pytest.mark.places("folder", "team", slow=True)
def test_a_correction_of_an_automatic_mask_replaces_it(lake: Lake, put: Any, make: Any) -> None:
    put(make.model("v1"), auto(make, "a", "1", "v1"), make.image_set("k", "1", 1))
    put(make.mask("new", "1", "semi", supersedes=mask_id("a")))
    assert standing(lake) == {"new"}


@pytest.mark.places("folder", "team", slow=True)
def test_a_retracted_mask_stands_no_more_and_covers_nothing(
    lake: Lake, put: Any, make: Any
) -> None:
    put(
        make.model("v1"),
        auto(make, "a", "1", "v1"),
        auto(make, "b", "1", "v1"),
        make.image_set("k", "1", 2),
        make.mask("person", "1", "semi"),
        make.mask("other", "1", "label"),
        SuppressionRow(mask_id=mask_id("a"), by_mask_id=mask_id("person"), iou=0.8, run_id="r"),
    )
    before = lake.snapshot()
    put(*(retraction(make, name) for name in ("person", "b")))
    assert standing(lake) == {"a", "other"}
    assert standing(lake, snapshot=before) == {"b", "other", "person"}


def retraction(make: Any, name: str) -> RetractionRow:
    return RetractionRow(mask_id=mask_id(name), submission_id="s", run_id="r", created_at=make.now)


@pytest.mark.places("folder", "team", slow=True)
def test_the_view_has_the_columns_of_the_table(lake: Lake) -> None:
    names = [field.name for field in lake.arrow("FROM masks LIMIT 0").schema]
    assert [field.name for field in lake.arrow("FROM current_masks LIMIT 0").schema] == names
