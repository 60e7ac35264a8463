"""What the import of a COCO file will change: who is labelled, gold or neither, and whose masks."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import coco
from flows.errors import UsageError
from flows.images.splits import split_of
from flows.intake.coco_entries import Entry
from flows.intake.rows import TORN, Known, groups_of, joining_gold, sides_of
from flows.workspace import Workspace

DEFAULT_GOLD = 0.1


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Who gets to be a label and who is set aside for measuring: fractions, or a list of the gold.

    Without `labelled`, everything but gold is labelled. Without `gold` and `gold_list`, gold is
    DEFAULT_GOLD, or what `labelled` leaves of it.
    """

    labelled: float | None = None
    gold: float | None = None
    seed: int = 0
    gold_list: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        for name, value in (("--labelled", self.labelled), ("--gold", self.gold)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"{name}: must be a fraction from 0 to 1, but got {value}")
        if self.gold is not None and self.gold_list is not None:
            raise UsageError("--gold and --gold-list: give one; the list names all gold images")
        if (total := (self.labelled or 0) + (self.gold or 0)) > 1:
            raise UsageError(f"--labelled and --gold: must add up to at most 1, but got {total}")

    @property
    def gold_fraction(self) -> float:
        """The fraction of images that their hash makes gold."""
        if self.gold_list is not None:
            return 0.0
        if self.gold is not None:
            return self.gold
        return min(DEFAULT_GOLD, round(1.0 - (self.labelled or 0.0), 9))

    @property
    def labelled_fraction(self) -> float:
        """The fraction of images that keep their labels, beside the gold ones."""
        return 1.0 - self.gold_fraction if self.labelled is None else self.labelled


def labels_in_part(workspace: Workspace) -> dict[str, set[str]]:
    """Image id -> the annotations that came in, where others were refused."""
    rows = workspace.lake.rows(
        """SELECT image_id, list(source_annotation_id) AS names
           FROM masks JOIN images USING (image_id)
           WHERE stage = 'label' AND num_labels_refused > 0 GROUP BY image_id"""
    )
    return {row["image_id"]: set(row["names"]) for row in rows}


