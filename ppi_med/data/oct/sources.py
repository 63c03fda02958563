"""Finding the sources of a folder: the files of each volume, and its name."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Literal

from ppi_med.data.oct.registry import (
    IMAGE_SUFFIXES,
    READERS,
    Source,
    natural_key,
    reader_for,
)

ImageMode = Literal["stack", "single"]
_LONGEST_NAME = 100
_NUMBERED = re.compile(r"(.+)_(?:[2-9]|[1-9]\d+)")


@dataclass
class Found:
    """The sources of a folder in natural order, and what else is in it."""

    sources: list[Source] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def make_source(
    path: Path,
    relative: str,
    reader: str,
    files: tuple[Path, ...],
    fault: str = "",
    names: tuple[str, ...] = (),
) -> Source:
    """Return a source; a name that is not UTF-8 is escaped, and becomes a fault."""
    base = path if os.path.isdir(path) else path.parent
    for name in (relative, *(_relative(file, base) for file in files)):
        if (shown := escaped(name)) != name and not fault:
            fault = f"the name {shown} is not UTF-8: rename it and run again."
    names = tuple(map(escaped, names))
    return Source(path, escaped(relative), reader, files, escaped(fault), names)


def escaped(name: str) -> str:
    r"""Return a name with the bytes that are not UTF-8 escaped.

    Examples:
        >>> escaped("M\udcfcller.vol")
        'M\\udcfcller.vol'
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def find_sources(
    root: str | Path, *, images: ImageMode = "stack", skip: Iterable[str | Path] = ()
) -> Found:
    """List the sources below a folder, or the one that a path names.

    - A file of a vendor's format is a source.
    - A Heidelberg XML takes the pictures of its folder and of the folders directly below it.
    - A TIFF of several pages is a source. The other pictures of a folder are one stack, or one
      source each with `images="single"`. If their names form several families, each is a stack; see
      `picture_families`.
    - An empty folder is a source without a reader, so that it is reported; so is an inaccessible
      folder or XML, with a fault.

    Hidden files and folders, and the folders in `skip`, are skipped.

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
    found.sources += _stacks(loose, here, root)
    for name in names:
        path = here / name
        if path in pictures or path in exports or path in refused:
            continue
        reader = reader_for(path)
        if reader in (None, "heidelberg-xml"):
            found.ignored[escaped(path.suffix.lower() or path.name)] += 1
        else:
            found.sources.append(make_source(path, _relative(path, root), reader or "", (path,)))


def _stacks(pictures: list[Path], here: Path, root: Path) -> list[Source]:
    """Return the stacks of a folder's pictures: one, or one per family of names."""
    if not pictures:
        return []
    families = picture_families(pictures)
    large = [files for files in families.values() if len(files) > 1]
    eyes = {hint for path in pictures if (hint := eye_hint(path.name))}
    if len(families) == 1 or (len(large) == 1 and len(eyes) < 2):
        return [_stack(pictures, _folder_name(here, root), here, root)]
    if len(large) < len(families):
        alone = next(files[0].name for files in families.values() if len(files) == 1)
        shown = ", ".join([*list(families)[:3], *["..."][: len(families) - 3]])
        fault = (
            f"the pictures have names of {len(families)} families ({shown}), and {alone} is alone "
            "in its own: they are no single volume. Give each volume a folder, or convert with "
            "--images single."
        )
        return [make_source(here, _folder_name(here, root), "images", tuple(pictures), fault)]
    stems = Counter(_family_name(files) for files in large)
    found = []
    for files in large:
        own = _family_name(files)
        own = own if own and stems[own] == 1 else files[0].name
        found.append(_stack(files, _relative(here / own, root), here, root))
    return found


def _stack(files: list[Path], relative: str, here: Path, root: Path) -> Source:
    names = tuple(_relative(file, root) for file in files)
    return make_source(here, relative, "images", tuple(files), _order_fault(files), names)


def eye_hint(relative: str) -> str | None:
    """Return the side that is a separate part of a file name; a hint only, never the value.

    Examples:
        >>> eye_hint("a/p01_OD_1.png"), eye_hint("food.png")
        ('OD', None)
    """
    name = relative.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    words = {word.upper() for word in re.split(r"[^A-Za-z]+", name)} & {"OD", "OS"}
    return words.pop() if len(words) == 1 else None


