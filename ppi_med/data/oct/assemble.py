"""From the workers' results to manifest rows: labels, subjects, sides, duplicates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ppi_med.data.manifest import GENERAL_NAMES, ManifestRow
from ppi_med.data.oct.labels import Facts
from ppi_med.data.oct.options import Policy
from ppi_med.data.oct.patients import Patients
from ppi_med.data.oct.report import Outcome
from ppi_med.data.oct.volume import FROM_FILE, normal_laterality
from ppi_med.data.oct.worker import RECORDS, Result, VolumeRecord


@dataclass
class _Seen:
    """The first volume with some pixels."""

    relative: str
    row: ManifestRow


@dataclass
class _State:
    patients: Patients
    eye_policy: Policy
    subject_policy: Policy
    ordered: dict[str, _Seen] = field(default_factory=dict)
    unordered: dict[str, _Seen] = field(default_factory=dict)
    rows: list[ManifestRow] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


class _RefusedError(Exception):
    """A volume that is not taken into the data set."""


def assemble(
    results: Sequence[Result],
    facts: Iterable[Facts],
    output: Path,
    extra: Sequence[str] = (),
    *,
    laterality_policy: Policy = "refuse",
    subject_policy: Policy = "refuse",
) -> tuple[list[ManifestRow], list[Outcome]]:
    """Join the results with the facts of the same sources, in their order.

    A volume with the pixels of an earlier one is a duplicate and its files are removed; if subject,
    eye or label differ between the two it is a contradiction and fails.

    A source without a subject gets that of another one with the same patient's id. An id with two
    subjects is a contradiction: its volumes fail, or with `subject_policy="warn"` keep what the
    user says of each.

    Returns:
        The manifest's rows and the outcomes.
    """
    told = list(zip(results, facts, strict=False))  # fewer results where the run was stopped
    state = _State(Patients(told), laterality_policy, subject_policy)
    for result, known in told:
        _add(state, result, known, extra, output)
    return state.rows, state.outcomes


def _add(
    state: _State,
    result: Result,
    facts: Facts,
    extra: Sequence[str],
    output: Path,
) -> None:
    if result.status in ("failed", "ignored"):
        state.outcomes.append(Outcome(result.relative, result.status, result.reason))
        return
    kept: list[ManifestRow] = []
    warnings: list[str] = []
    provenance: dict[str, str] = {}
    reasons = list(result.refused)
    duplicates = 0
    for record in result.volumes:
        try:
            row = _row(state, result, record, facts, extra)
            duplicate = _duplicate(state, result.relative, record, row)
        except _RefusedError as refusal:
            reasons.append(str(refusal))
            _remove(output, record)
            continue
        if duplicate:
            duplicates += 1
            reasons.append(duplicate)
            _remove(output, record)
            continue
        again = state.unordered.setdefault(record.unordered_hash, _Seen(result.relative, row))
        if again.row is not row:
            text = f"has the B-scans of {again.relative} in another order."
            row = _with_warning(row, text)
        state.ordered[record.ordered_hash] = _Seen(result.relative, row)
        kept.append(row)
        warnings += row.warnings
        provenance |= record.provenance | row.provenance
    if len(kept) < len(result.volumes):
        # the record would let a re-run keep files that were removed here
        (output / RECORDS / f"{result.base_id}.json").unlink(missing_ok=True)
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


def _row(
    state: _State,
    result: Result,
    record: VolumeRecord,
    facts: Facts,
    extra: Sequence[str],
) -> ManifestRow:
    provenance = {k: v for k, v in record.provenance.items() if not v.startswith(FROM_FILE)}
    provenance |= {name: facts.origin[name] for name in facts.origin if name != "eye"}
    warnings = list(record.warnings)
    eye = _eye(result.relative, record, facts, state.eye_policy, provenance, warnings)
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
        extra={"eye": eye} | {name: facts.extra.get(name, "") for name in extra},
    )


def _subject(
    state: _State,
    record: VolumeRecord,
    facts: Facts,
    provenance: dict[str, str],
    warnings: list[str],
) -> str:
    """Return whose volume it is: by the user, else by the patient's id; "" where left open."""
    key = record.subject_key
    told = state.patients.subjects(key)
    if len(told) > 1:
        # first what is said of this volume, then the first that contradicts it
        told.sort(key=lambda statement: statement.subject != facts.subject)
        text = f"the files have one patient's id, but {told[0]} and {told[1]}"
        if state.subject_policy == "refuse":
            raise _RefusedError(
                f"{text}: whose is it? Correct one of them, or give --subject-policy warn if the "
                "id in the files stands for several patients."
            )
        warnings.append(f"{text}: {'kept as said' if facts.subject else 'subject left unknown'}.")
    if facts.subject or not key:
        return facts.subject
    if len(told) > 1:
        provenance["subject"] = "rule: contradiction, left unknown"
        return ""
    if told:
        provenance["subject"] = f"rule: that of {told[0].relative}, with the same patient's id"
        return told[0].subject
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
    """Return the side that file and user agree on; "" where unknown or left open."""
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
    hint = _hint(relative)
    if eye and hint and hint != eye:
        warnings.append(f"the name contains {hint}, but the eye is {eye}: check it.")
    return eye or ""


def _hint(relative: str) -> str | None:
    """Return the side that stands alone in a file name; a hint only, never the value."""
    name = relative.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    words = {word for word in re.split(r"[^A-Za-z]+", name) if word.upper() in ("OD", "OS")}
    sides = {normal_laterality(word) for word in words}
    return sides.pop() if len(sides) == 1 else None


def _duplicate(state: _State, relative: str, record: VolumeRecord, row: ManifestRow) -> str:
    """Return why a volume is a duplicate, "" if it is none.

    Raises:
        _RefusedError: if the earlier copy tells something else.
    """
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


def _with_warning(row: ManifestRow, text: str) -> ManifestRow:
    from dataclasses import replace

    return replace(row, warnings=(*row.warnings, text))


def _remove(output: Path, record: VolumeRecord) -> None:
    for name in record.sizes:
        (output / name).unlink(missing_ok=True)
