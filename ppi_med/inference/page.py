"""A result as the content of a report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ppi_med.data.oct.volume import FROM_FILE
from ppi_med.inference.ga import GaResult
from ppi_med.inference.report import ReportContent

FINDING = "geographic atrophy"
_UNKNOWN = "unknown"
_AXES = (("lateral", "A-scans"), ("axial", "depth"), ("between", "between B-scans"))


def report_content(result: GaResult, facts: Mapping[str, Any]) -> ReportContent:
    """Put a result into words.

    Args:
        result: of a volume.
        facts: the content of its `result.json`.
    """
    volume = result.volume
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
    )


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
