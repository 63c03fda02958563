"""What is written for a volume: `result.json`, `saliency.nii.gz`, `report.html`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ppi_med.data.oct.fit import describe_fit
from ppi_med.inference.ga import GaResult
from ppi_med.inference.identity import software_versions
from ppi_med.inference.nifti import write_map
from ppi_med.io import write_json

RESULT = "result.json"
SALIENCY = "saliency.nii.gz"
REPORT = "report.html"
FORMAT = 1
"""Of `result.json`; counted up whenever a key changes its meaning."""


def write_outputs(
    result: GaResult,
    folder: str | Path,
    *,
    report: bool = True,
    notes: tuple[str, ...] = (),
    checkpoint: str = "",
    created: datetime | None = None,
) -> list[Path]:
    """Write everything about one volume into a folder, each file atomically.

    Args:
        result: of `infer_volume`.
        folder: made if it is not there; files of an earlier run are replaced.
        report: write the page too.
        notes: sentences for the reader of the page, such as what the network was trained on.
        checkpoint: name of the weights' file.
        created: time of the result; default now.

    Returns:
        The files. `result.json` is written last: where it is, the others are too.
    """
    folder = Path(folder)
    facts = result_facts(result, checkpoint=checkpoint, created=created, notes=notes)
    written: list[Path] = []
    if result.saliency is not None:
        written.append(write_map(folder / SALIENCY, result.saliency, result.volume.spacing))
    if report:
        from ppi_med.inference.page import report_content
        from ppi_med.inference.report import write_report

        written.append(write_report(folder / REPORT, report_content(result, facts)))
    write_json(folder / RESULT, facts)
    return [*written, folder / RESULT]


def result_facts(
    result: GaResult,
    *,
    checkpoint: str = "",
    created: datetime | None = None,
    notes: tuple[str, ...] = (),
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
