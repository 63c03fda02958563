"""The bird-like species: what tells one class from another."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Species:
    """A class. Lengths are in units of the body's half length.

    Attributes:
        name: of the class.
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
