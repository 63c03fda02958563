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


_BROWN, _GREY, _BLACK = (120, 92, 66), (112, 114, 120), (52, 50, 54)
_CREAM, _WHITE, _OCHRE = (206, 186, 152), (222, 222, 220), (186, 140, 74)
_RED, _YELLOW = (176, 56, 44), (214, 184, 62)

SPECIES = (
    Species("plain_finch", _BROWN, _CREAM, (96, 72, 52), beak=0.3, tail=0.6),
    Species("barred_finch", _BROWN, _CREAM, (96, 72, 52), bars=2, beak=0.3, tail=0.6),
    Species("red_capped_finch", _BROWN, _CREAM, (96, 72, 52), crown=_RED, beak=0.3, tail=0.9),
    Species("grey_snipe", _GREY, _WHITE, (88, 90, 98), beak=0.9, tail=0.4),
    Species("yellow_capped_snipe", _GREY, _WHITE, (88, 90, 98), crown=_YELLOW, beak=0.9, tail=0.4),
    Species("long_tailed_tit", _GREY, _WHITE, (88, 90, 98), bars=1, beak=0.3, tail=1.4),
    Species("black_thrush", _BLACK, _OCHRE, (40, 38, 42), beak=0.45, tail=0.8),
    Species("barred_thrush", _BLACK, _OCHRE, (40, 38, 42), bars=2, beak=0.45, tail=0.8),
)
