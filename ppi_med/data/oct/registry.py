"""Sources, their readers, and the one call that reads any of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import (
    NotOctError,
    OctReadError,
    OctVolume,
    library_warnings,
    plausible_spacing,
)


@dataclass(frozen=True)
class Source:
    """What one reader call reads.

    Attributes:
        path: the file, or the folder of a stack.
        relative: `path` relative to the folder that is read, with forward slashes.
        reader: name of the reader; "" if there is none.
        files: all files it is read from, in natural order.
        fault: why it cannot be read, if the search has already found that out.
        names: further relative paths that a table or a pattern may use for it.
    """

    path: Path
    relative: str
    reader: str
    files: tuple[Path, ...]
    fault: str = ""
    names: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Return the hash of the file, or of the names and hashes of several files."""
        if self.files == (self.path,):
            return _file_hash(self.path)
        base = self.path if self.path.is_dir() else self.path.parent
        lines = [f"{file.relative_to(base).as_posix()}\t{_file_hash(file)}" for file in self.files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


Reader = Callable[[Source, ReadOptions], list[OctVolume]]


@dataclass(frozen=True)
class ReaderEntry:
    """A reader's module and its file names.

    Attributes:
        module: below `ppi_med.data.oct`; it has `read(source, options) -> list[OctVolume]`.
        suffixes: lower case, with the dot; empty for `NIFTI`, which is not a source of a
            conversion.
        what: for messages and help texts.
        several: whether one source may give more than one volume.
    """

    module: str
    suffixes: tuple[str, ...]
    what: str
    several: bool = False

    def load(self) -> Reader:
        """Import the reader only when it is used."""
        return cast(Reader, import_module(f"ppi_med.data.oct.{self.module}").read)


NIFTI = "nifti"
NIFTI_SUFFIXES = (".nii", ".nii.gz")
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
    "topcon-fda": ReaderEntry("topcon_fda", (".fda",), "Topcon .fda", several=True),
    "dicom": ReaderEntry("dicom_opt", (".dcm", ".dicom"), "DICOM ophthalmic tomography"),
    "images": ReaderEntry(
        "stack", (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg"), "TIFF, PNG or JPEG stack"
    ),
    NIFTI: ReaderEntry("nifti", (), "NIfTI from the conversion"),
}
IMAGE_SUFFIXES = READERS["images"].suffixes
_BY_SUFFIX = {suffix: name for name, entry in READERS.items() for suffix in entry.suffixes}


def reader_for(path: str | Path) -> str | None:
    """Return the name of the reader for a path, `None` if there is none.

    A folder is an image stack, or a Heidelberg export if it holds one XML of that kind. The suffix
    identifies a file, or the first bytes a DICOM file without one.

    Examples:
        >>> reader_for("eye/scan.MAT"), reader_for("notes.txt")
        ('matlab', None)
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, False if the system refuses access
        return "images"
    name = _BY_SUFFIX.get(path.suffix.lower())
    if name is None and is_dicom(path):
        return "dicom"
    return name


def is_nifti(path: Path) -> bool:
    """Say whether a file is NIfTI by its name."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_dicom(path: Path) -> bool:
    """Say whether a file is DICOM by the mark after its preamble."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that counts numbers as numbers: B2 comes before B10.

    Examples:
        >>> sorted(["B10", "B2", "b1"], key=natural_key)
        ['b1', 'B2', 'B10']
    """
    pieces = re.split(r"(\d+)", text)
    key = [(0, int(p), "") if p.isdecimal() else (1, 0, p.casefold()) for p in pieces if p]
    return [*key, (2, 0, text)]


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder in natural order."""
    found = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    return sorted(found, key=lambda file: natural_key(file.name))


def read_source(source: Source, options: ReadOptions | None = None) -> list[OctVolume]:
    """Read every volume of a source, as the source describes it.

    The common steps of all readers: an impossible spacing stays unknown, and warnings of libraries
    are added to the volumes' warnings.

    Raises:
        OctReadError: if it cannot be read; the message names the file and says why.
    """
    with library_warnings() as said:
        volumes = READERS[source.reader].load()(source, options or ReadOptions())
    for volume in volumes:
        volume.spacing, reasons = plausible_spacing(volume.spacing)
        volume.warnings += [*reasons, *said]
    return volumes


def read_all(
    path: str | Path, options: ReadOptions | None = None, reader: str | None = None
) -> list[OctVolume]:
    """Read every volume of a file, or of a folder of images; see `read_source`.

    Args:
        path: a file, or a folder of images.
        options: options for formats with incomplete facts.
        reader: a name of `READERS`; default by `reader_for`.

    Returns:
        One volume, or several if the format holds several.

    Raises:
        FileNotFoundError: if there is no such path.
        OctReadError: if it cannot be read; the message names the file and says why.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No file or folder {path}.")
    name = reader or (NIFTI if is_nifti(path) else reader_for(path))
    if name is None:
        known = ", ".join([*sorted(_BY_SUFFIX), *NIFTI_SUFFIXES])
        raise OctReadError(path, f"no reader for this kind of file, expected one of {known}.")
    if name not in READERS:
        raise ValueError(f"reader is {name!r}, expected one of {sorted(READERS)}.")
    files = tuple(pictures_in(path)) if path.is_dir() else (path,)
    return read_source(Source(path, path.name, name, files), options)


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
        options: options for formats with incomplete facts.
        reader: a name of `READERS`; default by the path.
        index: number of the volume, from 0, if the source holds several.

    Returns:
        The volume as the source describes it; unknown values are `None`. `prepare_volume` fills in
        the user's values and makes it 8-bit.

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


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


__all__ = ["IMAGE_SUFFIXES", "READERS", "NotOctError", "read_all", "read_oct", "reader_for"]
