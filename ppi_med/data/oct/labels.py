"""Facts that files do not state: subject, eye, visit, site and label, from a table or a pattern."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ppi_med.data.manifest import COLUMNS, GENERAL_NAMES
from ppi_med.data.oct.registry import READERS, Source
from ppi_med.data.oct.volume import Laterality, normal_laterality
from ppi_med.data.spreadsheet import WINDOWS, is_nothing, name_of, read_sheet

FIELDS = ("subject", "eye", "visit", "site", "label")
RESERVED = ("file", *FIELDS, "label_rule")
_TAKEN = {*COLUMNS, *GENERAL_NAMES, "image", "lesion"} - {*RESERVED}
"""Names that the conversion itself writes to the manifest or the datalist."""
_NUMBER = re.compile(r"(.+)_([2-9]|[1-9]\d+)")


@dataclass(frozen=True)
class Facts:
    """The facts of one volume apart from its content; "" and `None` are unknown.

    Attributes:
        subject: the patient.
        eye: the side.
        visit: its name or date.
        site: clinic or device.
        label: class index.
        label_rule: rule of the label.
        extra: further columns.
        origin: field name to the source of its value.
        line: line of the table, 0 if they are not from a table.
    """

    subject: str = ""
    eye: Laterality | None = None
    visit: str = ""
    site: str = ""
    label: int | None = None
    label_rule: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    line: int = 0


class FactsError(ValueError):
    """Facts that cannot be given to one volume for certain."""


@dataclass(frozen=True)
class SourceFacts:
    """The facts of table and pattern about a source, which may hold several volumes.

    Attributes:
        rows: the table's rows for it; several if each is for one eye.
        numbered: rows of single volumes by their number, counted from 0: `a_2.e2e` is the second
            of `a.e2e`.
        pattern: the facts that the pattern finds in its path.
    """

    rows: tuple[Facts, ...] = ()
    numbered: tuple[tuple[int, Facts], ...] = ()
    pattern: Facts | None = None

    def of(self, number: int, eyes: Sequence[str | None]) -> Facts:
        """Return the facts of one volume; those of another eye are never among them.

        Args:
            number: number of the volume, counted from 0.
            eyes: eyes of all volumes of the source, as the file states them.

        Raises:
            FactsError: if several volumes could be meant.
        """
        if self.numbered:
            rows = tuple(facts for n, facts in self.numbered if n == number)
            rows = rows or (self.rows if number == 0 else ())
            return merge(_one(rows, eyes[number : number + 1], 0), self._found(number, eyes))
        return merge(_one(self.rows, eyes, number), self._found(number, eyes))

    def _found(self, number: int, eyes: Sequence[str | None]) -> Facts | None:
        return _one(() if self.pattern is None else (self.pattern,), eyes, number)


def _one(rows: Sequence[Facts], eyes: Sequence[str | None], number: int) -> Facts | None:
    """Return the row of a volume."""
    eye = eyes[number]
    if len(rows) == 1 and len(eyes) == 1:
        return rows[0]
    sided = [facts for facts in rows if facts.eye is not None]
    if sided and eye is None:
        raise FactsError(
            f"{_where(sided[0])} says what is true of one eye ({sided[0].eye}), and the file does "
            f"not say which eye volume {number + 1} of {len(eyes)} is: give each volume a row, "
            "named like its file in volumes/, or an eye by --laterality."
        )
    for facts in rows:
        if facts.eye is not None and facts.eye == eye:
            return facts
    general = next((facts for facts in rows if facts.eye is None), None)
    if general is None or general.label is None or (None not in eyes and len({*eyes}) == 1):
        return general
    raise FactsError(
        f"{_where(general)} has one label for {len(eyes)} volumes "
        f"({', '.join(e or 'eye unknown' for e in eyes)}): give each eye a row of its own, with a "
        "column 'eye'."
    )


def _where(facts: Facts) -> str:
    table = facts.origin.get("label", facts.origin.get("subject", "the table"))
    return f"{table.removeprefix('user: ')}{f', line {facts.line}' if facts.line else ''}"


class Labels:
    """A table with a column `file` and any of subject, eye, visit, site, label, label_rule.

    `file` is a path relative to the converted folder; a bare file name is enough if it is unique.
    In a file with several volumes each eye has a row, or each volume (`a_2.e2e` for the second of
    `a.e2e`). Columns of other names are kept; one that the conversion itself writes, such as
    `volume_id`, is refused.

    Tables of spreadsheets are read as they are: UTF-8, UTF-16 or Windows-1252, separated by commas,
    semicolons or tabs, with empty rows, and with accents as separate letters.

    Raises:
        FileNotFoundError: if there is no such table.
        ValueError: naming table and line: no column `file`, a column of a name that is taken or
            occurs twice, a file that occurs twice, a label that is not a whole number, an eye that
            is neither OD nor OS.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"No labels table {self.path}.")
        self.columns: tuple[str, ...] = ()
        self.notes: list[str] = []
        self._rows: dict[str, list[Facts]] = {}
        self._read()

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Unknown columns."""
        return tuple(name for name in self.columns if name not in RESERVED)

    def match(self, sources: Sequence[Source]) -> list[SourceFacts | ValueError]:
        """Return the rows of each source, or why they contradict each other.

        Raises:
            ValueError: if a bare name fits several sources, or no row fits any.
        """
        keys = [[key for key in _names(source) if key in self._rows] for source in sources]
        self._check_bare_names(sources, keys)
        used = {key for own in keys for key in own}
        numbered = self._numbered(sources, used)
        left = [name for name in self._rows if name not in used]
        if sources and len(left) == len(self._rows):
            raise ValueError(self._nothing_fits(sources))
        if left:
            self.notes.append(
                f"{self.path.name}: {len(left)} rows fit no source, first {left[0]!r}."
            )
        found: list[SourceFacts | ValueError] = []
        for source, own in zip(sources, keys, strict=True):
            rows = [row for key in own for row in self._rows[key]]
            if len(own) > 1 and len({_said(row) for row in rows}) > 1:
                found.append(ValueError(f"{self.path.name} has several rows for it: {own[:3]}."))
                continue
            found.append(
                SourceFacts(
                    tuple(rows[:1] if len(own) > 1 else rows),
                    tuple(numbered.get(source.relative, ())),
                )
            )
        return found

    def _numbered(
        self, sources: Sequence[Source], used: set[str]
    ) -> dict[str, list[tuple[int, Facts]]]:
        """Return the rows that name a further volume of a source; `used` grows by them."""
        by_name: dict[str, Source] = {}
        for source in sources:
            if source.reader in READERS and READERS[source.reader].several:
                for key in _names(source):
                    by_name.setdefault(key, source)
        found: dict[str, list[tuple[int, Facts]]] = defaultdict(list)
        for name in sorted(set(self._rows) - used):
            path = PurePosixPath(name)
            match = _NUMBER.fullmatch(path.stem)
            whose = by_name.get(path.with_stem(match[1]).as_posix()) if match else None
            if match and whose is not None:
                used.add(name)
                found[whose.relative] += [(int(match[2]) - 1, row) for row in self._rows[name]]
        return found

    def _check_bare_names(self, sources: Sequence[Source], keys: list[list[str]]) -> None:
        seen: dict[str, str] = {}
        for source, own in zip(sources, keys, strict=True):
            for key in own:
                if seen.setdefault(key, source.relative) != source.relative:
                    raise ValueError(
                        f"{self.path.name}: {key!r} fits {seen[key]} and {source.relative}; write "
                        "the path relative to the converted folder."
                    )

    def _nothing_fits(self, sources: Sequence[Source]) -> str:
        first = next(iter(self._rows), None)
        if first is None:
            return f"{self.path.name} has no rows."
        alike = next((s.relative for s in sources if s.relative.casefold() == first.casefold()), "")
        hint = f"did you mean {alike!r}?" if alike else f"there is {sources[0].relative!r}."
        return (
            f"{self.path.name}: none of its {len(self._rows)} files is there, first {first!r}; "
            f"{hint} 'file' is the path relative to the converted folder, capitals count."
        )

    def _read(self) -> None:
        sheet = read_sheet(self.path, {"file"})
        self.columns = tuple(
            name.casefold() if name.casefold() in RESERVED else name for name in sheet.columns
        )
        if "file" not in self.columns:
            raise ValueError(
                f"{self.path.name}: columns {list(self.columns)}, expected one named 'file' "
                f"(read as {sheet.encoding}, separated by {sheet.separator!r})."
            )
        self._check_columns()
        if sheet.encoding == WINDOWS:
            self.notes.append(f"{self.path.name} is no UTF-8: read as Windows-1252.")
        for line, cells in sheet.rows:
            self._add(line, cells)

    def _add(self, number: int, cells: Sequence[str]) -> None:
        where = f"{self.path.name}, line {number}"
        known = dict(zip(self.columns, cells, strict=True))
        name = _plain(known["file"].replace("\\", "/").removeprefix("./"))
        if not name:
            raise ValueError(f"{where}: no name in the column 'file'.")
        facts = _facts(known, where, self.path.name, self.extra_columns, number)
        before = self._rows.setdefault(name, [])
        for other in before:
            if _said(other) == _said(facts):
                self.notes.append(f"{where} repeats line {other.line}: taken once.")
                return
            if other.eye is None or facts.eye is None or other.eye == facts.eye:
                raise ValueError(
                    f"{where}: {name!r} comes twice (line {other.line}), expected it once, or once "
                    "for each eye."
                )
        before.append(facts)

    def _check_columns(self) -> None:
        for name in self.columns:
            if name in _TAKEN:
                raise ValueError(
                    f"{self.path.name}: the conversion writes a column {name!r} of its own; give "
                    "that of the table another name."
                )
            if self.columns.count(name) > 1:
                raise ValueError(f"{self.path.name}: two columns are named {name!r}, expected one.")


def _plain(name: str) -> str:
    """Return a name for comparison: macOS separates letters and accents, Windows does not."""
    return unicodedata.normalize("NFC", name)


def _names(source: Source) -> list[str]:
    """Return the names by which a table may mean a source, the path first, then the bare name."""
    paths = [_plain(name) for name in (source.relative, *source.names)]
    return list(dict.fromkeys([*paths, *(PurePosixPath(path).name for path in paths)]))


def _said(facts: Facts) -> str:
    return repr(replace(facts, line=0))


def _facts(
    cells: dict[str, str], where: str, table: str, extra: tuple[str, ...], line: int
) -> Facts:
    text = {name: cells.get(name, "") for name in (*FIELDS, "label_rule")}
    label = _label(text["label"], where)
    rule = text["label_rule"] or (f"column 'label' of {table}" if label is not None else "")
    names = {name: name_of(text[name], where, name) for name in ("subject", "visit", "site")}
    return Facts(
        **names,
        eye=_eye(text["eye"], where),
        label=label,
        label_rule=rule,
        extra={name: cells.get(name, "") for name in extra},
        origin={name: f"user: {table}" for name in FIELDS if names.get(name, text[name])},
        line=line,
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""Compile `--pattern`: a regular expression with named groups, searched in the path.

    Args:
        pattern: with groups named subject, eye, visit, site or label.

    Raises:
        ValueError: if it does not compile, or names no group or an unknown one.

    Examples:
        >>> compile_pattern(r"(?P<site>[^/]+)/(?P<subject>\w+?)_(?P<eye>OD|OS)").groups
        3
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is not a regular expression: {error}.") from error
    names = set(compiled.groupindex)
    if not names or names - set(FIELDS):
        raise ValueError(
            f"pattern {pattern!r} has the groups {sorted(names)}, expected some of {list(FIELDS)}, "
            "written (?P<subject>...)."
        )
    return compiled


def facts_from_pattern(pattern: re.Pattern[str], source: Source) -> Facts | None:
    """Return what the pattern finds in a source's path, or else in those of its files.

    Raises:
        ValueError: for an invalid label or eye, or one that differs between files.
    """
    found = _searched(pattern, source.relative)
    if found is not None or not source.names:
        return found
    each = [_searched(pattern, name) for name in source.names]
    for name, facts in zip(source.names, each, strict=True):
        if facts != each[0]:
            raise ValueError(
                f"the pattern finds one thing in {source.names[0]} and another in {name}: these "
                "pictures are no single volume."
            )
    return each[0]


def _searched(pattern: re.Pattern[str], relative: str) -> Facts | None:
    match = pattern.search(relative)
    if match is None:
        return None
    found = {name: text for name, text in match.groupdict().items() if text}
    where = f"{relative}, by the pattern"
    label = _label(found.get("label", ""), where)
    return Facts(
        subject=found.get("subject", ""),
        eye=_eye(found.get("eye", ""), where),
        visit=found.get("visit", ""),
        site=found.get("site", ""),
        label=label,
        label_rule="file name pattern" if label is not None else "",
        origin={name: "user: file name pattern" for name in found},
    )


def facts_for_sources(
    sources: Sequence[Source], labels: Labels | None, pattern: re.Pattern[str] | None
) -> tuple[list[Source], list[SourceFacts]]:
    """Return the facts of table and pattern for each source; a contradiction is a fault.

    Raises:
        ValueError: if no row of the table fits, or the pattern finds invalid values in all sources.
    """
    said: Sequence[SourceFacts | ValueError] = (
        [SourceFacts()] * len(sources) if labels is None else labels.match(sources)
    )
    checked: list[Source] = []
    facts: list[SourceFacts] = []
    errors: list[ValueError] = []
    for source, own in zip(sources, said, strict=True):
        try:
            if isinstance(own, ValueError):
                raise own
            found = None if pattern is None else facts_from_pattern(pattern, source)
            facts.append(replace(own, pattern=found))
            checked.append(source)
        except ValueError as error:
            facts.append(SourceFacts())
            checked.append(replace(source, fault=source.fault or str(error)))
            errors.append(error)
    if errors and len(errors) == len(sources):
        raise errors[0]
    return checked, facts


def merge(first: Facts | None, second: Facts | None) -> Facts:
    """Return the facts of `first`, with gaps filled from `second`."""
    a, b = first or Facts(), second or Facts()
    rule = a.label_rule if a.label is not None else b.label_rule
    return Facts(
        subject=a.subject or b.subject,
        eye=a.eye or b.eye,
        visit=a.visit or b.visit,
        site=a.site or b.site,
        label=a.label if a.label is not None else b.label,
        label_rule=rule,
        extra=b.extra | a.extra,
        origin=b.origin | a.origin,
        line=a.line or b.line,
    )


def _label(text: str, where: str) -> int | None:
    if not text:
        return None
    plain = {"true": "1", "false": "0"}.get(text.casefold(), text.replace(",", "."))
    try:
        value = float(plain)
    except ValueError:
        value = -1.0
    if "_" in text or not math.isfinite(value) or value < 0 or value != int(value):
        raise ValueError(f"{where}: label is {text!r}, expected a class number 0, 1, ... or none.")
    return int(value)


def _eye(text: str, where: str) -> Laterality | None:
    if is_nothing(text) or text.casefold() in ("unknown", "u", "?"):
        return None
    eye = normal_laterality(text)
    if eye is None:
        raise ValueError(f"{where}: eye is {text!r}, expected OD, OS or nothing.")
    return eye
