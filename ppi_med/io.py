"""Writing files so that a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ppi_med.errors import UsageError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the same folder; on leaving, make it `path` in one step.

    The temporary file is flushed to the disk and renamed over `path`. If the block raises, it is
    removed and `path` stays as it was. The temporary name ends like `path` (all its suffixes), for
    writers that choose the format by the name. Missing parent folders are made.

    Args:
        path: the file to write.

    Yields:
        The path to write to. Nothing exists there yet.

    Raises:
        FileNotFoundError: if the block wrote nothing to the path it was given.
        IsADirectoryError: if `path` is a folder.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_path(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("all of it")
        >>> (folder / "a.txt").read_text()
        'all of it'
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder, expected the path of a file to write.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unused_name(target)
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(
                f"Nothing was written for {target}: write to the path that atomic_path gives."
            )
        _flush_to_disk(temporary)
        os.replace(temporary, target)
        _flush_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(
    folder: str | os.PathLike[str], what: str = "run", *, name: str = ".lock", wait: bool = False
) -> Iterator[None]:
    """Lock a folder, so that no other process of this package writes to it until the block ends.

    The lock is a file in the folder; it ends with the process, even after a kill.

    Args:
        folder: the folder; it is made if it does not exist.
        what: what the message calls the holder, such as "conversion".
        name: name of the lock file; different names do not exclude each other.
        wait: wait for the other process instead of refusing.

    Raises:
        UsageError: if another process holds it, and `wait` is false.
        OSError: if the folder cannot be written to.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with exclusive(folder, "index"), exclusive(folder, "index"):
        ...     pass
        Traceback (most recent call last):
        ppi_med.errors.UsageError: Another index writes to ...
    """
    lock = Path(folder) / name
    handle = _lock(lock, what, wait)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # still held: no other process has it now
        os.close(handle)


def _lock(lock: Path, what: str, wait: bool) -> int:
    """Lock a file, made with its folder; return its handle, which keeps the lock until closed."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if lock.exists() and os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
            # Its last holder has just removed it, and only the file of that name counts.
            os.close(handle)
        except BlockingIOError:
            os.close(handle)
            raise UsageError(
                f"Another {what} writes to {lock.parent}: wait until it ends, or name another "
                "folder."
            ) from None
        except (ImportError, OSError):  # A system or disk without such locks: go on without a lock.
            return handle


_HELD: dict[Path, int] = {}


def hold(folder: str | os.PathLike[str], what: str = "run") -> None:
    """Lock a folder as `exclusive` does, until this process ends.

    A second call in the same process does nothing.

    Args:
        folder: the folder; it is made if it does not exist.
        what: what the message calls the holder.

    Raises:
        UsageError: if another process holds it.
        OSError: if the folder cannot be written to.
    """
    place = Path(folder).resolve()
    if place not in _HELD:
        if not _HELD and hasattr(os, "register_at_fork"):
            # A forked worker outlives a killed parent by seconds and must not keep the folder
            # locked.
            os.register_at_fork(after_in_child=_let_go)
        _HELD[place] = _lock(place / ".lock", what, wait=False)


def _let_go() -> None:
    """Close the locks that a fork has copied; the parent keeps its own."""
    for handle in _HELD.values():
        os.close(handle)
    _HELD.clear()


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def markdown_table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown.

    Examples:
        >>> print(markdown_table(("a", "b"), [("x", 1)]), end="")
        | a | b |
        | --- | --- |
        | x | 1 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically.

    Raises:
        ValueError: if the value holds NaN or infinity, which JSON cannot express.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def whole_files(folder: str | os.PathLike[str], suffix: str) -> list[Path]:
    """Return the files of a folder with a suffix, by name, without leftovers of killed writers.

    Args:
        folder: the folder; it may be missing.
        suffix: such as `.json`.
    """
    found = Path(folder).glob(f"*{suffix}")
    return sorted(path for path in found if not path.name.startswith("."))


def remove_left_overs(folder: str | os.PathLike[str]) -> None:
    """Remove files that killed writers left half written in a folder (not below it).

    Call it only for a folder that no other process writes to.
    """
    for path in Path(folder).glob(".*.tmp*"):
        path.unlink(missing_ok=True)


def _unused_name(target: Path) -> Path:
    """Return a new hidden name beside `target` with the same suffixes, such as `.nii.gz`."""
    suffix = "".join(target.suffixes[-2:])
    handle, name = tempfile.mkstemp(
        prefix=f".{target.name}.", suffix=f".tmp{suffix}", dir=target.parent
    )
    os.close(handle)
    os.unlink(name)
    return Path(name)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable, on systems that can open folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
