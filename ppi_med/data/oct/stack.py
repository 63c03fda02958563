"""Stacks of pictures: a folder of single B-scans, or one TIFF of several pages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.oct.options import Policy, ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.sources import doubts_about, picture_families
from ppi_med.data.oct.volume import OctReadError, OctVolume, check_size, fault_of

NAME = "images"
_GREY_TOLERANCE = 8
"""JPEG changes the colour of grey pixels slightly; a larger difference is drawn or coloured."""
_ORIENTATION = 274
"""EXIF tag of a picture's rotation for display; 1 is as stored."""


def read(source: Source, options: ReadOptions) -> list[OctVolume]:
    """Read pictures in the order of the source, or one picture file with one page or more.

    All must have the same size. Spacing and laterality are unknown: a picture's dpi is for
    printers.
    """
    if not source.files:
        raise OctReadError(source.path, "no pictures in this folder.")
    large = [name for name, own in picture_families(source.files).items() if len(own) > 1]
    if len(large) > 1:
        raise OctReadError(
            source.path,
            f"the pictures have names of several families ({', '.join(large[:3])}): they are no "
            "single volume; give each a folder.",
        )
    volume = read_pictures(source.path, source.files, colour=options.colour)
    volume.warnings += doubts_about(source.files)
    return [volume]


def read_pictures(source: Path, files: Sequence[Path], *, colour: Policy = "refuse") -> OctVolume:
    """Read pictures, in the order given, as the B-scans of one volume.

    A picture with an EXIF rotation is rotated, as in every viewer.

    Args:
        source: named in messages.
        files: pictures of equal size; a TIFF may hold several pages.
        colour: "refuse" a coloured picture, or "warn" and take its luminance.

    Raises:
        OctReadError: if a picture is damaged, coloured, or of another size than the first.
    """
    planes: list[NDArray[Any]] = []
    coloured: list[str] = []
    turned: list[str] = []
    for name, plane, has_colour, was_turned in _planes(source, files):
        if has_colour:
            if colour == "refuse":
                raise OctReadError(
                    source,
                    f"{name} has coloured pixels (R, G and B differ): something is drawn into it, "
                    "and a network could read the answer there. Find the original picture, or "
                    "give --colour warn to take its brightness.",
                )
            coloured.append(name)
        turned += [name] * was_turned
        if planes and plane.shape != planes[0].shape:
            raise OctReadError(
                source,
                f"{name} has {plane.shape[0]} x {plane.shape[1]} pixels, expected the first "
                f"picture's {planes[0].shape[0]} x {planes[0].shape[1]}; if these pictures are no "
                "volume, convert them with --images single.",
            )
        # a file may hold many pages: their number is known only at the end
        count = max(len(files), len(planes) + 1)
        check_size(source, (count, *plane.shape), plane.dtype.itemsize)
        planes.append(plane)
    kinds = {plane.dtype for plane in planes}
    if len(kinds) > 1:
        raise OctReadError(source, f"pictures of {sorted(map(str, kinds))} are mixed.")
    volume = OctVolume(np.stack(planes), reader=NAME, source=source)
    volume.meta["files"] = [file.name for file in files]
    if turned:
        volume.warnings.append(
            f"{len(turned)} pictures turned as their EXIF orientation says, first {turned[0]}: is "
            "the retina upright in them?"
        )
    if coloured:
        volume.warnings.append(
            f"{len(coloured)} coloured pictures taken by their brightness, first {coloured[0]}: "
            "something may be drawn into them."
        )
        volume.provenance["pixels"] = "rule: luminance of coloured pictures"
    return volume


def _planes(source: Path, files: Sequence[Path]) -> Iterator[tuple[str, NDArray[Any], bool, bool]]:
    """Yield name, pixels, whether they are coloured and whether they were turned, page by page."""
    from PIL import Image, ImageSequence

    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                _check_png(file)
                with Image.open(file) as image:
                    pages = getattr(image, "n_frames", 1)
                    check_size(source, (pages, image.height, image.width), 1)
                    for number, page in enumerate(ImageSequence.Iterator(image)):
                        check_size(source, (page.height, page.width), 4)
                        name = file.name if pages == 1 else f"{file.name}, page {number + 1}"
                        yield name, *_upright(source, name, page)
        except GeneratorExit:
            raise
        except BaseException as error:  # the bytes can raise anything in Pillow
            if isinstance(error, OctReadError):
                raise
            raise OctReadError(
                source, f"{file.name} is no readable picture ({fault_of(error)})."
            ) from error


def _check_png(file: Path) -> None:
    """Compare the checksums of a PNG, which Pillow does not do for the pixels."""
    from PIL import Image

    with Image.open(file) as image:
        if image.format == "PNG":
            image.verify()


def _upright(source: Path, name: str, page: Any) -> tuple[NDArray[Any], bool, bool]:
    """Return the pixels of a page, whether they are coloured, and whether they were turned."""
    from PIL import ImageOps

    turned = page.getexif().get(_ORIENTATION, 1) not in (0, 1)
    pixels, has_colour = grey_pixels(source, name, ImageOps.exif_transpose(page))
    return pixels, has_colour, turned


def grey_pixels(source: Path, name: str, page: Any) -> tuple[NDArray[Any], bool]:
    """Return one channel of a picture in its own depth, and whether colour was lost.

    Returns:
        uint8 or uint16 `(H, W)`, and whether R, G and B differed.

    Raises:
        OctReadError: for pixels that are neither 8 nor 16 bits of grey nor colours.
    """
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
        lossy = page.format == "JPEG" or name.lower().endswith((".jpg", ".jpeg"))
        has_colour = widest > (_GREY_TOLERANCE if lossy else 0)
        return np.asarray(page.convert("L")), has_colour
    raise OctReadError(
        source, f"{name} has the pixel mode {page.mode}, expected 8 or 16 bits of grey."
    )
