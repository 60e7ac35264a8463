"""Captioned scenes as a source of text prompts: CLIP vectors of crops, and of phrases."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from engine.drawing import pairs
from engine.drawing.captions import CaptionedScene
from engine.drawing.phrases import COLOURS, KIND_NAMES, TEXTURES, Thing
from engine.geometry import Boxes
from engine.model.text.prompted import TextEmbedder, centred
from engine.training.captioned import EncodedScene
from engine.training.text_config import TextTrainingConfig
from engine.training.text_samples import TextSample, draw_some, targets_of

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]
_Random = np.random.Generator
_GREY = 128
_CONTEXT = (1.0, 2.2)
_SHIFT = 0.15
# Of absent things, those that share something with what is there.
_NEAR_MISSES = 0.7
_TRIES = 20
_Prompt = tuple[torch.Tensor, npt.NDArray[np.bool_]]


class CropEmbedder(TextEmbedder, Protocol):
    """A CLIP that embeds images, too."""

    def embed_images(self, images: Sequence[Pixels]) -> Vectors:
        """(H, W, 3) uint8 RGB each -> (N, D) unit vectors."""


@dataclass(frozen=True, kw_only=True)
class VectorsConfig:
    """How many crops of each thing and phrases of each scene are embedded.

    Crops are of things of at least `min_area` pixels, in random surroundings: as they are, grey, or
    those of another scene, a third of each.
    """

    crops: int = 2
    phrases: int = 10
    absent_phrases: int = 6
    min_area: int = 100
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SceneVectors:
    """What asks for a scene's M things.

    crops (M, K, D), NaN for a thing that is too small; phrases (Q, D) and which things they mean
    (Q, M), none for absent ones.
    """

    crops: Vectors
    phrases: Vectors
    meant: npt.NDArray[np.bool_]


def scene_vectors(
    scenes: Sequence[CaptionedScene], clip: CropEmbedder, config: VectorsConfig
) -> Iterator[SceneVectors]:
    """Those of each scene, which depend on all scenes, CLIP and config alone."""
    for number, scene in enumerate(scenes):
        random = np.random.default_rng([config.seed, number, 3])
        large = np.flatnonzero(scene.masks.sum(axis=(1, 2)) >= config.min_area)
        crops = np.full((len(scene.masks), config.crops, clip.dim), np.nan, np.float32)
        if len(large):
            pictures = [
                prompt_crop(random, scene, int(thing), scenes[int(random.integers(len(scenes)))])
                for thing in large
                for _ in range(config.crops)
            ]
            crops[large] = clip.embed_images(pictures).reshape(len(large), config.crops, -1)
        asked = [pairs.ask(random, scene) for _ in range(config.phrases)]
        asked += [pairs.ask_absent(random, scene) for _ in range(config.absent_phrases)]
        yield SceneVectors(
            crops=crops,
            phrases=clip.embed_texts([phrase.text for phrase in asked]),
            meant=np.stack([scene.meant(phrase) for phrase in asked]),
        )


def prompt_crop(
    random: _Random, scene: CaptionedScene, thing: int, other: CaptionedScene, side: int = 64
) -> Pixels:
    """(side, side, 3) a thing with random context before a random background."""
    window = _window(random, scene.boxes[thing], scene.image.shape[:2])
    picture = _seen(scene.image, window, side)
    kind = int(random.integers(3))
    if kind == 0:
        return np.asarray(picture)
    if kind == 1:
        behind = Image.new("RGB", picture.size, (_GREY,) * 3)
    else:
        behind = _seen(other.image, window, side)
    alpha = _seen(scene.masks[thing].astype(np.uint8) * 255, window, side)
    return np.asarray(Image.composite(picture, behind, alpha))


def _window(random: _Random, box: Boxes, hw: tuple[int, ...]) -> tuple[float, float, float, float]:
    """A square around a box, mostly with it in the middle, that lies in the image."""
    x0, y0, x1, y1 = (float(value) for value in box)
    height, width = hw[0], hw[1]
    context = random.uniform(*_CONTEXT)
    edge = min(max(x1 - x0, y1 - y0) * context, height, width)
    shift_x, shift_y = random.uniform(-_SHIFT, _SHIFT, 2) * (context - 1)
    left = float(np.clip((x0 + x1) / 2 + (shift_x - 0.5) * edge, 0, width - edge))
    top = float(np.clip((y0 + y1) / 2 + (shift_y - 0.5) * edge, 0, height - edge))
    return left, top, left + edge, top + edge


def _seen(
    pixels: npt.NDArray[np.uint8], window: tuple[float, float, float, float], side: int
) -> Image.Image:
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, box=window)


class DrawnTexts:
    """A `TextSource` of captioned scenes with their embeddings and vectors.

    Raises ValueError for lists of different lengths.
    """

    def __init__(
        self,
        scenes: Sequence[EncodedScene],
        vectors: Sequence[SceneVectors],
        logits_hw: tuple[int, int],
        *,
        clip_fingerprint: str,
    ) -> None:
        if len(scenes) != len(vectors):
            raise ValueError(
                f"vectors: must be of each of {len(scenes)} scenes, but got {len(vectors)}"
            )
        self._scenes = scenes
        self._vectors = vectors
        self._fingerprint = clip_fingerprint
        crops = np.concatenate(
            [own.crops[_askable(own)].reshape(-1, own.crops.shape[2]) for own in vectors]
        )
        self._crop_centre = torch.from_numpy(crops.mean(axis=0))
        phrases = np.concatenate([own.phrases for own in vectors])
        self._text_centre = torch.from_numpy(phrases.mean(axis=0))
        self._targets = [
            (targets_of(one.scene.masks, one.embedding.frame, logits_hw) * 255).byte()
            for one in scenes
        ]
        self._looks: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
        for number, (one, own) in enumerate(zip(scenes, vectors, strict=True)):
            for thing in _askable(own):
                self._looks[_look(one.scene.things[thing])].append((number, int(thing)))

    def __len__(self) -> int:
        return len(self._scenes)

    @property
    def clip_fingerprint(self) -> str:
        """Names the CLIP whose vectors these are."""
        return self._fingerprint

    @property
    def text_centre(self) -> torch.Tensor:
        """(D,) the mean embedding of all phrases, which is taken off each."""
        return self._text_centre

    def sample(self, index: int, random: _Random, config: TextTrainingConfig) -> TextSample:
        """Scene `index` with prompts drawn from what there is."""
        own, scene = self._vectors[index], self._scenes[index].scene
        present = self._present(own, scene, random, config)
        absent = self._absent(own, scene, random, config)
        vectors, meant = zip(*present, *absent, strict=True)
        return TextSample(
            features=self._scenes[index].embedding.batch(),
            targets=self._targets[index].float() / 255,
            vectors=torch.stack(vectors),
            meant=torch.from_numpy(np.stack(meant)),
        )

    def _present(
        self, own: SceneVectors, scene: CaptionedScene, random: _Random, config: TextTrainingConfig
    ) -> list[_Prompt]:
        phrases, things = np.flatnonzero(own.meant.any(axis=1)), _askable(own)
        count = config.present_per_image
        as_text = _texts_of(random, count, config.text_share, len(phrases), len(things))
        found: list[_Prompt] = []
        for row in phrases[draw_some(random, as_text, len(phrases))] if as_text else []:
            found.append((self._phrase(own, int(row)), own.meant[row]))
        rest = count - as_text
        for thing in things[draw_some(random, rest, len(things))] if rest else []:
            alike = np.array([_look(other) == _look(scene.things[thing]) for other in scene.things])
            found.append((self._crop(own, int(thing), random), alike))
        order = random.permutation(len(found))
        return [found[place] for place in order]

    def _absent(
        self, own: SceneVectors, scene: CaptionedScene, random: _Random, config: TextTrainingConfig
    ) -> list[_Prompt]:
        phrases = np.flatnonzero(~own.meant.any(axis=1))
        count = config.absent_per_image
        nothing = np.zeros(len(scene.things), bool)
        as_text = _texts_of(random, count, config.text_share, len(phrases), 1)
        found: list[_Prompt] = []
        for row in phrases[draw_some(random, as_text, len(phrases))] if as_text else []:
            found.append((self._phrase(own, int(row)), nothing))
        for _ in range(count - as_text):
            number, thing = self._elsewhere(scene, random)
            found.append((self._crop(self._vectors[number], thing, random), nothing))
        order = random.permutation(len(found))
        return [found[place] for place in order]

    def _phrase(self, own: SceneVectors, row: int) -> torch.Tensor:
        return centred(torch.from_numpy(own.phrases[row]), self._text_centre)

    def _crop(self, own: SceneVectors, thing: int, random: _Random) -> torch.Tensor:
        """One of those of a thing."""
        number = int(random.integers(own.crops.shape[1]))
        return centred(torch.from_numpy(own.crops[thing, number]), self._crop_centre)

    def _elsewhere(self, scene: CaptionedScene, random: _Random) -> tuple[int, int]:
        """(scene, thing) that looks like nothing in `scene`, though mostly nearly so."""
        here = {_look(thing) for thing in scene.things}
        looks = list(self._looks)
        for _ in range(_TRIES):
            look = looks[int(random.integers(len(looks)))]
            if random.random() < _NEAR_MISSES:
                look = _near(random, scene.things[int(random.integers(len(scene.things)))])
            if look not in here and (places := self._looks.get(look)):
                return places[int(random.integers(len(places)))]
        other = next(look for look in looks if look not in here)
        return self._looks[other][0]


def _askable(vectors: SceneVectors) -> npt.NDArray[np.int64]:
    """The things that are large enough."""
    return np.flatnonzero(np.isfinite(vectors.crops[:, 0, 0]))


def _texts_of(random: _Random, count: int, share: float, phrases: int, things: int) -> int:
    """How many of `count` prompts are texts, as far as there are phrases and things."""
    if not phrases or not things:
        return 0 if things else count
    return int(random.binomial(count, share))


def _look(thing: Thing) -> tuple[str, str, str]:
    """What a crop shows of it."""
    return thing.kind, thing.colour, thing.texture


def _near(random: _Random, thing: Thing) -> tuple[str, str, str]:
    """The look of a thing that differs in one respect."""
    name, values = (("kind", KIND_NAMES), ("colour", COLOURS), ("texture", TEXTURES))[
        int(random.choice(3, p=[0.4, 0.4, 0.2]))
    ]
    return _look(replace(thing, **{name: str(random.choice(values))}))
