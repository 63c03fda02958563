"""Stacks of pictures: a folder of single B-scans, or one TIFF of several pages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import Policy, ReadOptions
from ppi_med.data.oct.volume import OctReadError, OctVolume, check_size

NAME = "images"
_GREY_TOLERANCE = 8
"""JPEG moves grey pixels a little apart in colour; more than this is drawn or coloured."""


def read(path: Path, options: ReadOptions) -> list[OctVolume]:
    """Read a folder of pictures, or one picture file with one page or more.

    The pictures are sorted naturally (2 before 10); all must have the same size. Spacing and
    laterality are unknown: a picture's dpi is for printers.
    """
    from ppi_med.data.oct.registry import IMAGE_SUFFIXES
    from ppi_med.data.oct.sources import natural_key

    if path.is_dir():
        files = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
        ]
        files.sort(key=lambda file: natural_key(file.name))
        if not files:
            raise OctReadError(path, "no pictures in this folder.")
    else:
        files = [path]
    return [read_pictures(path, files, colour=options.colour)]


def read_pictures(source: Path, files: Sequence[Path], *, colour: Policy = "refuse") -> OctVolume:
    """Read pictures, in the order given, as the B-scans of one volume.

    Args:
        source: named in messages.
        files: pictures of equal size; a TIFF may hold several pages.
        colour: "refuse" a coloured picture, or "warn" and take its luminance.

    Raises:
        OctReadError: if a picture is damaged, coloured, or of another size than the first.
    """
    planes: list[NDArray[Any]] = []
    coloured: list[str] = []
    for name, plane, has_colour in _planes(source, files):
        if has_colour:
            if colour == "refuse":
                raise OctReadError(
                    source,
                    f"{name} has coloured pixels (R, G and B differ): something is drawn into it, "
                    "and a network could read the answer off it. Find the untouched picture, or "
                    "give --colour warn to take its brightness.",
                )
            coloured.append(name)
        if planes and plane.shape != planes[0].shape:
            raise OctReadError(
                source,
                f"{name} has {plane.shape[0]} x {plane.shape[1]} pixels, expected the first "
                f"picture's {planes[0].shape[0]} x {planes[0].shape[1]}; if these pictures are no "
                "volume, convert them with --images single.",
            )
        # a file may hold many pages: their number is only known when they have come
        count = max(len(files), len(planes) + 1)
        check_size(source, (count, *plane.shape), plane.dtype.itemsize)
        planes.append(plane)
    kinds = {plane.dtype for plane in planes}
    if len(kinds) > 1:
        raise OctReadError(source, f"pictures of {sorted(map(str, kinds))} are mixed.")
    volume = OctVolume(np.stack(planes), reader=NAME, source=source)
    volume.meta["files"] = [file.name for file in files]
    if coloured:
        volume.warnings.append(
            f"{len(coloured)} coloured pictures taken by their brightness, first {coloured[0]}: "
            "something may be drawn into them."
        )
        volume.provenance["pixels"] = "rule: luminance of coloured pictures"
    return volume


def _planes(source: Path, files: Sequence[Path]) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """Yield name, pixels and whether they are coloured, page by page."""
    from PIL import Image, ImageSequence

    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(file) as image:
                    for number, page in enumerate(ImageSequence.Iterator(image)):
                        check_size(source, (page.height, page.width), 4)
                        plane, has_colour = _grey(source, file, page)
                        pages = getattr(image, "n_frames", 1)
                        name = file.name if pages == 1 else f"{file.name}, page {number + 1}"
                        yield name, plane, has_colour
        except OctReadError:
            raise
        except Exception as error:  # Pillow raises whatever the bytes lead it to
            text = " ".join(str(error).split())[:160]
            raise OctReadError(
                source, f"{file.name} is no readable picture ({type(error).__name__}: {text})."
            ) from error


def _grey(source: Path, file: Path, page: Any) -> tuple[NDArray[Any], bool]:
    """Return one channel; whether colour was lost on the way."""
    if page.mode in ("L", "1"):
        return np.asarray(page.convert("L")), False
    if page.mode.startswith("I;16"):
        return np.asarray(page).astype(np.uint16), False
    if page.mode in ("P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"):
        rgb = np.asarray(page.convert("RGB"))
        spread = rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2)
        widest = int(spread.max())
        if widest == 0:
            return np.ascontiguousarray(rgb[..., 0]), False
        lossy = page.format == "JPEG" or file.suffix.lower() in (".jpg", ".jpeg")
        has_colour = widest > (_GREY_TOLERANCE if lossy else 0)
        return np.asarray(page.convert("L")), has_colour
    raise OctReadError(
        source, f"{file.name} has the pixel mode {page.mode}, expected 8 or 16 bits of grey."
    )
