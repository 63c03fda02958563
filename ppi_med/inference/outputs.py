"""The files of a volume: `result.json`, `saliency.nii.gz`, `report.html`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

import ppi_med
from ppi_med.data.oct.fit import describe_fit, spread_mask
from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.volume import FROM_FILE, Spacing
from ppi_med.inference.ga import GaResult
from ppi_med.inference.report import ReportContent
from ppi_med.io import atomic_path, write_json
from ppi_med.places import Account

_PACKAGES = ("torch", "monai", "numpy")


def software_versions() -> dict[str, str]:
    """Return the versions of this package and of those that affect the numbers."""
    versions = {"ppi_med": ppi_med.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def write_map(path: str | Path, saliency: NDArray[np.float32], spacing: Spacing) -> Path:
    """Write a map so that it covers its volume in every viewer.

    Axes, affine, units and form codes are those of `write_nifti` for a volume of this spacing: if a
    distance is unknown, the header says so.

    Args:
        path: ends in `.nii.gz` or `.nii`.
        saliency: float32, `(S, H, W)`.
        spacing: mm, of the volume.

    Returns:
        The path.

    Raises:
        ValueError: for a map of other axes or type.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "map.nii.gz"
        >>> write_map(path, np.zeros((2, 4, 3), np.float32), Spacing()).name
        'map.nii.gz'
    """
    nib: Any = import_module("nibabel")
    if saliency.ndim != 3 or saliency.dtype != np.float32:
        raise ValueError(
            f"the map is {saliency.dtype} {saliency.shape}, expected float32 (S, H, W)."
        )
    path = Path(path)
    with atomic_path(path) as temporary:
        # The volume's own writer sets the geometry, so that the two cannot differ.
        write_nifti(temporary, np.zeros(saliency.shape, np.uint8), spacing)
        header = nib.load(temporary).header.copy()
        header.set_data_dtype(np.float32)
        header.set_slope_inter(1, 0)
        image = nib.Nifti1Image(saliency.transpose(2, 1, 0), None, header)
        nib.save(image, temporary)
    return path


FINDING = "geographic atrophy"
_UNKNOWN = "unknown"
_AXES = (("lateral", "A-scans"), ("axial", "depth"), ("between", "between B-scans"))


def report_content(
    result: GaResult, facts: Mapping[str, Any], account: Account | None = None
) -> ReportContent:
    """Describe a result.

    Args:
        result: result of a volume.
        facts: the content of its `result.json`.
        account: the shortcut that the training found, and what it did about it.
    """
    volume = result.volume
    place = own_place(result, account)
    return ReportContent(
        finding=FINDING,
        source=volume.source or volume.volume_id,
        probability=result.probability,
        pixels=volume.pixels,
        weights=result.slice_weights,
        slice_probabilities=result.slice_probabilities,
        saliency=result.saliency,
        spacing_mm=volume.spacing,
        facts=_table(result, facts),
        warnings=result.warnings,
        notes=tuple(facts["notes"]),
        map_grid=result.network_size,
        map_caption=_map_caption(result),
        shortcut="" if account is None else account.sentence,
        place=place,
    )


def own_place(result: GaResult, account: Account | None) -> NDArray[np.bool_] | None:
    """Return where a shortcut was in training, on the volume's own grid, bool `(H, W)`.

    `None` without a place, or if the network saw the volume in another size than then.
    """
    mask = None if account is None else account.mask
    if mask is None or tuple(mask.shape) != tuple(result.network_size):
        return None
    depth, width = result.volume.shape[1:]
    return np.asarray(spread_mask(mask, (depth, width)).numpy())


def _table(result: GaResult, facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    volume, network = result.volume, facts["network"]
    slices, depth, width = volume.shape
    created = datetime.fromisoformat(facts["created"])
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    rows = [
        ("File", volume.source or _UNKNOWN),
        ("Read as", volume.reader or _UNKNOWN),
        ("Size", f"{slices} B-scans of {depth} x {width} pixels (depth x A-scans)"),
        ("Spacing", _spacing(volume.spacing)),
        ("Eye", volume.laterality or _UNKNOWN),
        ("File's SHA-256", volume.source_sha256 or _UNKNOWN),
        ("Logit", f"{result.logit:.4f}"),
        ("Network", network["class"]),
        ("Weights file", network["checkpoint"] or "none"),
        ("Weights' SHA-256", network["sha256"]),
        ("Seen by the network", network["input"]),
        ("Map", result.network.method or "none"),
        ("Made", f"{created:%Y-%m-%d %H:%M} UTC"),
        ("Software", versions),
    ]
    given = {k: v for k, v in sorted(volume.provenance.items()) if not v.startswith(FROM_FILE)}
    rows += [(f"Origin of {name}", text) for name, text in given.items()]
    return tuple(rows)


def _spacing(spacing: tuple[float | None, ...]) -> str:
    parts = []
    for value, (_, words) in zip(spacing, _AXES, strict=True):
        parts.append(f"{words} {_UNKNOWN if value is None else f'{value:.6g} mm'}")
    return ", ".join(parts)


def _map_caption(result: GaResult) -> str:
    if result.saliency is None:
        return ""
    depth, width = result.network_size
    return (
        f"It was computed by {result.network.method} on the {depth} x {width} pixels that the "
        "network saw of each B-scan."
    )


RESULT = "result.json"
SALIENCY = "saliency.nii.gz"
REPORT = "report.html"
FORMAT = 1
"""Version of `result.json`; it rises when a key changes its meaning."""


def write_outputs(
    result: GaResult,
    folder: str | Path,
    *,
    report: bool = True,
    notes: tuple[str, ...] = (),
    checkpoint: str = "",
    created: datetime | None = None,
    account: Account | None = None,
) -> list[Path]:
    """Write everything about one volume into a folder, each file atomically.

    Args:
        result: result of `infer_volume`.
        folder: output folder, made if missing; files of an earlier run are replaced.
        report: write the page too.
        notes: sentences for the reader of the page, such as what the network was trained on.
        checkpoint: name of the weights' file.
        created: time of the result; default now.
        account: the shortcut that the training found, and what it did about it.

    Returns:
        The files. `result.json` is written last: if it is there, so are the others.
    """
    folder = Path(folder)
    facts = result_facts(
        result, checkpoint=checkpoint, created=created, notes=notes, account=account
    )
    written: list[Path] = []
    if result.saliency is not None:
        written.append(write_map(folder / SALIENCY, result.saliency, result.volume.spacing))
    if report:
        from ppi_med.inference.report import write_report

        written.append(write_report(folder / REPORT, report_content(result, facts, account)))
    write_json(folder / RESULT, facts)
    return [*written, folder / RESULT]


def result_facts(
    result: GaResult,
    *,
    checkpoint: str = "",
    created: datetime | None = None,
    notes: tuple[str, ...] = (),
    account: Account | None = None,
) -> dict[str, Any]:
    """Return the content of `result.json`, JSON values only; unknown ones are `None`."""
    volume = result.volume
    slices, depth, width = volume.shape
    created = created or datetime.now(UTC)
    return {
        "format": FORMAT,
        "volume_id": volume.volume_id,
        "probability": result.probability,
        "logit": result.logit,
        "source": {
            "file": volume.source,
            "sha256": volume.source_sha256 or None,
            "reader": volume.reader,
        },
        "shape": {"slices": slices, "depth": depth, "width": width},
        "spacing_mm": dict(volume.spacing._asdict()),
        "laterality": volume.laterality,
        "network": {
            "class": result.network.name,
            "sha256": result.network.sha256,
            "checkpoint": checkpoint or None,
            "input": describe_fit((depth, width), result.network_size),
        },
        "saliency": _saliency_facts(result),
        "slices": _slice_facts(result),
        "likeness": result.likeness.facts(),
        "shortcut": None if account is None else _shortcut_facts(result, account),
        "warnings": list(result.warnings),
        "notes": list(notes),
        "provenance": dict(volume.provenance),
        "versions": software_versions(),
        "created": created.astimezone(UTC).isoformat(timespec="seconds"),
    }


def _saliency_facts(result: GaResult) -> dict[str, Any] | None:
    if result.saliency is None:
        return None
    return {
        "file": SALIENCY,
        "method": result.network.method,
        "explains": "sum of slice weight x slice logit",
        "network_grid": {"depth": result.network_size[0], "width": result.network_size[1]},
        "sum": float(result.saliency.sum(dtype="float64")),
    }


def _shortcut_facts(result: GaResult, account: Account) -> dict[str, Any]:
    """Return what the training did about a shortcut; its place as boxes of the volume's pixels."""
    place = own_place(result, account)
    boxes = [] if place is None else find_objects(label(place)[0])
    return {
        "sentence": account.sentence,
        "found": account.kind,
        "method": account.method or "plain",
        "j_net": account.j_net,
        "j": list(account.j),
        "share": account.share,
        "boxes": [
            {"rows": [rows.start, rows.stop], "columns": [columns.start, columns.stop]}
            for rows, columns in boxes
        ],
    }


def _slice_facts(result: GaResult) -> list[dict[str, Any]]:
    columns = (
        result.positions.tolist(),
        result.slice_weights.tolist(),
        result.slice_logits.tolist(),
        result.slice_probabilities.tolist(),
    )
    return [
        {"number": number, "position": position, "weight": w, "logit": z, "probability": p}
        for number, (position, w, z, p) in enumerate(zip(*columns, strict=True), start=1)
    ]
