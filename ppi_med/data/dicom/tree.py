"""The files of a tree: folders, links, zip archives; in a fixed order, one after the other."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_ENTRY_BYTES = 2**30
"""A larger entry of a zip archive is refused: no slice is that large, a hostile archive may be."""


HEAD_BYTES = 132
"""Enough of a file to decide whether it is DICOM."""


@dataclass(frozen=True)
class DicomFile:
    """A file, or an entry of a zip archive.

    Attributes:
        path: relative to the tree's root, with forward slashes.
        entry: name inside the archive at `path`, or "".
        size: bytes.
        stamp: changes when the content does: modification time, and the entry's checksum.
    """

    path: str
    entry: str = ""
    size: int = 0
    stamp: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.path}!{self.entry}" if self.entry else self.path


@dataclass(frozen=True)
class FileProblem:
    """A file without a header.

    Attributes:
        file: the file.
        kind: "unreadable", "damaged", "not_dicom", "empty", "link", "archive" or "dicomdir".
        reason: a sentence without the file's content.
    """

    file: DicomFile
    kind: str
    reason: str


def walk_tree(
    root: str | Path, skip: Iterable[str | Path] = ()
) -> Iterator[DicomFile | FileProblem]:
    """Yield the files below a folder, sorted within each folder; only archives are opened.

    Links to folders are followed, each folder once, so that a loop of links ends. A link to a file
    of the tree itself is skipped, since the file is already there. Names that begin with a dot are
    skipped. The entries of a `.zip` count as files; nothing is extracted. A name that is not UTF-8
    is a problem with an escaped name, since no table could hold it.

    Args:
        root: a folder, a `.zip`, or a DICOMDIR, which means its folder.
        skip: folders to leave out.

    Raises:
        FileNotFoundError: if there is no such path.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "b.dcm").write_bytes(b"12"), (folder / "a.dcm").write_bytes(b"1")
        >>> [(file.path, file.size) for file in walk_tree(folder)]
        [('a.dcm', 1), ('b.dcm', 2)]
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"No file or folder {root}.")
    base = tree_root(root)
    if root.is_file() and not _is_dicomdir(root.name):
        yield from [_misnamed(root.name)] if _is_misnamed(root.name) else _file(root, root.name)
        return
    skipped = {Path(path).resolve() for path in skip}
    yield from _Walk(base, skipped).run()


def tree_root(root: str | Path) -> Path:
    """Return the folder that the paths of a tree are relative to."""
    root = Path(root)
    return root.parent if root.is_file() else root


class ArchiveError(ValueError):
    """An entry of a zip archive that cannot be read; the message has nothing of its content."""


