"""Finding the sources of a folder: which files make one volume, which are none."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ppi_med.data.oct.registry import IMAGE_SUFFIXES, reader_for

ImageMode = Literal["stack", "single"]


@dataclass(frozen=True)
class Source:
    """What one reader call reads.

    Attributes:
        path: the file, or the folder of a stack.
        relative: `path` relative to the converted folder, with forward slashes.
        reader: name of the reader; "" for an empty folder.
        files: all files it is read from, in natural order.
        fault: why it cannot be read, where the search has found that out already.
    """

    path: Path
    relative: str
    reader: str
    files: tuple[Path, ...]
    fault: str = ""

    def sha256(self) -> str:
        """Return the hash of the file, or of the names and hashes of several files."""
        if self.files == (self.path,):
            return _file_hash(self.path)
        base = self.path if self.path.is_dir() else self.path.parent
        lines = [f"{_relative(file, base)}\t{_file_hash(file)}" for file in self.files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass
class Found:
    """The sources of a folder in natural order, and what else lies there.

    Attributes:
        sources: to be converted.
        ignored: number of files without a reader, by suffix.
    """

    sources: list[Source] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def make_source(
    path: Path, relative: str, reader: str, files: tuple[Path, ...], fault: str = ""
) -> Source:
    """Return a source; one with a name that is no UTF-8 has it escaped, and a fault."""
    base = path if os.path.isdir(path) else path.parent
    for name in (relative, *(_relative(file, base) for file in files)):
        if (shown := escaped(name)) != name and not fault:
            fault = f"the name {shown} is not UTF-8: rename it and run again."
    return Source(path, escaped(relative), reader, files, fault)


def escaped(name: str) -> str:
    r"""Return a name with the bytes that are no UTF-8 written out.

    Examples:
        >>> escaped("M\udcfcller.vol")
        'M\\udcfcller.vol'
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key that counts numbers as numbers: B2 comes before B10.

    Examples:
        >>> sorted(["B10", "B2", "b1"], key=natural_key)
        ['b1', 'B2', 'B10']
    """
    pieces = re.split(r"(\d+)", text)
    key = [(0, int(p), "") if p.isdecimal() else (1, 0, p.casefold()) for p in pieces if p]
    return [*key, (2, 0, text)]


def find_sources(
    root: str | Path, *, images: ImageMode = "stack", skip: Iterable[str | Path] = ()
) -> Found:
    """List the sources below a folder, or the one that a path names.

    - A file of a vendor's format is a source.
    - A Heidelberg XML takes the pictures of its folder and of the folders right below it.
    - A TIFF of several pages is a source. The other pictures of a folder are one stack, or one
      source each with `images="single"`.
    - A folder without anything in it is a source without a reader, so that it is reported; so is
      a folder or an XML that the system refuses, with a fault.

    Hidden files and folders, and the folders in `skip`, are passed over.

    Raises:
        FileNotFoundError: if there is no such path.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"No file or folder {root}.")
    if root.is_file():
        return Found([make_source(root, root.name, reader_for(root) or "", (root,))])
    skipped = {Path(path).resolve() for path in skip}
    found = Found()
    claimed: set[Path] = set()

    def report(error: OSError) -> None:
        found.sources.append(_refused(Path(error.filename), root, error))

    for folder, names, files in os.walk(root, onerror=report):
        here = Path(folder)
        names[:] = sorted((n for n in names if not n.startswith(".")), key=natural_key)
        names[:] = [name for name in names if (here / name).resolve() not in skipped]
        visible = sorted((n for n in files if not n.startswith(".")), key=natural_key)
        if not files and not names and here != root:
            found.sources.append(make_source(here, _relative(here, root), "", ()))
        _add_folder(found, claimed, root, here, visible, images)
    found.sources.sort(key=lambda source: natural_key(source.relative))
    return found


def _add_folder(
    found: Found, claimed: set[Path], root: Path, here: Path, names: list[str], images: ImageMode
) -> None:
    pictures = [here / name for name in names if (here / name).suffix.lower() in IMAGE_SUFFIXES]
    exports: list[Path] = []
    refused: list[Path] = []
    for path in (here / name for name in names if name.lower().endswith(".xml")):
        try:
            exports += [path] * _is_export(path)
        except OSError as error:
            refused.append(path)
            found.sources.append(_refused(path, root, error))
    if exports:
        below = [path for path in _pictures_below(here) if path not in claimed]
        claimed.update(pictures, below)
        for path in exports:
            files = (path, *pictures, *below)
            found.sources.append(make_source(path, _relative(path, root), "heidelberg-xml", files))
    loose: list[Path] = []
    for path in pictures:
        if path in claimed:
            continue
        if images == "single" or _is_multipage(path):
            found.sources.append(make_source(path, _relative(path, root), "images", (path,)))
        else:
            loose.append(path)
    if loose:
        found.sources.append(make_source(here, _folder_name(here, root), "images", tuple(loose)))
    for name in names:
        path = here / name
        if path in pictures or path in exports or path in refused:
            continue
        reader = reader_for(path)
        if reader in (None, "heidelberg-xml"):
            found.ignored[escaped(path.suffix.lower() or path.name)] += 1
        else:
            found.sources.append(make_source(path, _relative(path, root), reader or "", (path,)))


def _refused(path: Path, root: Path, error: OSError) -> Source:
    """Return the source that says why the system does not let a file or folder be read."""
    fault = f"{type(error).__name__}: {error.strerror or error}."
    return make_source(path, _folder_name(path, root), "", (), fault)


def _pictures_below(folder: Path) -> list[Path]:
    """Return the pictures in the folders right below, but for those with an export of their own."""
    result: list[Path] = []
    for child in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if child.name.startswith(".") or not os.path.isdir(child):
            continue
        try:
            inside = sorted(child.iterdir(), key=lambda path: natural_key(path.name))
            own = any(path.suffix.lower() == ".xml" and _is_export(path) for path in inside)
        except OSError:  # reported when the search comes there
            continue
        if not own:
            result += [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return result


def _is_export(path: Path) -> bool:
    """Tell a Heidelberg export by its first bytes, without parsing it."""
    with path.open("rb") as stream:
        head = stream.read(4096).replace(b"\0", b"")
    return b"<HEDX" in head or (b"<BODY" in head and b"<ExportType" in head)


def _is_multipage(path: Path) -> bool:
    from PIL import Image

    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with Image.open(path) as image:
            image.seek(1)
            return True
    except Exception:  # a damaged picture is reported by the reader, by name
        return False


def _folder_name(path: Path, root: Path) -> str:
    return _relative(path, root) if path != root else path.resolve().name


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
