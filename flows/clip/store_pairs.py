"""Masks of the store with the names that people and files gave them, as pairs for CLIP."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.clip.classes import ClassPrompts
from engine.clip.views import Pixels, ViewsConfig, crops
from flows.clip.clips import prompts_of
from flows.clip.pictures import Saying, Seen
from flows.errors import StageError, UsageError
from flows.images.sources import ImageReader
from flows.images.splits import unit_hash
from flows.suppression import as_rle
from flows.workspace import Workspace

# What a threshold accepted is CLIP's own opinion, from which it would only learn to be surer of it.
_NAMED = """
    SELECT m.mask_id, m.image_id, i.uri, i.group_id AS content,
           m.segmentation, named.category
    FROM current_masks m JOIN images i USING (image_id) JOIN mask_names named USING (mask_id)
    ANTI JOIN (SELECT group_id FROM images WHERE split = 'gold') gold ON gold.group_id = i.group_id
    WHERE named.classes_hash IS NULL AND named.category IS NOT NULL
      AND i.split <> 'gold' AND NOT m.is_crowd AND m.area > 0
    ORDER BY m.image_id, m.mask_id
"""


@dataclass(frozen=True, kw_only=True)
class StorePairs:
    """A `flows.clip.pictures.PairSource` of images by their masks, as CLIP is shown these."""

    name: str
    prompts: ClassPrompts
    images: tuple[tuple[dict[str, Any], ...], ...]
    reader: ImageReader
    views: ViewsConfig
    side: int

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def _sentences(self) -> list[list[str]]:
        return self.prompts.prompts()

    def look(self, index: int) -> Seen | str:
        """An image's masks in all views, each with one of the sentences on its class."""
        masks, numbers = self.images[index], self.prompts.numbers
        try:
            image = self.reader.pixels(masks[0]["uri"], masks[0]["image_id"])
        except StageError as error:
            return str(error)
        pictures: list[Pixels] = []
        sayings: list[Saying] = []
        for mask in masks:
            label = numbers[mask["category"].casefold()]
            sentences = self._sentences[label]
            shown = crops(image, as_rle(mask["segmentation"]), self.views, self.side)
            for view, picture in zip(self.views.views, shown, strict=True):
                chosen = unit_hash(0, f"{mask['mask_id']}/{view}")
                text = sentences[int(chosen * len(sentences))]
                sayings.append(Saying(picture=len(pictures), text=text, alike=label, label=label))
                pictures.append(picture)
        return Seen(content=masks[0]["content"], pictures=pictures, sayings=sayings)


def store_pairs(workspace: Workspace, views: ViewsConfig, side: int) -> StorePairs:
    """The masks that people and files have named, but those of gold images.

    Raises UsageError with fewer than two names.
    """
    images: dict[str, list[dict[str, Any]]] = {}
    for row in workspace.lake.rows(_NAMED):
        images.setdefault(row["image_id"], []).append(row)
    names = sorted({row["category"] for rows in images.values() for row in rows})
    prompts = prompts_of(workspace, names) if names else None
    if prompts is None or len(prompts.classes) < 2:
        raise UsageError(
            f"store: masks outside the gold set have {len(names)} names, but telling them apart "
            "needs two; name masks in the annotator, or import labels with categories"
        )
    return StorePairs(
        name=f"store {workspace.root.name}, snapshot {workspace.lake.snapshot()}",
        prompts=prompts,
        images=tuple(tuple(rows) for rows in images.values()),
        reader=workspace.reader,
        views=views,
        side=side,
    )