class Opener:
    """Opens the files of a tree one after the other; an archive stays open for its next entry.

    Args:
        base: the folder that the paths are relative to.
    """

    def __init__(self, base: str | Path) -> None:
        self.base = Path(base)
        self._path = ""
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> Opener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive that is still open."""
        if self._archive is not None:
            self._archive.close()
        self._archive, self._path = None, ""

    @contextmanager
    def open(
        self, file: DicomFile, wanted: Callable[[bytes], bool] | None = None
    ) -> Iterator[BinaryIO]:
        """Open a file or an entry for reading; an entry is read into memory.

        Args:
            file: to be opened.
            wanted: decides by the first 132 bytes of an entry whether the rest is read.

        Raises:
            OSError: if it cannot be opened.
            ArchiveError: for an entry that is too large, encrypted or damaged.
        """
        if not file.entry:
            with (self.base / file.path).open("rb") as stream:
                yield stream
            return
        try:
            content = _entry_bytes(self._archive_at(file.path), file.entry, wanted)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as e:
            reason = f"the archive's entry cannot be read ({type(e).__name__})."
            raise ArchiveError(reason) from e
        yield io.BytesIO(content)

    def _archive_at(self, path: str) -> zipfile.ZipFile:
        if self._archive is None or self._path != path:
            self.close()
            self._archive, self._path = zipfile.ZipFile(self.base / path), path
        return self._archive


class _Walk:
    def __init__(self, base: Path, skipped: set[Path]) -> None:
        self.base = base
        self.resolved = base.resolve()
        self.skipped = skipped
        self.seen: set[tuple[int, int]] = set()

    def run(self) -> Iterator[DicomFile | FileProblem]:
        """Walk real folders first, then the targets of links: a file is named by its true path."""
        links: list[str] = []
        yield from self._folders([""], links)
        while links:
            relative = links.pop(0)
            if self._known(relative):
                text = "a link to a folder that was already walked: skipped."
                yield FileProblem(DicomFile(relative), "link", text)
            else:
                yield from self._folders([relative], links)

    def _folders(self, stack: list[str], links: list[str]) -> Iterator[DicomFile | FileProblem]:
        while stack:
            relative = stack.pop()
            folder = self.base / relative
            if folder.resolve() in self.skipped or self._known(relative):
                continue
            self._remember(relative)
            try:
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                yield FileProblem(DicomFile(relative or "."), "unreadable", _os_reason(error))
                continue
            below: list[str] = []
            for entry in found:
                if not entry.name.startswith("."):
                    path = f"{relative}/{entry.name}" if relative else entry.name
                    yield from self._entry(entry, path, below, links)
            stack.extend(reversed(below))

    def _entry(
        self, entry: os.DirEntry[str], path: str, below: list[str], links: list[str]
    ) -> Iterator[DicomFile | FileProblem]:
        if _is_misnamed(entry.name):
            yield _misnamed(path)
            return
        try:
            if entry.is_dir():
                (links if entry.is_symlink() else below).append(path)
                return
            if entry.is_symlink() and self._is_ours(entry):
                text = "a link to a file of this tree: skipped."
                yield FileProblem(DicomFile(path), "link", text)
                return
        except OSError as error:
            yield FileProblem(DicomFile(path), "link", _os_reason(error))
            return
        yield from _file(self.base / path, path)

    def _is_ours(self, entry: os.DirEntry[str]) -> bool:
        return Path(entry.path).resolve().is_relative_to(self.resolved)

    def _key(self, relative: str) -> tuple[int, int] | None:
        try:
            found = (self.base / relative).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _known(self, relative: str) -> bool:
        return self._key(relative) in self.seen

    def _remember(self, relative: str) -> None:
        key = self._key(relative)
        if key is not None:
            self.seen.add(key)


def _file(path: Path, relative: str) -> Iterator[DicomFile | FileProblem]:
    """Yield one file, or the entries of an archive."""
    try:
        found = path.stat()
    except OSError as error:
        yield FileProblem(DicomFile(relative), "unreadable", _os_reason(error))
        return
    file = DicomFile(relative, "", found.st_size, str(found.st_mtime_ns))
    if not stat.S_ISREG(found.st_mode):
        yield FileProblem(file, "unreadable", "a device, socket or pipe, expected a file.")
    elif path.suffix.lower() == ".zip" and found.st_size:
        yield from _entries(path, file)
    else:
        yield file


def _entries(path: Path, file: DicomFile) -> Iterator[DicomFile | FileProblem]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = sorted(archive.infolist(), key=lambda info: info.filename)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = f"the zip archive cannot be read ({type(error).__name__})."
        yield FileProblem(file, "archive", reason)
        return
    for info in infos:
        name = info.filename
        hidden = any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
        if info.is_dir() or hidden or name.startswith("__MACOSX/"):
            continue
        entry = DicomFile(file.path, name, info.file_size, f"{file.stamp}-{info.CRC:08x}")
        if info.flag_bits & 1:
            yield FileProblem(entry, "archive", "the entry is encrypted: unpack it first.")
        elif name.lower().endswith(".zip"):
            yield FileProblem(entry, "archive", "an archive in an archive: unpack it first.")
        elif info.file_size > MAX_ENTRY_BYTES:
            text = f"{info.file_size} bytes unpacked, expected at most {MAX_ENTRY_BYTES}."
            yield FileProblem(entry, "archive", text)
        else:
            yield entry


def _entry_bytes(
    archive: zipfile.ZipFile, name: str, wanted: Callable[[bytes], bool] | None
) -> bytes:
    """Read an entry; the size in its directory is not trusted."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ArchiveError("the archive no longer has this entry.") from None
    with archive.open(info) as stream:
        head = stream.read(HEAD_BYTES)
        if wanted is not None and not wanted(head):
            return head
        content = head + stream.read(MAX_ENTRY_BYTES + 1 - len(head))
    if len(content) > MAX_ENTRY_BYTES:
        raise ArchiveError(f"more than {MAX_ENTRY_BYTES} bytes unpacked: refused.")
    return content


def _is_misnamed(name: str) -> bool:
    """Say whether a name holds bytes that are not UTF-8, which Python keeps as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def _misnamed(path: str) -> FileProblem:
    escaped = os.fsencode(path).decode("utf-8", "backslashreplace")
    text = "its name is not UTF-8: rename it; with a folder all that is in it is left out."
    return FileProblem(DicomFile(escaped), "unreadable", text)


def _is_dicomdir(name: str) -> bool:
    return name.upper() == "DICOMDIR"


def _os_reason(error: OSError) -> str:
    return f"{type(error).__name__}: {error.strerror or 'cannot be read'}."
