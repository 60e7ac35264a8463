"""What a simulated annotator knows: the true masks of images, by file name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from annotator.messages import WorkItem
from engine import coco
from engine.rle import Rle


class TruthError(ValueError):
    """The truth cannot be used: unreadable, or it is of other images."""


@dataclass(frozen=True)
class Truth:
    """True masks by file name; `where` names their origin in messages."""

    masks: Mapping[str, Sequence[Rle]]
    where: str = "truth"

    @classmethod
    def read(cls, path: Path) -> Self:
        """The masks of a COCO file, without crowd regions; raises TruthError."""
        try:
            dataset = coco.read(path)
        except coco.CocoError as error:
            raise TruthError(str(error)) from error
        names = {image.id: image.file_name for image in dataset.images}
        masks: dict[str, list[Rle]] = {name: [] for name in names.values()}
        if len(masks) < len(names):
            raise TruthError(f"{path}: images: must each have a file_name of their own")
        for mask in dataset.masks:
            if not mask.is_crowd:
                masks[names[mask.image_id]].append(mask.rle)
        return cls(masks, str(path))

    def of(self, item: WorkItem) -> Sequence[Rle]:
        """The true masks of an item's image; raises TruthError when they are of other images."""
        if item.file_name not in self.masks:
            raise TruthError(
                f"{self.where}: must have the images of the queue, but knows no "
                f"{item.file_name!r}; name the annotation file of these images"
            )
        masks = self.masks[item.file_name]
        for mask in masks:
            if mask.size != (item.height, item.width):
                raise TruthError(
                    f"{self.where}: {item.file_name!r}: must be {item.height} x {item.width} like "
                    f"the image in the queue, got masks of {mask.size[0]} x {mask.size[1]}"
                )
        return masks
