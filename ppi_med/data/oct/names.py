"""The names of volumes: one by the path of the source, and no two alike."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import PurePosixPath

from ppi_med.data.oct.registry import READERS
from ppi_med.data.oct.sources import Source

_LONGEST_NAME = 100
_NUMBERED = re.compile(r"(.+)_(?:[2-9]|[1-9]\d+)")


def volume_name(relative: str, *, folder: bool = False) -> str:
    """Return a file name for a source: its path with everything unusual replaced.

    A name that had to be changed or cut gets eight digits of the path's hash, so that two
    sources never share one.

    Examples:
        >>> volume_name("site1/p01_OD_v1.mat")
        'site1__p01_OD_v1'
        >>> volume_name("../Müller.vol")
        'M_ller-1cfbfb67'
    """
    path = PurePosixPath(relative)
    stem = path.as_posix() if folder else path.with_suffix("").as_posix()
    parts = [part for part in stem.split("/") if part not in ("", ".", "..")]
    plain = "__".join(parts)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", plain).strip(".")[:_LONGEST_NAME]
    if name == plain and "/".join(parts) == stem and plain.count("__") == len(parts) - 1:
        return name
    return f"{name or 'volume'}-{hashlib.sha256(relative.encode()).hexdigest()[:8]}"


def numbered_name(name: str, number: int) -> str:
    """Return the name of a source's volume, counted from 0.

    Examples:
        >>> numbered_name("scan", 0), numbered_name("scan", 1)
        ('scan', 'scan_2')
    """
    return name if number == 0 else f"{name}_{number + 1}"


def unique_names(sources: Iterable[Source], plain: Callable[[Source], str]) -> list[str]:
    """Return one name a source; where two would share one, the later takes its suffix along.

    What a further volume of another file may be called is taken too: beside `scan.e2e`, which may
    hold several volumes, `scan_2.e2e` is not called `scan_2`.

    Args:
        sources: in the order in which they choose.
        plain: the name of a source that is alone.
    """
    chosen = _Chosen()
    for source in sources:
        several = source.reader in READERS and READERS[source.reader].several
        chosen.add(next(n for n in _candidates(source, plain) if chosen.free(n, several)), several)
    return chosen.names


class _Chosen:
    """The names so far."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._taken: set[str] = set()
        self._several: set[str] = set()  # names of files that may hold several volumes
        self._stems: set[str] = set()  # of the names that look like those of further volumes

    def free(self, name: str, several: bool) -> bool:
        key = name.casefold()
        shared = key in self._taken or _stem(key) in self._several
        return not shared and not (several and key in self._stems)

    def add(self, name: str, several: bool) -> None:
        key = name.casefold()
        self.names.append(name)
        self._taken.add(key)
        self._stems.add(_stem(key))
        if several:
            self._several.add(key)


def _candidates(source: Source, plain: Callable[[Source], str]) -> Iterator[str]:
    yield plain(source)
    longer = volume_name(source.relative.replace(".", "-"), folder=True)
    yield longer
    yield from (f"{longer}-{number}" for number in count(2))


def _stem(name: str) -> str:
    match = _NUMBERED.fullmatch(name)
    return match[1] if match else ""
