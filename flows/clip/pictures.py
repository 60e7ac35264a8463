"""Pairs for a CLIP's training: each image is read once and kept as the CLIP will see it."""

import hashlib
import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.clip.classes import ClassPrompts
from engine.clip.exam import Exam, Labelled
from engine.clip.frames import Frame, Pixels
from engine.threads import each_image
from flows.images.splits import unit_hash
from flows.progress import Progress

# So many pictures are asked about at most: an exam should not take longer than the steps between.
_MOST_ASKED = 1000


@dataclass(frozen=True, kw_only=True)
class Saying:
    """A text of a picture by its number.

    alike: the same for texts that are as right as each other. label: the picture's class, where
    texts are classes.
    """

    picture: int
    text: str
    alike: int
    label: int | None = None


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One image: what a CLIP is shown of it, and the texts of that. `content` names its bytes."""

    content: str
    pictures: Sequence[Pixels]
    sayings: Sequence[Saying]


class PairSource(Protocol):
    """Where images and texts come from."""

    @property
    def name(self) -> str:
        """What a card calls it."""

    @property
    def prompts(self) -> ClassPrompts | None:
        """The classes that texts are of, where they are."""

    def __len__(self) -> int:
        """How many images there are."""

    def look(self, index: int) -> Seen | str:
        """An image with its texts, or why it is left out; safe in threads."""


class PictureFile:
    """Pictures (P, h, w, 3) uint8 in a file without a name, which is gone when nobody reads it.

    Processes that multiprocessing spawns with it read the same file.
    """

    def __init__(self, descriptor: int, shape: tuple[int, ...]) -> None:
        """Takes over the open file `descriptor`."""
        self._descriptor, self._shape = descriptor, shape
        weakref.finalize(self, os.close, descriptor)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            self._pixels = np.memmap(file, mode="r", shape=shape, dtype=np.uint8)

    def __getitem__(self, number: int) -> Pixels:
        """(h, w, 3) of one picture."""
        found: Pixels = self._pixels[number]
        return found

    def __reduce__(self) -> tuple[object, ...]:
        return _picture_file, (DupFd(self._descriptor), self._shape)


def _picture_file(given: Any, shape: tuple[int, ...]) -> PictureFile:
    return PictureFile(given.detach(), shape)


class KeptPairs:
    """`engine.clip.pairs.GroupedPairs` whose pictures lie in a file; None where there are none."""

    def __init__(self, pictures: PictureFile | None, sayings: Sequence[Saying]) -> None:
        self._pictures = pictures
        self.sayings = sayings

    def __len__(self) -> int:
        return len(self.sayings)

    def fetch(self, indices: Sequence[int]) -> tuple[list[Pixels], list[str]]:
        """For each index a picture and its text."""
        chosen = [self.sayings[index] for index in indices]
        pictures = [] if self._pictures is None else [self._pictures[s.picture] for s in chosen]
        return pictures, [each.text for each in chosen]

    def alike(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """(N, 2) numbers of pictures and of what is as right as each other."""
        chosen = [self.sayings[index] for index in indices]
        return np.array([(each.picture, each.alike) for each in chosen], dtype=np.int64)

    @property
    def num_pictures(self) -> int:
        """How many of the pictures have a text here."""
        return len({saying.picture for saying in self.sayings})

    def once(self, most: int) -> "KeptPairs":
        """Of each picture its first pair, of at most so many."""
        first: dict[int, Saying] = {}
        for saying in self.sayings:
            first.setdefault(saying.picture, saying)
        return KeptPairs(self._pictures, list(first.values())[:most])


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The pairs to learn from, those to be asked about, and a line for each image left out.

    `digest` names what is learnt from.
    """

    pairs: KeptPairs
    asked: KeptPairs
    prompts: ClassPrompts | None
    digest: str
    num_images: int
    problems: tuple[str, ...]

    @property
    def texts(self) -> set[str]:
        """Every text of the pairs to learn from, and every prompt."""
        found = {saying.text for saying in self.pairs.sayings}
        if self.prompts is not None:
            found |= {text for group in self.prompts.prompts() for text in group}
        return found

    def exam(self) -> Exam | None:
        """What is asked while it trains; None with fewer than two pictures to ask about."""
        if len(self.asked) < 2:
            return None
        labelled = None
        if self.prompts is not None:
            images, _ = self.asked.fetch(range(len(self.asked)))
            labels = [saying.label for saying in self.asked.sayings if saying.label is not None]
            labelled = Labelled(images=images, labels=labels, prompts=self.prompts)
        return Exam(labelled=labelled, pairs=self.asked)


def gather(
    source: PairSource, frame: Frame, *, holdout: float, folder: Path, progress: Progress
) -> Gathered:
    """Read all images of `source`; the share `holdout`, by their content, is only asked about.

    Pictures as `frame` sees them lie in a file in `folder` that is gone when they are.
    """
    digest = hashlib.sha256()
    learnt: list[Saying] = []
    asked: list[tuple[float, Saying]] = []
    problems: list[str] = []
    num_pictures = num_images = 0
    with TemporaryFile(dir=folder) as kept:
        for done, seen in enumerate(_looks(source, frame), start=1):
            progress.step("images read", done, len(source))
            if isinstance(seen, str):
                problems.append(seen)
                continue
            sayings = [replace(each, picture=each.picture + num_pictures) for each in seen.sayings]
            place = unit_hash(0, seen.content)
            if place < holdout:
                asked += [(place, saying) for saying in sayings]
            else:
                learnt += sayings
                digest.update(repr([(each.text, each.alike) for each in sayings]).encode())
            for picture in seen.pictures:
                data = picture.tobytes()
                kept.write(data)
                if place >= holdout:
                    digest.update(data)
            num_pictures += len(seen.pictures)
            num_images += 1
        kept.flush()
        pictures = None
        if num_pictures:
            pictures = PictureFile(os.dup(kept.fileno()), (num_pictures, *frame.hw, 3))
    # The same ones are asked about, also when others have come.
    asked.sort(key=lambda pair: pair[0])
    return Gathered(
        pairs=KeptPairs(pictures, learnt),
        asked=KeptPairs(pictures, [saying for _, saying in asked]).once(_MOST_ASKED),
        prompts=source.prompts,
        digest=digest.hexdigest()[:16],
        num_images=num_images,
        problems=tuple(problems),
    )


def _looks(source: PairSource, frame: Frame) -> Iterable[Seen | str]:
    """Every image of the source, its pictures fitted into the frame, one on each core."""

    def look(index: int) -> Seen | str:
        seen = source.look(index)
        if isinstance(seen, str):
            return seen
        fitted = frame.fit(seen.pictures).permute(0, 2, 3, 1).contiguous().numpy()
        return replace(seen, pictures=list(fitted))

    return each_image(look, range(len(source)), at_once=len(source))
