"""The options of a conversion, checked once and hashed, so that a re-run knows what it may keep."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from ppi_med.data.oct.volume import Laterality, Spacing

CONVERTER_VERSION = 1
"""Counted up whenever the same source and options would give other files."""

Policy = Literal["refuse", "warn"]


@dataclass(frozen=True)
class ReadOptions:
    """What shapes the pixels and the geometry of one volume.

    Attributes:
        spacing: mm, for what the files do not tell.
        spacing_overrides: let `spacing` win over the files too.
        laterality: for files that do not tell.
        shape: (depth, width, B-scans) for formats without a header (Zeiss .img).
        pad_width: narrower volumes are widened to this by repeating the edge.
        variable: name of the volume in a .mat file.
        mask_variable: name of the lesion mask in a .mat file.
        axes: order of the axes in a .mat file, letters d, w, n.
        window: two pixel values that become 0 and 255.
        colour: what to do with coloured pictures.
    """

    spacing: Spacing = Spacing()
    spacing_overrides: bool = False
    laterality: Laterality | None = None
    shape: tuple[int, int, int] | None = None
    pad_width: int | None = None
    variable: str | None = None
    mask_variable: str | None = None
    axes: str = "dwn"
    window: tuple[float, float] | None = None
    colour: Policy = "refuse"

    def __post_init__(self) -> None:
        for name, value in self.spacing._asdict().items():
            if value is not None and not 0 < value < 10:
                raise ValueError(f"spacing {name} is {value}, expected mm between 0 and 10.")
        if self.laterality not in (None, "OD", "OS"):
            raise ValueError(f"laterality is {self.laterality!r}, expected OD or OS.")
        if self.shape is not None and (len(self.shape) != 3 or min(self.shape) < 1):
            raise ValueError(f"shape is {self.shape}, expected DEPTH,WIDTH,B-SCANS.")
        if self.pad_width is not None and self.pad_width < 1:
            raise ValueError(f"pad_width is {self.pad_width}, expected a number of A-scans.")
        if sorted(self.axes) != ["d", "n", "w"]:
            raise ValueError(f"axes is {self.axes!r}, expected d, w and n in some order.")
        if self.window is not None and not self.window[1] > self.window[0]:
            raise ValueError(f"window is {self.window}, expected LOW,HIGH with HIGH above LOW.")
        if self.colour not in ("refuse", "warn"):
            raise ValueError(f"colour is {self.colour!r}, expected refuse or warn.")

    @property
    def hash(self) -> str:
        """Hash of the options and of the converter's version."""
        text = json.dumps([CONVERTER_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_spacing(text: str) -> Spacing:
    """Read `lateral,axial,between` in mm; an empty place or "?" stays unknown.

    Raises:
        ValueError: if it is not three places.

    Examples:
        >>> parse_spacing("0.0067,0.0045,?")
        Spacing(lateral=0.0067, axial=0.0045, between=None)
    """
    places = [place.strip() for place in text.split(",")]
    try:
        if len(places) != 3:
            raise ValueError
        values = [None if place in ("", "?") else float(place) for place in places]
    except ValueError:
        raise ValueError(
            f"spacing is {text!r}, expected LATERAL,AXIAL,BETWEEN in mm, '?' where unknown."
        ) from None
    return Spacing(*values)
