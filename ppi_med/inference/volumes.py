"""OCT volumes for inference: files and folders of any supported format, NIfTI included."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.manifest import ManifestRow, iter_manifest
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.prepare import prepare_volume
from ppi_med.data.oct.registry import (
    NIFTI,
    NIFTI_SUFFIXES,
    READERS,
    Source,
    is_nifti,
    natural_key,
    read_source,
    reader_for,
)
from ppi_med.data.oct.sources import (
    find_sources,
    make_source,
    numbered_name,
    unique_names,
    volume_name,
)
from ppi_med.data.oct.volume import (
    Laterality,
    OctReadError,
    OctVolume,
    Spacing,
    normal_laterality,
)
from ppi_med.errors import plain_words

_NO_VOLUMES = "masks"


@dataclass(frozen=True)
class LoadedVolume:
    """A volume ready for a network, with its facts.

    Attributes:
        volume_id: name of its outputs.
        pixels: uint8, `(S, H, W)`, as the conversion would write them.
        spacing: mm; `None` where unknown.
        laterality: "OD", "OS" or `None`.
        reader: name of the reader.
        source: the file, relative to the folder that was asked for.
        source_sha256: hash of the source, "" where it was not a file.
        provenance: the source of each value that is not from the file.
        warnings: sentences.
    """

    volume_id: str
    pixels: NDArray[np.uint8]
    spacing: Spacing = Spacing()
    laterality: Laterality | None = None
    reader: str = ""
    source: str = ""
    source_sha256: str = ""
    provenance: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(S, H, W)`."""
        slices, depth, width = self.pixels.shape
        return slices, depth, width


def find_inputs(paths: str | Path | Sequence[str | Path]) -> list[Source]:
    """List the sources in the paths, in natural order.

    A folder is searched as in the conversion, and also for NIfTI volumes; NIfTI files in a folder
    named `masks` are skipped. Unreadable sources (a missing path, an empty folder, a file of an
    unknown format) are listed too, without a reader, so that they are reported.

    Args:
        paths: a file or folder, or several.
    """
    several = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return [source for path in several for source in _sources(Path(path))]


def _sources(path: Path) -> list[Source]:
    if is_nifti(path) and path.is_file():
        return [make_source(path, path.name, NIFTI, (path,))]
    if not path.is_dir():
        reader = (reader_for(path) or "") if path.exists() else ""
        return [make_source(path, path.name or str(path), reader, (path,))]
    found = find_sources(path).sources
    found += [
        make_source(file, file.relative_to(path).as_posix(), NIFTI, (file,))
        for file in path.rglob("*.nii*")
        if is_nifti(file) and not _is_aside(file.relative_to(path))
    ]
    found.sort(key=lambda source: natural_key(source.relative))
    return found or [Source(path, path.resolve().name, "", ())]


def _is_aside(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return hidden or _NO_VOLUMES in relative.parts[:-1]


def output_names(sources: Iterable[Source]) -> list[str]:
    """Return one name a source for its outputs, as the conversion would call its volume.

    Where two would share one, the later takes its suffix along; what a further volume of another
    file may be called is taken too.
    """
    return unique_names(sources, _name)


def read_volumes(
    source: Source, options: ReadOptions | None = None, name: str | None = None
) -> list[LoadedVolume]:
    """Read all volumes of a source and prepare them as in the conversion.

    Args:
        source: from `find_inputs`.
        options: values that the user knows and the file does not state.
        name: name of the outputs; default: the conversion's name for the volume.

    Returns:
        One volume, or several if the format holds several.

    Raises:
        OctReadError: if it cannot be read; the message names the file and says why.
        OSError: if the system refuses the file.
    """
    options = options or ReadOptions()
    if not source.reader or source.fault:
        raise OctReadError(source.path, _why_no_reader(source))
    read = read_source(source, options)
    if source.reader == NIFTI:
        _add_manifest(read[0])
    name = name or _name(source)
    sha256 = source.sha256() if source.files and all(f.is_file() for f in source.files) else ""
    volumes = [load_volume(volume, options, volume_id=name) for volume in read]
    return [
        replace(
            volume,
            volume_id=numbered_name(name, number),
            source=source.relative,
            source_sha256=sha256,
        )
        for number, volume in enumerate(volumes)
    ]


def _add_manifest(volume: OctVolume) -> None:
    """Read the facts that NIfTI cannot hold from the manifest beside a converted volume."""
    path = volume.source
    manifest = path.parent.parent / "manifest.csv"
    if path.parent.name != "volumes" or not manifest.is_file():
        return
    volume_id = path.name[: -len(".nii.gz")] if path.suffix == ".gz" else path.stem
    try:
        row = _rows(manifest, manifest.stat().st_mtime_ns).get(volume_id)
    except (ValueError, OSError) as error:
        volume.warnings.append(f"{manifest.name} beside it is not read: {plain_words(error)}")
        return
    if row is None or (row.n_slices, row.rows_px, row.columns_px) != volume.shape:
        return
    eye = normal_laterality(row.extra.get("eye"))
    if eye is not None:
        volume.laterality = eye
        volume.provenance["eye"] = f"{manifest.name} beside it"
    known = (row.spacing_columns_mm, row.spacing_rows_mm, row.spacing_slices_mm)
    for name, own, value in zip(Spacing._fields, volume.spacing, known, strict=True):
        if own is None and value is not None:
            volume.spacing = volume.spacing._replace(**{name: value})
            volume.provenance[f"spacing_{name}_mm"] = f"{manifest.name} beside it"


@lru_cache(maxsize=4)
def _rows(manifest: Path, _: int) -> dict[str, ManifestRow]:
    return {row.volume_id: row for row in iter_manifest(manifest)}


def load_volume(
    volume: OctVolume, options: ReadOptions | None = None, *, volume_id: str | None = None
) -> LoadedVolume:
    """Prepare a volume from a reader.

    Args:
        volume: the volume as its source describes it.
        options: values that the user knows and the file does not state.
        volume_id: name of its outputs; default by its source.

    Returns:
        The volume for a network.
    """
    prepared = prepare_volume(volume, options)
    path = volume.source
    return LoadedVolume(
        volume_id=volume_id or volume_name(path.name, folder=path.is_dir()),
        pixels=prepared.pixels,
        spacing=prepared.spacing,
        laterality=prepared.laterality,
        reader=volume.reader,
        source=path.name,
        provenance=prepared.provenance,
        warnings=tuple(prepared.warnings),
    )


def _why_no_reader(source: Source) -> str:
    if source.fault:
        return source.fault
    if source.path.is_dir():
        return "no OCT file was found in this folder."
    if not source.path.exists():
        return "no such file or folder."
    suffixes = sorted({s for entry in READERS.values() for s in entry.suffixes})
    known = ", ".join([*suffixes, *NIFTI_SUFFIXES])
    return f"no reader for this kind of file, expected one of {known}."


def _name(source: Source) -> str:
    relative = source.relative
    if source.reader == NIFTI and relative.lower().endswith(".gz"):
        relative = relative[: -len(".gz")]
    return volume_name(relative, folder=os.path.isdir(source.path))
