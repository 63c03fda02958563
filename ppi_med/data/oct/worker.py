"""One source from reading to NIfTI: what runs in a worker process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ppi_med.data.oct.labels import SourceFacts
from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.options import ConvertOptions
from ppi_med.data.oct.prepare import PreparedVolume, prepare_volume
from ppi_med.data.oct.registry import Source, read_source
from ppi_med.data.oct.sources import numbered_name
from ppi_med.data.oct.volume import NotOctError, OctReadError, OctVolume, fault_of
from ppi_med.errors import UsageError
from ppi_med.io import write_json

RECORDS = ".conversion"
"""Folder of the records by which a re-run knows what is done."""


@dataclass(frozen=True)
class VolumeRecord:
    """What was learned of one written volume, labels apart.

    Attributes:
        volume_id: name of its files.
        number: number of the volume in its source, counted from 0.
        shape: `(n_bscans, depth, width)` as written.
        spacing: mm.
        laterality: as the file or the user's option says.
        subject_key: hash of the patient's id in the file, "" if it has none.
        reader: name of the reader.
        ordered_hash: hash of the pixels.
        unordered_hash: hash of the pixels, whatever the order of the B-scans.
        sizes: file written (relative to the data set) to its size in bytes.
        provenance: for each value, where it came from.
        warnings: sentences.
    """

    volume_id: str
    number: int
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
        sha256: SHA-256 hash of the source.
        volumes: the volumes written or kept.
        refused: why further volumes of the source were refused.
        eyes: eyes of all volumes of the source, refused ones too.
        name: as in `Task`.
        facts: as in `Task`.
    """

    relative: str
    status: Literal["ok", "kept", "failed", "ignored"]
    reason: str = ""
    sha256: str = ""
    volumes: tuple[VolumeRecord, ...] = ()
    refused: tuple[str, ...] = ()
    eyes: tuple[str | None, ...] = ()
    name: str = ""
    facts: SourceFacts = SourceFacts()


@dataclass(frozen=True)
class Task:
    """One source of a conversion.

    Attributes:
        source: to be read.
        name: name of its volumes; a second one gets `_2` and so on.
        facts: what table and pattern say of it; the result brings them back.
        options: options of the conversion, the same for all tasks.
    """

    source: Source
    name: str
    facts: SourceFacts
    options: ConvertOptions

    @property
    def record_path(self) -> Path:
        """Where the record of this source is kept."""
        return self.options.output / RECORDS / f"{self.name}.json"

    def result(
        self, status: Literal["ok", "kept", "failed", "ignored"], reason: str = "", **more: Any
    ) -> Result:
        """Return what became of it."""
        return Result(
            self.source.relative, status, reason, name=self.name, facts=self.facts, **more
        )


def convert_source(task: Task) -> Result:
    """Read, check, prepare and write one source; never raises for what the source holds.

    Files are written under a temporary name and renamed; the record comes last, so that a run
    that was killed repeats exactly the sources without one.

    Raises:
        OutputError: if the output cannot be written, which is no fault of the source.
    """
    source = task.source
    if source.fault:
        return task.result("failed", source.fault)
    if not source.reader:
        reason = "the folder is empty." if source.path.is_dir() else "no reader for this file."
        return task.result("failed", reason)
    sha256 = ""
    try:
        sha256 = source.sha256()
        kept = None if task.options.overwrite else read_record(task, sha256)
        if kept is not None:
            return kept
        _forget(task)
        volumes = read_source(source, task.options.read)
        eyes = tuple(volume.laterality or task.options.read.laterality for volume in volumes)
        records, refused = _write_all(task, volumes)
    except NotOctError as error:
        return task.result("ignored", error.reason, sha256=sha256)
    except OutputError:
        raise
    except BaseException as error:  # one file's fault must not end the run: it is reported
        reason = fault_of(error)
        if not isinstance(error, (OctReadError, OSError, MemoryError)):
            reason = f"unexpected {reason} (please report it)."
        return task.result("failed", reason, sha256=sha256)
    body = {"sha256": sha256, "options": task.options.hash, "source": source.relative}
    done = {"volumes": [asdict(record) for record in records], "refused": refused, "eyes": eyes}
    with _written(task):
        write_json(task.record_path, body | done)
    return task.result("ok", sha256=sha256, volumes=records, refused=refused, eyes=eyes)


class OutputError(UsageError):
    """An output that the system does not let be written; the run ends."""


@contextmanager
def _written(task: Task) -> Iterator[None]:
    """Tell an error of the output from one of the source."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{task.options.output} cannot be written ({error.strerror or error}): what is done "
            "stays; put that right and run the same command again."
        ) from error


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
        path = (task.options.output / name).resolve()
        if path.is_relative_to(task.options.output.resolve()):
            path.unlink(missing_ok=True)


def read_record(task: Task, sha256: str) -> Result | None:
    """Return what an earlier run did with this source, if it still holds.

    It holds if the source, the options and the sizes of the files written are the same.
    """
    try:
        body = json.loads(task.record_path.read_text(encoding="utf-8"))
        if body["sha256"] != sha256 or body["options"] != task.options.hash:
            return None
        records = tuple(_record(item) for item in body["volumes"])
        for record in records:
            for name, size in record.sizes.items():
                if (task.options.output / name).stat().st_size != size:
                    return None
        refused, eyes = tuple(body["refused"]), tuple(body["eyes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no record, or not a whole one: convert again
    return task.result("kept", sha256=sha256, volumes=records, refused=refused, eyes=eyes)


def _record(item: dict[str, Any]) -> VolumeRecord:
    item = item | {name: tuple(item[name]) for name in ("shape", "spacing", "warnings")}
    return VolumeRecord(**item)


def _write_all(
    task: Task, volumes: list[OctVolume]
) -> tuple[tuple[VolumeRecord, ...], tuple[str, ...]]:
    """Write the volumes of a source, of which one must be left; return records and refusals."""
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
    except BaseException:  # a failed source leaves no volume behind
        for number in range(len(volumes)):
            for name in _file_names(numbered_name(task.name, number)):
                (task.options.output / name).unlink(missing_ok=True)
        raise
    return tuple(records), tuple(refused)


def _write(task: Task, volume: OctVolume, number: int) -> VolumeRecord:
    options = task.options
    n_slices = volume.shape[0]
    if options.expect_slices not in (None, n_slices):
        text = f"{n_slices} B-scans, expected {options.expect_slices} (--expect-slices)."
        if options.slices_policy == "refuse":
            raise OctReadError(task.source.path, text)
        volume.warnings.append(text)
    prepared = prepare_volume(volume, options.read)
    volume_id = numbered_name(task.name, number)
    with _written(task):
        sizes = _write_files(options.output, prepared, volume_id)
    key = volume.subject_key
    hashed = hashlib.sha256(f"{options.salt}|{key}".encode()).hexdigest()[:12] if key else ""
    return VolumeRecord(
        volume_id=volume_id,
        number=number,
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


def _write_files(output: Path, prepared: PreparedVolume, volume_id: str) -> dict[str, int]:
    name, mask_name = _file_names(volume_id)
    sizes = {}
    if prepared.mask is not None:
        write_nifti(output / mask_name, prepared.mask, prepared.spacing)
        sizes[mask_name] = (output / mask_name).stat().st_size
    else:
        (output / mask_name).unlink(missing_ok=True)
    write_nifti(output / name, prepared.pixels, prepared.spacing)
    sizes[name] = (output / name).stat().st_size
    return sizes
