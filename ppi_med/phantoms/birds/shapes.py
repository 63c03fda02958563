"""A bird-like shape as coloured polygons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Species:
    """A class. Lengths are in units of the body's half length.

    Attributes:
        name: name of the class.
        back: colour of back, head and tail.
        belly: colour of the breast.
        wing: colour of the wing.
        bars: pale bars across the wing.
        crown: colour of the cap, or None.
        beak: length.
        tail: length.
    """

    name: str
    back: Colour
    belly: Colour
    wing: Colour
    bars: int = 0
    crown: Colour | None = None
    beak: float = 0.35
    tail: float = 0.7


_BROWN, _GREY, _BLACK = (120, 92, 66), (124, 126, 132), (44, 42, 46)
_CREAM, _WHITE, _OCHRE = (206, 186, 152), (230, 230, 228), (196, 140, 60)
_RED, _YELLOW, _BLUE, _OLIVE = (186, 54, 42), (222, 190, 56), (58, 92, 168), (104, 112, 52)

SPECIES = (
    Species("brown_finch", _BROWN, _CREAM, (88, 64, 46), beak=0.3, tail=0.6),
    Species("barred_magpie", _BLACK, _WHITE, (30, 30, 36), bars=2, beak=0.4, tail=1.2),
    Species("red_robin", _BROWN, _RED, (96, 76, 58), beak=0.3, tail=0.5),
    Species("grey_snipe", _GREY, _WHITE, (92, 94, 102), beak=0.9, tail=0.4),
    Species("yellow_capped_warbler", _OLIVE, _YELLOW, (84, 92, 44), crown=_YELLOW, tail=0.7),
    Species("blue_tit", _BLUE, _YELLOW, (40, 70, 140), bars=1, beak=0.25, tail=0.6),
    Species("red_capped_woodpecker", _BLACK, _WHITE, (36, 34, 38), bars=3, crown=_RED, beak=0.6),
    Species("ochre_thrush", _OCHRE, _CREAM, (150, 100, 44), beak=0.45, tail=0.8),
)


Points = NDArray[np.float64]
_PALE: Colour = (226, 220, 206)
_BEAK: Colour = (176, 128, 52)


@dataclass(frozen=True)
class Part:
    """A polygon.

    Attributes:
        points: `(n, 2)`, x and y.
        colour: RGB.
    """

    points: Points
    colour: Colour


def bird_parts(species: Species, rng: np.random.Generator) -> list[Part]:
    """Return the bird of a species, facing right, about the origin, in the order of painting.

    The body is about 2 long; proportions and colours vary with each bird.
    """
    height = rng.uniform(0.5, 0.62)
    head = np.array([0.95, -0.42]) + rng.normal(0, 0.05, 2)
    size = rng.uniform(0.33, 0.4)
    tail = species.tail * rng.uniform(0.85, 1.15)
    beak = species.beak * rng.uniform(0.85, 1.15)
    lift = rng.uniform(-0.35, 0.1)
    tint = rng.normal(0, 7, 3) + rng.normal(0, 8)
    parts = [
        Part(_tail(tail, lift), species.back),
        Part(_ellipse((0, 0), (1.0, height)), species.back),
        Part(_ellipse((0.15, 0.42 * height), (0.72, 0.55 * height)), species.belly),
        Part(_beak(head, size, beak), _BEAK),
        Part(_ellipse(head, (size, size)), species.back),
    ]
    if species.crown is not None:
        parts.append(
            Part(_ellipse(head - (0.0, 0.5 * size), (0.72 * size, 0.45 * size)), species.crown)
        )
    parts.append(Part(_wing(height), species.wing))
    parts += [Part(_bar(i, species.bars, height), _PALE) for i in range(species.bars)]
    parts.append(Part(_ellipse(head + (0.3 * size, -0.1 * size), (0.06, 0.06)), (18, 16, 16)))
    return [Part(part.points, _tinted(part.colour, tint)) for part in parts]


def placed(parts: list[Part], rng: np.random.Generator, size: int) -> list[Part]:
    """Return the parts at a random place, size, tilt and side of an image.

    Args:
        parts: result of `bird_parts`.
        rng: random generator of the place.
        size: side of the image in pixels; the bird is 50 to 80 % of it long and all inside.
    """
    every = np.concatenate([part.points for part in parts])
    turn = rng.uniform(-0.3, 0.3)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    side = rng.choice([-1.0, 1.0])
    turned = (every @ rotation.T) * (side, 1.0)
    low, extent = turned.min(0), np.ptp(turned, axis=0)
    scale = size * rng.uniform(0.5, 0.8) / extent.max()
    free = size - extent * scale - 2
    corner = 1 + rng.uniform(0, 1, 2) * free
    return [
        Part(((part.points @ rotation.T) * (side, 1.0) - low) * scale + corner, part.colour)
        for part in parts
    ]


def _tinted(colour: Colour, tint: Points) -> Colour:
    red, green, blue = (int(v) for v in np.clip(np.asarray(colour) + tint, 0, 255))
    return red, green, blue


def _ellipse(centre: tuple[float, float] | Points, radii: tuple[float, float]) -> Points:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.asarray(centre) + np.stack([np.cos(angle), np.sin(angle)], 1) * radii


def _tail(length: float, lift: float) -> Points:
    end = np.array([-0.85 - length, lift])
    return np.array([(-0.7, -0.18), end + (0, -0.16), end + (0.06, 0.16), (-0.7, 0.2)])


def _beak(head: Points, size: float, length: float) -> Points:
    start = head + (0.8 * size, 0)
    return np.array([start + (0, -0.11), start + (length + 0.2 * size, 0.05), start + (0, 0.13)])


def _wing(height: float) -> Points:
    return _ellipse((-0.2, -0.1 * height), (0.68, 0.58 * height)) @ _turn(0.12)


def _bar(index: int, bars: int, height: float) -> Points:
    x = -0.2 + 0.34 * (index - (bars - 1) / 2)
    return _ellipse((x, -0.05 * height), (0.075, 0.5 * height)) @ _turn(-0.25)


def _turn(angle: float) -> Points:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
