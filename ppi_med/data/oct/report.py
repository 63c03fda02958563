"""What a conversion did, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ppi_med.io import write_json

FILE_NAME = "conversion_report.json"
Status = Literal["ok", "kept", "failed", "duplicate", "ignored"]
_MEANING: dict[Status, str] = {
    "ok": "converted",
    "kept": "converted before, unchanged",
    "failed": "failed",
    "duplicate": "skipped as duplicates",
    "ignored": "not OCT",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one source.

    Attributes:
        source: path relative to the converted folder.
        status: "ok", "kept" (done by an earlier run), "failed", "duplicate" or "ignored".
        reason: a sentence, "" for the good ones.
        volume_ids: the volumes it gave.
        warnings: sentences.
        provenance: where the values of its volumes came from, those of the file included.
    """

    source: str
    status: Status
    reason: str = ""
    volume_ids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    provenance: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionReport:
    """The outcomes of a run, in the order of the sources.

    Attributes:
        outcomes: one a source.
        notes: what concerns the run as a whole.
        interrupted: whether it was stopped before the end; manifest and datalist were then left
            as they were.
        output: the data set's folder.
    """

    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    output: Path = Path(".")

    def count(self, *status: Status) -> int:
        """Return how many sources ended in one of these ways."""
        return sum(outcome.status in status for outcome in self.outcomes)

    @property
    def exit_code(self) -> int:
        """0 all well, 1 something failed or nothing was found, 130 stopped by the user."""
        if self.interrupted:
            return 130
        return int(self.count("failed") > 0 or self.count("ok", "kept") == 0)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The sources that could not be converted."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    def table(self, limit: int = 40) -> str:
        """Return the report as text: what went wrong first, then the counts.

        Args:
            limit: warnings beyond this number are counted only; failures are all listed.
        """
        lines: list[str] = []
        width = max((len(outcome.source) for outcome in self.outcomes), default=0)
        for status in ("failed", "duplicate", "ignored"):
            for outcome in self.outcomes:
                if outcome.status == status:
                    lines.append(f"{status:<9}  {outcome.source:<{width}}  {outcome.reason}")
        lines += _grouped_warnings(self.outcomes, limit)
        lines += [f"note       {note}" for note in self.notes]
        counts = [
            f"{self.count(status)} {meaning}"
            for status, meaning in _MEANING.items()
            if self.count(status)
        ]
        total = len(self.outcomes)
        lines.append(f"{total} source{'s' * (total != 1)}: {', '.join(counts) or 'nothing found'}.")
        if self.interrupted:
            lines.append("Stopped before the end: run the same command again to go on.")
        return "\n".join(lines)

    def write(self, path: str | Path) -> None:
        """Write the report as JSON. It holds no times: equal runs give equal files."""
        body: dict[str, Any] = {
            "interrupted": self.interrupted,
            "exit_code": self.exit_code,
            "counts": {status: self.count(status) for status in _MEANING},
            "notes": list(self.notes),
            "sources": [asdict(outcome) for outcome in self.outcomes],
        }
        write_json(path, body)


def _grouped_warnings(outcomes: Sequence[Outcome], limit: int) -> list[str]:
    """List each warning once with the sources it concerns: 500 files may share one."""
    sources: dict[str, list[str]] = {}
    for outcome in outcomes:
        for warning in outcome.warnings:
            sources.setdefault(warning, []).append(outcome.source)
    lines = []
    for warning, names in list(sources.items())[:limit]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        lines.append(f"warning    {names[0]}{more}: {warning}")
    if len(sources) > limit:
        lines.append(f"warning    {len(sources) - limit} more: see {FILE_NAME}")
    return lines
