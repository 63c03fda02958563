"""From the workers' results to manifest rows: labels, subjects, sides, duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ppi_med.data.manifest import GENERAL_NAMES, ManifestRow
from ppi_med.data.oct.labels import Facts, FactsError
from ppi_med.data.oct.options import ConvertOptions, Policy
from ppi_med.data.oct.sources import eye_hint
from ppi_med.data.oct.volume import FROM_FILE
from ppi_med.data.oct.worker import RECORDS, Result, VolumeRecord
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
    """The outcome for one source.

    Attributes:
        source: path relative to the converted folder.
        status: "ok", "kept" (done by an earlier run), "failed", "duplicate" or "ignored".
        reason: a sentence, "" for the good ones.
        volume_ids: the volumes it gave.
        warnings: sentences.
        provenance: sources of its volumes' values, those of the file included.
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
        outcomes: one per source.
        notes: sentences on the whole run.
        interrupted: whether it was stopped before the end; then manifest and datalist are
            unchanged.
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
        """0 success, 1 something failed or nothing was found, 130 stopped by the user."""
        if self.interrupted:
            return 130
        return int(self.count("failed") > 0 or self.count("ok", "kept") == 0)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The sources that could not be converted."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    def table(self, limit: int = 40) -> str:
        """Return the report as text: faults first, then the counts.

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
            lines.append("Stopped before the end: run the same command again to continue.")
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
    """List each warning once with its sources: 500 files may share one."""
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


@dataclass
class _Seen:
    """The first volume with certain pixels."""

    relative: str
    row: ManifestRow


@dataclass
class _State:
    """What is known so far.

    Attributes:
        claims: for each patient's (hashed) id in the files, the user's subjects, each with its
            source and the origin of the statement.
        ordered: the first volume of each hash of pixels.
        unordered: the same whatever the order of the B-scans.
    """

    options: ConvertOptions
    extra: tuple[str, ...]
    claims: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    ordered: dict[str, _Seen] = field(default_factory=dict)
    unordered: dict[str, _Seen] = field(default_factory=dict)
    rows: list[ManifestRow] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


class _RefusedError(Exception):
    """A volume that is refused."""


def assemble(
    results: Sequence[Result], options: ConvertOptions, extra: Sequence[str] = ()
) -> tuple[list[ManifestRow], list[Outcome]]:
    """Join the volumes with the facts of table and pattern, in the order of the sources.

    Each volume of a source gets the facts of its own eye. A volume with the pixels of an earlier
    one is a duplicate and its files are removed; if subject, eye or label differ between the two
    it is a contradiction and fails.

    A volume without a subject gets that of another one with the same patient's id. An id with two
    subjects is a contradiction: its volumes fail, or with `subject_policy="warn"` keep what the
    user says of each.

    Returns:
        The manifest's rows and the outcomes.
    """
    state = _State(options, tuple(extra))
    for result in results:
        _note_subjects(state, result)
    for result in results:
        _add(state, result)
    return state.rows, state.outcomes


def _note_subjects(state: _State, result: Result) -> None:
    """Record the user's subjects for the volumes with a patient's id."""
    for record in result.volumes:
        try:
            facts = result.facts.of(record.number, result.eyes)
        except FactsError:
            continue
        if facts.subject and record.subject_key:
            origin = facts.origin.get("subject", "the user")
            claims = state.claims.setdefault(record.subject_key, {})
            claims.setdefault(facts.subject, (result.relative, origin))


def _add(state: _State, result: Result) -> None:
    if result.status in ("failed", "ignored"):
        state.outcomes.append(Outcome(result.relative, result.status, result.reason))
        return
    kept: list[ManifestRow] = []
    warnings: list[str] = []
    provenance: dict[str, str] = {}
    reasons = list(result.refused)
    lines: set[int] = set()
    duplicates = 0
    for record in result.volumes:
        try:
            facts = result.facts.of(record.number, result.eyes)
            lines.add(facts.line)
            row = _row(state, result, record, facts)
            duplicate = _duplicate(state, result.relative, record, row)
        except (FactsError, _RefusedError) as refusal:
            if str(refusal) not in reasons:
                reasons.append(str(refusal))
            _remove(state.options.output, record)
            continue
        if duplicate:
            duplicates += 1
            reasons.append(duplicate)
            _remove(state.options.output, record)
            continue
        again = state.unordered.setdefault(record.unordered_hash, _Seen(result.relative, row))
        if again.row is not row:
            text = f"has the B-scans of {again.relative} in another order."
            row = replace(row, warnings=(*row.warnings, text))
        state.ordered[record.ordered_hash] = _Seen(result.relative, row)
        kept.append(row)
        warnings += row.warnings
        provenance |= record.provenance | row.provenance
    if not reasons:
        warnings += _rows_left(result, lines)
    if len(kept) < len(result.volumes):
        # the record would let a re-run keep files that were removed here
        (state.options.output / RECORDS / f"{result.name}.json").unlink(missing_ok=True)
    status = result.status
    if reasons:
        status = "duplicate" if duplicates == len(reasons) else "failed"  # type: ignore[assignment]
    state.rows += kept
    state.outcomes.append(
        Outcome(
            result.relative,
            status,
            " ".join(reasons),
            tuple(row.volume_id for row in kept),
            tuple(warnings),
            provenance,
        )
    )


def _rows_left(result: Result, lines: set[int]) -> list[str]:
    """Return a sentence for each row of the table that names the source but none of its volumes."""
    rows = [*result.facts.rows, *(facts for _, facts in result.facts.numbered)]
    return [
        f"line {facts.line} of the table ({facts.eye or 'no eye'}) fits none of its volumes."
        for facts in rows
        if facts.line not in lines
    ]


def _row(state: _State, result: Result, record: VolumeRecord, facts: Facts) -> ManifestRow:
    provenance = {k: v for k, v in record.provenance.items() if not v.startswith(FROM_FILE)}
    provenance |= {name: facts.origin[name] for name in facts.origin if name != "eye"}
    if len(result.eyes) > 1:
        provenance["volume"] = f"rule: volume {record.number + 1} of {len(result.eyes)} in the file"
    warnings = list(record.warnings)
    policy = state.options.laterality_policy
    eye = _eye(result.relative, record, facts, policy, provenance, warnings)
    subject = _subject(state, record, facts, provenance, warnings)
    lateral, axial, between = record.spacing
    for name, value in (("subject", subject), ("eye", eye), ("label", facts.label)):
        if value in ("", None):
            warnings.append(f"{name} unknown.")
    return ManifestRow(
        volume_id=record.volume_id,
        subject=subject,
        visit=facts.visit,
        site=facts.site,
        label=facts.label,
        label_rule=facts.label_rule,
        n_slices=record.shape[0],
        rows_px=record.shape[1],
        columns_px=record.shape[2],
        spacing_columns_mm=lateral,
        spacing_rows_mm=axial,
        spacing_slices_mm=between,
        source_file=result.relative,
        source_sha256=result.sha256,
        reader=record.reader,
        provenance={GENERAL_NAMES.get(name, name): text for name, text in provenance.items()},
        warnings=tuple(warnings),
        extra={"eye": eye} | {name: facts.extra.get(name, "") for name in state.extra},
    )


def _subject(
    state: _State,
    record: VolumeRecord,
    facts: Facts,
    provenance: dict[str, str],
    warnings: list[str],
) -> str:
    """Return a volume's subject: by the user, else by the patient's id; "" if unknown."""
    key = record.subject_key
    claims = list(state.claims.get(key, {}).items())
    if len(claims) > 1:
        # first the statement about this volume, then the first that contradicts it
        claims.sort(key=lambda claim: claim[0] != facts.subject)
        one, other = (
            f"{origin} says {subject!r} of {relative}" for subject, (relative, origin) in claims[:2]
        )
        text = f"the files have one patient's id, but {one} and {other}"
        if state.options.subject_policy == "refuse":
            raise _RefusedError(
                f"{text}: whose is it? Correct one of them, or give --subject-policy warn if the "
                "id in the files stands for several patients."
            )
        warnings.append(f"{text}: {'kept as said' if facts.subject else 'subject left unknown'}.")
    if facts.subject or not key:
        return facts.subject
    if len(claims) > 1:
        provenance["subject"] = "rule: contradiction, left unknown"
        return ""
    if claims:
        subject, (relative, _) = claims[0]
        provenance["subject"] = f"rule: that of {relative}, with the same patient's id"
        return subject
    provenance["subject"] = "rule: hash of the patient's id in the file"
    return f"id-{key}"


def _eye(
    relative: str,
    record: VolumeRecord,
    facts: Facts,
    policy: Policy,
    provenance: dict[str, str],
    warnings: list[str],
) -> str:
    """Return the side that file and user agree on; "" if unknown."""
    own = record.laterality
    from_option = provenance.get("eye", "").startswith("user: --laterality")
    if own is not None and facts.eye is not None and own != facts.eye and not from_option:
        text = f"the file says {own}, {facts.origin.get('eye', 'the user')} says {facts.eye}"
        if policy == "refuse":
            raise _RefusedError(f"{text}: which eye is it? Correct one of them.")
        warnings.append(f"{text}: eye left unknown.")
        provenance["eye"] = "rule: contradiction, left unknown"
        return ""
    eye = facts.eye if facts.eye is not None and (own is None or from_option) else own
    if facts.eye is not None and eye == facts.eye and (own is None or from_option):
        provenance["eye"] = facts.origin.get("eye", "user")
    hint = eye_hint(relative)
    if eye and hint and hint != eye:
        warnings.append(f"the name contains {hint}, but the eye is {eye}: check it.")
    return eye or ""


def _duplicate(state: _State, relative: str, record: VolumeRecord, row: ManifestRow) -> str:
    """Return why a volume is a duplicate, "" if it is not one; other facts are refused."""
    first = state.ordered.get(record.ordered_hash)
    if first is None:
        return ""
    for name in ("subject", "eye", "visit", "label"):
        ours, theirs = (
            one.extra["eye"] if name == "eye" else getattr(one, name) for one in (row, first.row)
        )
        if ours not in ("", None) and theirs not in ("", None) and ours != theirs:
            raise _RefusedError(
                f"same pixels as {first.relative}, but {name} is {ours!r} here and {theirs!r} "
                "there: one of them is wrong."
            )
    return f"same pixels as {first.relative}."


def _remove(output: Path, record: VolumeRecord) -> None:
    for name in record.sizes:
        (output / name).unlink(missing_ok=True)
