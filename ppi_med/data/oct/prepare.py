"""From a volume as its source tells it to the one that is written: user's facts, 8 bits, width."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.pixels import PixelHash, pad_width, pixel_hash, to_uint8
from ppi_med.data.oct.volume import FROM_FILE, Laterality, OctVolume, Spacing

_AGREE = 0.01
"""Two statements of a spacing that differ by less than this share are the same."""


@dataclass
class PreparedVolume:
    """A volume ready to be written or shown to a network.

    Attributes:
        pixels: uint8, `(n_bscans, depth, width)`.
        mask: uint8 of the same shape, or `None`.
        spacing: mm.
        laterality: the side.
        hash: of the pixels as read, before padding.
        provenance: for each value, where it came from.
        warnings: sentences.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    spacing: Spacing
    laterality: Laterality | None
    hash: PixelHash
    provenance: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def prepare_volume(volume: OctVolume, options: ReadOptions | None = None) -> PreparedVolume:
    """Fill in what the user told, bring the pixels to 8 bits and widen narrow B-scans.

    What the file tells wins over the user, except with `spacing_overrides`; a disagreement is a
    warning. What neither tells stays unknown, with a warning.

    Examples:
        >>> from pathlib import Path
        >>> raw = OctVolume(np.zeros((2, 4, 3), np.uint8), reader="example", source=Path("a"))
        >>> done = prepare_volume(raw, ReadOptions(pad_width=5, spacing=Spacing(axial=0.004)))
        >>> done.pixels.shape, done.spacing.axial, done.provenance["spacing_axial_mm"]
        ((2, 4, 5), 0.004, 'user: --spacing')
    """
    options = options or ReadOptions()
    provenance, warnings = dict(volume.provenance), list(volume.warnings)
    spacing = _spacing(volume, options, provenance, warnings)
    laterality = volume.laterality
    if laterality is None and options.laterality is not None:
        laterality = options.laterality
        provenance["eye"] = "user: --laterality"
    elif laterality is not None:
        provenance.setdefault("eye", FROM_FILE)
        if options.laterality not in (None, laterality):
            text = f"the file says {laterality}: --laterality {options.laterality} unused."
            warnings.append(text)
    window = None if provenance.get("pixels", "").startswith("user: window") else options.window
    pixels, rule = to_uint8(volume.pixels, window)
    if rule:
        provenance["pixels"] = rule
    width = options.pad_width or 0
    padded, (left, right) = pad_width(pixels, width)
    mask = None if volume.mask is None else pad_width(volume.mask, width)[0]
    if left or right:
        provenance["width_px"] = (
            f"rule: {pixels.shape[2]} A-scans padded to {width} by repeating the edge "
            f"({left} left, {right} right)"
        )
    elif width and pixels.shape[2] > width:
        warnings.append(f"{pixels.shape[2]} A-scans are more than --pad-width {width}: left as is.")
    return PreparedVolume(
        padded, mask, spacing, laterality, pixel_hash(volume.pixels), provenance, warnings
    )


def _spacing(
    volume: OctVolume, options: ReadOptions, provenance: dict[str, str], warnings: list[str]
) -> Spacing:
    values: dict[str, float | None] = {}
    for name, own in volume.spacing._asdict().items():
        given: float | None = getattr(options.spacing, name)
        key = f"spacing_{name}_mm"
        if given is None or (own is not None and not options.spacing_overrides):
            values[name] = own
            if own is not None:
                provenance.setdefault(key, FROM_FILE)
            if own is not None and given is not None and abs(own - given) > _AGREE * own:
                warnings.append(
                    f"the file says {own:g} mm for the {name} spacing, --spacing {given:g} unused."
                )
            continue
        if own is not None and abs(own - given) > _AGREE * own:
            warnings.append(f"{name} spacing {own:g} mm of the file replaced by {given:g} mm.")
        values[name] = given
        provenance[key] = "user: --spacing"
    spacing = Spacing(**values)
    if volume.pixels.shape[0] == 1 and spacing.between is None:
        missing = tuple(name for name in spacing.missing() if name != "between")
    else:
        missing = spacing.missing()
    if missing:
        warnings.append(
            f"spacing unknown ({', '.join(missing)}): give --spacing LATERAL,AXIAL,BETWEEN if you "
            "know it."
        )
    return spacing