class Plan:
    """What an import will change: the side of each image, and the masks that it brings.

    `brought` has an entry, of masks from none on, for each image whose labels come in, and
    `num_refused` how many of its annotations could not be used.
    """

    def __init__(
        self,
        known: Known,
        entries: Sequence[Entry],
        dataset: coco.CocoDataset,
        in_part: Mapping[str, set[str]],
        options: ImportOptions,
    ) -> None:
        self.known = known
        self.groups = groups_of(known, [(entry.group, item) for entry, item in entries])
        self.new: list[tuple[Entry, str]] = []
        self.brought: dict[str, list[coco.CocoMask]] = {}
        self.num_refused: dict[str, int] = {}
        self.moves: dict[str, list[str]] = {"train": []}
        self.problems: list[str] = []
        self._masks_of: dict[int | str, list[coco.CocoMask]] = defaultdict(list)
        for mask in dataset.masks:
            self._masks_of[mask.image_id].append(mask)
        self._refused_of = dataset.num_refused
        self._in_part = in_part
        self._sides: Counter[str] = Counter()
        self._num_kept = 0
        splits = self._splits(entries, options)
        for pair in entries:
            self._place(pair, splits[pair[1].image_id])
        if self._num_kept:
            self.problems.append(
                f"images labelled or reviewed before keep what they have: {self._num_kept}"
            )
        if lacking := sum(map(bool, self.num_refused.values())):
            self.problems.append(
                f"images that lack annotations which cannot be used: {lacking}; correct them and "
                "import the file again, which brings those; until then what no mask covers on such "
                "an image is not taken for background"
            )
        gold = {
            self.groups[item.image_id]
            for _, item in entries
            if item.image_id in self.brought and splits[item.image_id] == "gold"
        }
        self.moves["gold"] = joining_gold(known, self.groups, gold)

    def _place(self, pair: Entry, split: str | None) -> None:
        entry, item = pair
        old = self.known.get(item.image_id)
        if split is None:
            self.problems.append(f"image {entry.id} ({entry.file_name}): {TORN}")
            return
        masks = self._masks_of[entry.id]
        if old is None:
            self.new.append((pair, split))
        elif self._is_corrected(entry, old):
            there = self._in_part[item.image_id]
            self._bring(pair, [mask for mask in masks if str(mask.id) not in there])
            return
        elif old["answered"]:
            self._num_kept += bool(masks)
            return
        elif old["split"] != "unlabelled":
            # It has its side and waits for its first masks: those before were of no use.
            if not masks:
                return
            split = old["split"]
        elif split == "train":
            self.moves["train"].append(item.image_id)
        if split != "unlabelled":
            self._sides[split] += 1
            self._bring(pair, masks)

    def _bring(self, pair: Entry, masks: list[coco.CocoMask]) -> None:
        entry, item = pair
        self.brought[item.image_id] = masks
        self.num_refused[item.image_id] = self._refused_of.get(entry.id, 0)

    def _is_corrected(self, entry: coco.CocoImage, old: Mapping[str, Any]) -> bool:
        """Whether this file has what one before had of the image, and less that is of no use."""
        there = self._in_part.get(old["image_id"])
        return (
            there is not None
            and not old["reviewed"]
            and old["source_image_id"] == str(entry.id)
            and self._refused_of.get(entry.id, 0) < old["num_labels_refused"]
            and there <= {str(mask.id) for mask in self._masks_of[entry.id]}
        )

    @property
    def changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.new or self.brought or any(self.moves.values()))

    @property
    def num_masks(self) -> int:
        """Masks that come in."""
        return sum(map(len, self.brought.values()))

    def count(self, side: str) -> int:
        """Images that come to a side with their masks."""
        return self._sides[side]

    def _splits(self, entries: Sequence[Entry], options: ImportOptions) -> dict[str, str | None]:
        """The side of each image of this import, whole groups together; None for one on both."""
        sides = sides_of(self.known, self.groups)
        listed = _listed_gold(entries, self.groups, options.gold_list)
        for name, group in listed.items():
            if "train" in sides[group]:
                raise UsageError(
                    f"{options.gold_list}: {name!r}: it, a near-duplicate or one of its source "
                    "group is in training already; take it off the list"
                )
        gold, labelled = options.gold_fraction, options.labelled_fraction
        splits: dict[str, str | None] = {}
        for _, item in entries:
            group = self.groups[item.image_id]
            split: str | None = split_of(group, seed=options.seed, gold=gold, labelled=labelled)
            if len(sides[group]) > 1:
                split = None
            elif group in listed.values() or sides[group] == {"gold"}:
                split = "gold"
            elif split == "gold" and sides[group] == {"train"}:
                # What its near-duplicate taught the model, it can no longer measure.
                split = "unlabelled"
            splits[item.image_id] = split
        return splits


def _listed_gold(
    entries: Sequence[Entry], groups: dict[str, str], gold_list: Path | None
) -> dict[str, str]:
    """Group by name for each line of the file."""
    if gold_list is None:
        return {}
    try:
        # Windows editors put a mark before the first line, which is no part of its name.
        lines = gold_list.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"--gold-list: {gold_list}: {error.strerror}; name a text file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--gold-list: {gold_list}: not UTF-8 text; name a text file") from error
    wanted = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    by_name: dict[str, str] = {}
    for entry, item in entries:
        for name in (entry.file_name, str(entry.id), item.image_id):
            by_name[name] = groups[item.image_id]
    if unknown := sorted(wanted - by_name.keys()):
        raise UsageError(
            f"{gold_list}: {unknown[0]!r} is no image of this import ({len(unknown)} such lines); "
            "expected one file name, id or image_id a line"
        )
    return {name: by_name[name] for name in sorted(wanted)}
