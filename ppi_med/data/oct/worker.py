"""One source from reading to NIfTI: what runs in a worker process."""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ppi_med.data.oct.names import numbered_name, volume_name
from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.prepare import PreparedVolume, prepare_volume
from ppi_med.data.oct.registry import READERS, reader_for
from ppi_med.data.oct.sources import Source
from ppi_med.data.oct.volume import NotOctError, OctReadError, OctVolume
from ppi_med.io import write_json

RECORDS = ".conversion"
"""Folder of the records by which a re-run knows what is done."""


@dataclass(frozen=True)
class VolumeRecord:
    """What was learned of one written volume, labels apart.

    Attributes:
        volume_id: name of its files.
        shape: `(n_bscans, depth, width)` as written.
        spacing: mm.
        laterality: as the file or the user's option tells.
        subject_key: hash of the patient's id in the file, "" if it has none.
        reader: name of the reader.
        ordered_hash: of the pixels.
        unordered_hash: of the pixels, whatever the order of the B-scans.
        sizes: file written (relative to the data set) to its size in bytes.
        provenance: for each value, where it came from.
        warnings: sentences.
    """

    volume_id: str
    shape: tuple[int, int, int]
    spacing: tuple[float | None, float | None, float | None]
    laterality: str | None
    subject_key: str
    reader: str
    ordered_hash: str
    unordered_hash: str
    sizes: dict[str, int]
    provenance: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a worker hands back.

    Attributes:
        relative: the source.
        status: as in `report.Outcome`, but for duplicates, which only the whole run can see.
        reason: why it failed or is no OCT.
        sha256: of the source.
        volumes: the volumes written or kept.
        refused: why further volumes of the source were refused.
        base_id: as in `Task`.
    """

    relative: str
    status: Literal["ok", "kept", "failed", "ignored"]
    reason: str = ""
    sha256: str = ""
    volumes: tuple[VolumeRecord, ...] = ()
    refused: tuple[str, ...] = ()
    base_id: str = ""


@dataclass(frozen=True)
class Task:
    """What a worker gets.

    Attributes:
        source: to be read.
        base_id: name of its volumes; a second one gets `_2` and so on.
        output: the data set's folder.
        options: of reading.
        expect_slices: number of B-scans a volume must have, or `None`.
        slices_policy: what to do with another number.
        overwrite: convert again what an earlier run did.
        salt: goes into the hash of the patient's id.
    """

    source: Source
    base_id: str
    output: Path
    options: ReadOptions
    expect_slices: int | None = None
    slices_policy: Literal["refuse", "warn"] = "refuse"
    overwrite: bool = False
    salt: str = ""

    @property
    def record_path(self) -> Path:
        """Where the record of this source is kept."""
        return self.output / RECORDS / f"{self.base_id}.json"

    @property
    def options_hash(self) -> str:
        """Hash of everything that shapes the result."""
        text = f"{self.options.hash}|{self.expect_slices}|{self.slices_policy}|{self.salt}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent: a worker finishes the file it is at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def convert_source(task: Task) -> Result:
    """Read, check, prepare and write one source; never raises for what the source holds.

    Files are written under a temporary name and renamed; the record comes last, so that a run
    that was killed repeats exactly the sources without one.
    """
    source = task.source
    if source.fault:
        return Result(source.relative, "failed", source.fault)
    if not source.reader:
        reason = "the folder is empty." if source.path.is_dir() else "no reader for this file."
        return Result(source.relative, "failed", reason)
    sha256 = ""
    try:
        sha256 = source.sha256()
        kept = None if task.overwrite else read_record(task, sha256)
        if kept is not None:
            return kept
        _forget(task)
        records, refused = _write_all(task, _read(task))
    except NotOctError as error:
        return Result(source.relative, "ignored", error.reason, sha256)
    except OctReadError as error:
        return Result(source.relative, "failed", error.reason, sha256)
    except MemoryError:
        return Result(source.relative, "failed", "not enough memory to read it.", sha256)
    except OSError as error:
        reason = f"{type(error).__name__}: {error.strerror or error}."
        return Result(source.relative, "failed", reason, sha256)
    except (
        Exception
    ) as error:  # a reader's fault must not end the run: it is reported like the rest
        text = " ".join(str(error).split())[:200]
        reason = f"unexpected {type(error).__name__}: {text} (please report it)."
        return Result(source.relative, "failed", reason, sha256)
    body = {"sha256": sha256, "options": task.options_hash, "source": source.relative}
    done = {"volumes": [asdict(record) for record in records], "refused": refused}
    write_json(task.record_path, body | done)
    return Result(source.relative, "ok", "", sha256, records, refused, task.base_id)


def _forget(task: Task) -> None:
    """Remove what an earlier run made of this source: it was another file, or other options."""
    try:
        names = [
            name
            for item in json.loads(task.record_path.read_text(encoding="utf-8"))["volumes"]
            for name in item["sizes"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return
    task.record_path.unlink(missing_ok=True)
    for name in names:
        path = (task.output / name).resolve()
        if path.is_relative_to(task.output.resolve()):
            path.unlink(missing_ok=True)


def read_record(task: Task, sha256: str) -> Result | None:
    """Return what an earlier run did with this source, if it still holds.

    It holds if the source, the options and the sizes of the files written are the same.
    """
    try:
        body = json.loads(task.record_path.read_text(encoding="utf-8"))
        if body["sha256"] != sha256 or body["options"] != task.options_hash:
            return None
        records = tuple(_record(item) for item in body["volumes"])
        for record in records:
            for name, size in record.sizes.items():
                if (task.output / name).stat().st_size != size:
                    return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no record, or not a whole one: convert again
    refused = tuple(body.get("refused", ()))
    return Result(task.source.relative, "kept", "", sha256, records, refused, task.base_id)


def _record(item: dict[str, Any]) -> VolumeRecord:
    item = item | {name: tuple(item[name]) for name in ("shape", "spacing", "warnings")}
    return VolumeRecord(**item)


def _read(task: Task) -> list[OctVolume]:
    source = task.source
    if source.reader == "images":
        from ppi_med.data.oct.stack import read_pictures

        return [read_pictures(source.path, source.files, colour=task.options.colour)]
    volumes = READERS[source.reader].load()(source.path, task.options)
    if source.reader == "heidelberg-xml":
        _mention_unused(source, volumes)
    return volumes


def _mention_unused(source: Source, volumes: list[OctVolume]) -> None:
    """Say which pictures beside an export belong to none of its B-scans."""
    used = {path for volume in volumes for path in volume.meta["paths"]}
    unused = [path for path in source.files[1:] if path not in used]
    if unused:
        first = unused[0].relative_to(source.path.parent).as_posix()
        volumes[0].warnings.append(
            f"{len(unused)} pictures beside or below it are none of its B-scans, first {first}: "
            "passed over."
        )


def _write_all(
    task: Task, volumes: list[OctVolume]
) -> tuple[tuple[VolumeRecord, ...], tuple[str, ...]]:
    """Write the volumes of a source; return their records and why others were refused.

    Raises:
        OctReadError: if none is left.
    """
    records: list[VolumeRecord] = []
    refused: list[str] = []
    try:
        for number, volume in enumerate(volumes):
            try:
                records.append(_write(task, volume, number))
            except OctReadError as error:
                which = f"volume {number + 1} of {len(volumes)}: " if len(volumes) > 1 else ""
                refused.append(f"{which}{error.reason}")
        if not records:
            raise OctReadError(task.source.path, " ".join(refused))
    except Exception:  # a failed source leaves no volume behind
        for number in range(len(volumes)):
            for name in _file_names(numbered_name(task.base_id, number)):
                (task.output / name).unlink(missing_ok=True)
        raise
    return tuple(records), tuple(refused)


def _write(task: Task, volume: OctVolume, number: int) -> VolumeRecord:
    n_slices = volume.shape[0]
    if task.expect_slices not in (None, n_slices):
        text = f"{n_slices} B-scans, expected {task.expect_slices} (--expect-slices)."
        if task.slices_policy == "refuse":
            raise OctReadError(task.source.path, text)
        volume.warnings.append(text)
    prepared = prepare_volume(volume, task.options)
    volume_id = numbered_name(task.base_id, number)
    sizes = _write_files(task, prepared, volume_id)
    key = volume.subject_key
    hashed = hashlib.sha256(f"{task.salt}|{key}".encode()).hexdigest()[:12] if key else ""
    return VolumeRecord(
        volume_id=volume_id,
        shape=prepared.pixels.shape,
        spacing=prepared.spacing,
        laterality=prepared.laterality,
        subject_key=hashed,
        reader=volume.reader,
        ordered_hash=prepared.hash.ordered,
        unordered_hash=prepared.hash.unordered,
        sizes=sizes,
        provenance=prepared.provenance,
        warnings=tuple(prepared.warnings),
    )


def _file_names(volume_id: str) -> tuple[str, str]:
    """Return the paths of a volume and of its mask below the data set."""
    return f"volumes/{volume_id}.nii.gz", f"masks/{volume_id}.nii.gz"


def _write_files(task: Task, prepared: PreparedVolume, volume_id: str) -> dict[str, int]:
    name, mask_name = _file_names(volume_id)
    sizes = {}
    if prepared.mask is not None:
        write_nifti(task.output / mask_name, prepared.mask, prepared.spacing)
        sizes[mask_name] = (task.output / mask_name).stat().st_size
    else:
        (task.output / mask_name).unlink(missing_ok=True)
    write_nifti(task.output / name, prepared.pixels, prepared.spacing)
    sizes[name] = (task.output / name).stat().st_size
    return sizes


__all__ = ["Result", "Task", "VolumeRecord", "convert_source", "reader_for", "volume_name"]
