"""Image folders: `<part>/<class>/<file>`, or an archive of `<class>/<file>` for each part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ppi_med.data.photos.photo import TEST, TRAINING, Photo, inside
from ppi_med.data.photos.pixels import MEMBER, SUFFIXES, archive
from ppi_med.errors import UsageError

_MACOS = "__MACOSX"
"""Folder that macOS adds to its archives; like hidden files it holds no pictures."""

_TRAINING, _TEST = ("train", "training"), ("test", "val", "validation")


def image_folders(source: Path) -> dict[str, Path]:
    """Return the folders or archives of the parts that are there.

    A part is a folder such as ``train``, or an archive whose name ends so, such as
    ``cifar10_train.zip``.
    """
    found: dict[str, Path] = {}
    for part, names in ((TRAINING, _TRAINING), (TEST, _TEST)):
        for name in names:
            folder, archives = source / name, sorted(source.glob(f"*{name}.zip"))
            if part not in found and folder.is_dir() and any(p.is_dir() for p in folder.iterdir()):
                found[part] = folder
            elif part not in found and archives:
                found[part] = archives[0]
    return found


def read_folders(source: str | Path) -> list[Photo]:
    """Read image folders; classes are numbered in the order of their names, over all parts.

    Args:
        source: the folder with ``train`` and ``test`` (or ``val``), or with one archive of each.

    Raises:
        UsageError: where no class with a picture is found.
    """
    source = Path(source)
    listed = {part: list(_listed(path)) for part, path in image_folders(source).items()}
    classes = sorted({name.split("/")[0] for files in listed.values() for _, name in files})
    if not classes:
        raise UsageError(
            f"No pictures in {source}, expected train/<class>/<file> and test/<class>/<file>, or "
            "an archive of each such as train.zip."
        )
    number = {name: index for index, name in enumerate(classes)}
    return [
        Photo(
            image=reference,
            name=f"{part}/{name.rsplit('.', 1)[0]}",
            label=number[name.split("/")[0]],
            class_name=name.split("/")[0],
            part=part,
        )
        for part, files in listed.items()
        for reference, name in files
    ]


def _listed(path: Path) -> Iterable[tuple[str, str]]:
    """Yield reference and `<class>/<file>` of each picture that is not hidden, sorted."""
    if path.is_dir():
        for file in sorted(path.glob("*/**/*")):
            name = PurePosixPath(file.relative_to(path).as_posix())
            if _is_picture(name) and file.is_file():
                yield str(file), str(name)
        return
    for member in sorted(archive(str(path)).namelist()):
        name = PurePosixPath(inside(member, path.name))
        if _is_picture(name) and len(name.parts) >= 2:
            yield f"{path}{MEMBER}{member}", str(name)


def _is_picture(name: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == _MACOS for part in name.parts)
    return name.suffix.lower() in SUFFIXES and not hidden
