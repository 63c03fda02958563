"""What an extraction did: counts, failures by name, the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _height(z_mm: float | None) -> str:
    return "" if z_mm is None else f"z={z_mm:g}"


@dataclass
class Extraction:
    """What a run did.

    Attributes:
        output: the data set's folder.
        scans: status and number.
        patches: cut or kept.
        opened: files opened for their pixels, those of kept scans included.
        contour_slices: slices that carry a contour in the scans found.
        contours: contours on the slices that are there.
        failures: patient, nodule, position, reason.
        notes: sentences.
        interrupted: stopped by the user: manifest, datalist and report are as they were.
    """

    output: Path
    scans: dict[str, int] = field(default_factory=lambda: {"ok": 0, "kept": 0, "failed": 0})
    patches: int = 0
    opened: int = 0
    contour_slices: int = 0
    contours: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    def fail(self, patient: str, reason: str) -> None:
        """Note that a series gives nothing."""
        self.failures.append({"patient": patient, "nodule": "", "z_mm": None, "reason": reason})

    @property
    def exit_code(self) -> int:
        """0 all well; 1 something is missing, failed, or nothing was found; 130 stopped."""
        if self.interrupted:
            return 130
        return int(bool(self.failures) or self.patches == 0)

    def text(self) -> str:
        """Return the outcome as lines, failures first."""
        lines = [
            " ".join(["failed ", f["patient"], f["nodule"], _height(f["z_mm"]), f["reason"]])
            for f in self.failures[:40]
        ]
        if len(self.failures) > 40:
            lines.append(f"failed  {len(self.failures) - 40} more: see report.html")
        lines += [f"note    {note}" for note in self.notes]
        lines.append(
            f"{sum(self.scans.values())} scans ({self.scans['kept']} kept): {self.patches} patches "
            f"in {self.output}; {self.opened} files opened for {self.contour_slices} slices with "
            "a contour."
        )
        return "\n".join(lines)
