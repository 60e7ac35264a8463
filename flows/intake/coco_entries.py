"""The images that a COCO file lists: found, read, and compared with what is said of them."""

from collections.abc import Sequence
from pathlib import Path

from engine import coco
from flows.images.sources import Place
from flows.intake.files import FoundImage, Progress, read_images
from flows.intake.places import place_in
from flows.intake.rows import stored_images
from flows.intake.sightings import Sightings
from flows.workspace import Workspace

_OTHER_SIZE = "correct width and height, or put the file there that was labelled"
_TURNED = (
    "a picture is read as its EXIF orientation shows it: turn masks, width and height with it, or "
    "take the orientation out of the file if it was labelled without"
)

Entry = tuple[coco.CocoImage, FoundImage]


def readable(
    workspace: Workspace,
    annotations: Path,
    folder: Place,
    dataset: coco.CocoDataset,
    problems: list[str],
    progress: Progress,
    seen: Sightings,
) -> list[Entry]:
    """The entries whose file can be read and has the stated size; a problem for each other one."""
    places = [place_in(folder, image.file_name) for image in dataset.images]
    stored = seen.before() | stored_images(workspace, places)
    found, unread = read_images(places, workspace.reader, progress, stored=stored, note=seen.note)
    problems += unread
    by_place = {item.place: item for item in found}
    entries = []
    for entry, place in zip(dataset.images, places, strict=True):
        if (item := by_place.get(place)) is None:
            continue
        if (item.height, item.width) == (entry.height, entry.width):
            entries.append((entry, item))
        else:
            is_turned = (item.width, item.height) == (entry.height, entry.width)
            problems.append(
                f"{annotations}: image {entry.id} ({entry.file_name}): stated as "
                f"{entry.width}x{entry.height}, but the file is {item.width}x{item.height}; "
                f"{_TURNED if is_turned else _OTHER_SIZE}"
            )
    return entries


def unique_entries(entries: Sequence[Entry], annotations: Path, problems: list[str]) -> list[Entry]:
    """Entries with different bytes; a second name of the same picture is reported and left out."""
    first: dict[str, coco.CocoImage] = {}
    kept = []
    for entry, item in entries:
        if (other := first.setdefault(item.image_id, entry)) is entry:
            kept.append((entry, item))
        else:
            problems.append(
                f"{annotations}: image {entry.id} ({entry.file_name}): the same bytes as "
                f"{other.file_name}; only the first is kept"
            )
    return kept
