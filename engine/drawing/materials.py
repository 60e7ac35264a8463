"""What regions are made of: a colour and layers of texture, related to those around."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engine.drawing import textures

Array = npt.NDArray[np.float32]
# Angles on the colour wheel from red: brown and sand, leaves, sky.
_HUES = (0.35, 0.6, 0.8, 1.3, 1.7, 3.7, 3.9)
_SURFACES = {
    "cloud": 0.2,
    "grain": 0.16,
    "fur": 0.18,
    "leaves": 0.14,
    "ridges": 0.1,
    "cells": 0.07,
    "spots": 0.05,
    "stripes": 0.06,
    "masonry": 0.04,
}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One texture laid over a colour.

    How to find it is (name, number, corner, turn) as in `textures.place`; `form` bends its values;
    `colour` (3,) is what a value of 1 adds.
    """

    name: str
    number: int
    corner: tuple[int, int]
    turn: tuple[int, int, bool]
    form: str
    colour: Array

    def values(self, hw: tuple[int, int]) -> Array:
        """(h, w), about -1 to 1."""
        field = textures.texture(self.name, self.number)
        values = textures.place(field, hw, self.corner, self.turn)
        if self.form == "ridge":
            return np.asarray(1 - 1.2 * np.abs(values))
        if self.form == "patch":
            return np.asarray(np.tanh(3 * (values - 0.4)))
        return values * np.float32(0.7)


@dataclass(frozen=True, kw_only=True)
class Material:
    """A colour (3,) in 0..1 and the layers over it."""

    colour: Array
    layers: tuple[Layer, ...]

    def fill(self, hw: tuple[int, int]) -> Array:
        """(3, h, w): planes of colour."""
        pixels = np.empty((3, *hw), np.float32)
        pixels[:] = self.colour[:, None, None]
        for layer in self.layers:
            values = layer.values(hw)
            for plane, amount in zip(pixels, layer.colour, strict=True):
                plane += values * amount
        return pixels

    def varied(self, random: np.random.Generator) -> "Material":
        """Another of the same sort, as the animals of a herd differ."""
        return replace(self, colour=_near(random, self.colour, 0.05))


def palette(random: np.random.Generator, count: int, saturation: float) -> Array:
    """(count, 3) colours in 0..1, mostly of earth, leaves and sky, now and then any hue."""
    hues = random.choice(_HUES, count) + random.normal(0, 0.25, count)
    hues = np.where(random.random(count) < 0.15, random.uniform(0, 2 * np.pi, count), hues)
    turns = hues[:, None] - np.array([0, 2, 4]) * np.pi / 3
    lightness = random.beta(1.7, 1.5, (count, 1)) * 0.85 + 0.06
    strength = (
        saturation * random.uniform(0.1, 1, (count, 1)) * np.minimum(lightness, 1.1 - lightness)
    )
    return np.clip(lightness + strength * np.cos(turns), 0.02, 0.98).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Supply:
    """The colours (N, 3) and the textures (name, number) that a scene is made of."""

    colours: Array
    surfaces: tuple[tuple[str, int], ...]
    contrast: float

    def fresh(self, random: np.random.Generator) -> Material:
        """A material of the scene's colours and textures."""
        colour = self.colours[int(random.integers(len(self.colours)))]
        number = int(random.choice([0, 1, 2, 3], p=[0.13, 0.37, 0.36, 0.14]))
        layers = tuple(self._layer(random) for _ in range(number))
        return Material(colour=_near(random, colour, 0.04), layers=layers)

    def kin(self, random: np.random.Generator, other: Material) -> Material:
        """One hard to tell from `other`: it shares the colour, or the texture, or nearly both."""
        choice = random.random()
        if choice < 0.35:
            return replace(self.fresh(random), colour=_near(random, other.colour, 0.03))
        if choice < 0.7:
            return replace(other, colour=self.fresh(random).colour)
        shift = np.float32(random.choice([-1, 1]) * random.uniform(0.06, 0.18))
        return replace(other, colour=np.clip(_near(random, other.colour, 0.02) + shift, 0, 1))

    def _layer(self, random: np.random.Generator) -> Layer:
        name, number = self.surfaces[int(random.integers(len(self.surfaces)))]
        amount = self.contrast * float(np.exp(random.uniform(np.log(0.03), np.log(0.22))))
        tint = 1 + random.normal(0, 0.25, 3)
        step = int(random.choice([1, 1, 2]))
        return Layer(
            name=name,
            number=number,
            corner=(int(random.integers(textures.SIDE)), int(random.integers(textures.SIDE))),
            turn=(step * int(random.choice([-1, 1])), step, bool(random.random() < 0.5)),
            form=str(random.choice(["plain", "plain", "plain", "ridge", "patch"])),
            colour=(random.choice([-1, 1]) * amount * tint).astype(np.float32),
        )


def supply(random: np.random.Generator) -> Supply:
    """What one scene is made of."""
    names = random.choice(list(_SURFACES), int(random.integers(3, 8)), p=list(_SURFACES.values()))
    return Supply(
        colours=palette(random, int(random.integers(3, 9)), float(random.uniform(0.05, 0.75))),
        surfaces=tuple((str(n), int(random.integers(textures.count(str(n))))) for n in names),
        contrast=float(random.uniform(0.5, 1.2)),
    )


def _near(random: np.random.Generator, colour: Array, spread: float) -> Array:
    shift = random.normal(0, spread) + random.normal(0, spread * 0.6, 3)
    return np.clip(colour + shift, 0, 1).astype(np.float32)
