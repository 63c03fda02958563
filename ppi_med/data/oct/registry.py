"""Which reader is for which file or folder, and the one call that reads any of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import NotOctError, OctReadError, OctVolume

Reader = Callable[[Path, ReadOptions], list[OctVolume]]


@dataclass(frozen=True)
class ReaderEntry:
    """Where a reader lives and which names it is for.

    Attributes:
        module: below `ppi_med.data.oct`; it has `read(path, options) -> list[OctVolume]`.
        suffixes: lower case, with the dot.
        what: for messages and help texts.
        several: whether one source may give more than one volume.
    """

    module: str
    suffixes: tuple[str, ...]
    what: str
    several: bool = False

    def load(self) -> Reader:
        """Import the reader; formats that are not used cost nothing."""
        return cast(Reader, import_module(f"ppi_med.data.oct.{self.module}").read)


READERS: dict[str, ReaderEntry] = {
    "matlab": ReaderEntry("matlab", (".mat",), "MATLAB, Duke's form (v5 to v7.3)"),
    "bioptigen": ReaderEntry("bioptigen", (".oct",), "Bioptigen .OCT"),
    "heidelberg-vol": ReaderEntry("heidelberg_vol", (".vol",), "Heidelberg .vol (HEYEX raw)"),
    "heidelberg-e2e": ReaderEntry(
        "heidelberg_e2e", (".e2e",), "Heidelberg .e2e, extra 'oct'", several=True
    ),
    "heidelberg-xml": ReaderEntry(
        "heidelberg_xml", (".xml",), "Heidelberg XML export", several=True
    ),
    "zeiss-img": ReaderEntry("zeiss_img", (".img",), "Zeiss Cirrus .img"),
    "topcon-fda": ReaderEntry("topcon_fda", (".fda",), "Topcon .fda"),
    "dicom": ReaderEntry("dicom_opt", (".dcm", ".dicom"), "DICOM ophthalmic tomography"),
    "images": ReaderEntry(
        "stack", (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg"), "TIFF, PNG or JPEG stack"
    ),
}
IMAGE_SUFFIXES = READERS["images"].suffixes
_BY_SUFFIX = {suffix: name for name, entry in READERS.items() for suffix in entry.suffixes}


def reader_for(path: str | Path) -> str | None:
    """Return the name of the reader for a path, `None` if there is none.

    A folder is an image stack, or a Heidelberg export where it holds one XML of that kind. A file
    is told by its suffix, and a DICOM file without one by its first bytes.

    Examples:
        >>> reader_for("eye/scan.MAT"), reader_for("notes.txt")
        ('matlab', None)
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, False where the system refuses to tell
        return "images"
    name = _BY_SUFFIX.get(path.suffix.lower())
    if name is None and is_dicom(path):
        return "dicom"
    return name


def is_dicom(path: Path) -> bool:
    """Tell a DICOM file by the mark after its preamble."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_all(
    path: str | Path, options: ReadOptions | None = None, reader: str | None = None
) -> list[OctVolume]:
    """Read every volume of a source, as the source tells it.

    Args:
        path: a file, or a folder of images.
        options: for the formats that leave something open.
        reader: a name of `READERS`; default by `reader_for`.

    Returns:
        One volume, or several where the format holds several.

    Raises:
        FileNotFoundError: if there is no such path.
        OctReadError: if it cannot be read; the message names the file and says why.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No file or folder {path}.")
    name = reader or reader_for(path)
    if name is None:
        known = ", ".join(sorted(_BY_SUFFIX))
        raise OctReadError(path, f"no reader for this kind of file, expected one of {known}.")
    if name not in READERS:
        raise ValueError(f"reader is {name!r}, expected one of {sorted(READERS)}.")
    return READERS[name].load()(path, options or ReadOptions())


def read_oct(
    path: str | Path,
    options: ReadOptions | None = None,
    *,
    reader: str | None = None,
    index: int | None = None,
) -> OctVolume:
    """Read one OCT volume from a file of any supported format, or from a folder of images.

    Args:
        path: the source.
        options: for the formats that leave something open.
        reader: a name of `READERS`; default by the path.
        index: which volume, counted from 0, where the source holds several.

    Returns:
        The volume as the source tells it; what it does not tell is `None`. `prepare_volume` fills
        in what the user knows and makes it 8-bit.

    Raises:
        FileNotFoundError: if there is no such path.
        OctReadError: if it cannot be read, or holds several volumes and `index` is not given.
    """
    volumes = read_all(path, options, reader)
    if index is None and len(volumes) > 1:
        raise OctReadError(
            path, f"holds {len(volumes)} volumes; say which with index (0 to {len(volumes) - 1})."
        )
    if not -len(volumes) <= (index or 0) < len(volumes):
        raise OctReadError(path, f"no volume {index}, it holds {len(volumes)}.")
    return volumes[index or 0]


__all__ = ["IMAGE_SUFFIXES", "READERS", "NotOctError", "read_all", "read_oct", "reader_for"]