def picture_families(pictures: Iterable[Path]) -> dict[str, list[Path]]:
    """Group pictures by their names; each group can be the B-scans of one volume.

    Names belong together if they differ only in numbers. If they differ in one number, it counts
    the B-scans. If in several, the last differing one counts them and the others separate the
    pictures, unless each would then be alone: such a number only runs along, like a time.

    Returns:
        The name with `#` for the count, to its pictures in the given order.

    Examples:
        >>> found = picture_families([Path(f"p{p}_OD_{n}.png") for p in (1, 2) for n in (1, 2)])
        >>> list(found), [path.name for path in found["p1_OD_#.png"]]
        (['p1_OD_#.png', 'p2_OD_#.png'], ['p1_OD_1.png', 'p1_OD_2.png'])
    """
    alike: dict[tuple[str, ...], list[tuple[list[str], Path]]] = defaultdict(list)
    for path in pictures:
        pieces = re.split(r"(\d+)", path.name)
        text = tuple(piece.casefold() for piece in pieces[::2])
        alike[text].append((pieces, path))
    families: dict[str, list[Path]] = {}
    for members in alike.values():
        places = range(1, len(members[0][0]), 2)
        differ = [i for i in places if len({int(pieces[i]) for pieces, _ in members}) > 1]
        parts: dict[str, list[Path]] = defaultdict(list)
        for pieces, path in members:
            shown = list(members[0][0])
            shown[1::2] = pieces[1::2]
            if differ:
                shown[differ[-1]] = "#"
            parts["".join(shown)].append(path)
        if len(differ) > 1 and max(map(len, parts.values())) == 1:
            parts = {"".join(_masked(members[0][0], differ)): [path for _, path in members]}
        families |= parts
    return families


def _masked(pieces: list[str], places: list[int]) -> list[str]:
    return ["#" if place in places else piece for place, piece in enumerate(pieces)]


def _family_name(files: list[Path]) -> str:
    """Return what the names of a family share: `p01_OD` of `p01_OD_1.png` and `p01_OD_2.png`."""
    stems = [file.stem for file in files]
    start = os.path.commonprefix(stems).rstrip("0123456789")
    end = os.path.commonprefix([stem[len(start) :][::-1] for stem in stems])[::-1]
    return f"{start}{end.lstrip('0123456789')}".strip("_-. ")


def _order_fault(files: list[Path]) -> str:
    """Return why the order of the pictures is not certain, "" if it is."""
    seen: dict[str, Path] = {}
    for file in files:
        plain = "".join(str(int(p)) if p.isdecimal() else p for p in re.split(r"(\d+)", file.name))
        plain = plain.casefold()
        if plain in seen:
            return f"{seen[plain].name} and {file.name} have one number: which comes first?"
        seen[plain] = file
    return ""


def doubts_about(files: Sequence[Path]) -> list[str]:
    """Return sentences on doubts about the names of a stack's pictures.

    Equal steps are complete: an export of every fifth B-scan has 5, 10, 15.

    Examples:
        >>> doubts_about([Path("b1.png"), Path("b2.png"), Path("b4.png")])
        ['no picture between b2.png and b4.png: B-scans may be missing.']
    """
    families = sorted(picture_families(files).values(), key=len, reverse=True)
    doubts = [
        f"{other[0].name} is named unlike {families[0][0].name}: is it one of the B-scans?"
        for other in families[1:]
    ]
    pieces = [re.split(r"(\d+)", file.name) for file in families[0]]
    places = range(1, len(pieces[0]), 2)
    counts = [sorted({int(own[place]) for own in pieces}) for place in places]
    counts = [numbers for numbers in counts if len(numbers) > 1]
    if len(counts) == 1 and len(counts[0]) == len(pieces):
        names = sorted((file.name for file in families[0]), key=natural_key)
        steps = [b - a for a, b in zip(counts[0], counts[0][1:], strict=False)]
        wide = [index for index, step in enumerate(steps) if step > min(steps)]
        if wide:
            more = f" (and {len(wide) - 1} more gaps)" if len(wide) > 1 else ""
            doubts.append(
                f"no picture between {names[wide[0]]} and {names[wide[0] + 1]}{more}: B-scans may "
                "be missing."
            )
    return doubts


def _refused(path: Path, root: Path, error: OSError) -> Source:
    """Return a source that says why a file or folder cannot be accessed."""
    fault = f"{type(error).__name__}: {error.strerror or error}."
    return make_source(path, _folder_name(path, root), "", (), fault)


def _pictures_below(folder: Path) -> list[Path]:
    """Return the pictures in the folders directly below, except those with their own export."""
    result: list[Path] = []
    for child in sorted(folder.iterdir(), key=lambda path: natural_key(path.name)):
        if child.name.startswith(".") or not os.path.isdir(child):
            continue
        try:
            inside = sorted(child.iterdir(), key=lambda path: natural_key(path.name))
            own = any(path.suffix.lower() == ".xml" and _is_export(path) for path in inside)
        except OSError:  # reported when the search gets there
            continue
        if not own:
            result += [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return result


def _is_export(path: Path) -> bool:
    """Say whether a file is a Heidelberg export by its first bytes, without parsing it."""
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


def volume_name(relative: str, *, folder: bool = False) -> str:
    """Return a file name for a source: its path with everything unusual replaced.

    A changed or shortened name gets eight digits of the path's hash, so that two sources never
    share a name.

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
        sources: sources in order of priority.
        plain: function that gives a source's plain name.
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
        self._stems: set[str] = set()  # names that look like those of further volumes

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
