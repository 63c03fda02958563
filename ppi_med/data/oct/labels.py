"""What the files do not tell: subject, eye, visit, site and label, from a table or a pattern."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ppi_med.data.manifest import COLUMNS, GENERAL_NAMES
from ppi_med.data.oct.volume import Laterality, normal_laterality

FIELDS = ("subject", "eye", "visit", "site", "label")
RESERVED = ("file", *FIELDS, "label_rule")
_TAKEN = {*COLUMNS, *GENERAL_NAMES, "image", "lesion"} - {*RESERVED}
"""Names that the conversion itself writes to the manifest or the datalist."""


@dataclass(frozen=True)
class Facts:
    """What is known of one source apart from its content; "" and `None` are unknown.

    Attributes:
        subject: whose eye.
        eye: the side.
        visit: its name or date.
        site: clinic or device.
        label: class index.
        label_rule: what made the label.
        extra: further columns.
        origin: field name to where its value came from.
    """

    subject: str = ""
    eye: Laterality | None = None
    visit: str = ""
    site: str = ""
    label: int | None = None
    label_rule: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)


class Labels:
    """A table with a column `file` and any of subject, eye, visit, site, label, label_rule.

    `file` is a path relative to the converted folder; a bare file name is enough where it is
    unique. Columns of other names are kept; one that the conversion itself writes, such as
    `volume_id`, is refused.

    Args:
        path: CSV, UTF-8.

    Raises:
        FileNotFoundError: if there is no such table.
        ValueError: naming table and line: no column `file`, a column of a name that is taken or
            comes twice, a file that comes twice, a label that is no whole number, an eye that is
            neither OD nor OS.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"No labels table {self.path}.")
        self.columns: tuple[str, ...] = ()
        self._rows: dict[str, Facts] = {}
        self._used: set[str] = set()
        self._read()

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns that are not among the known ones."""
        return tuple(name for name in self.columns if name not in RESERVED)

    def find(self, relative: str) -> Facts | None:
        """Return the facts of a source by its path relative to the converted folder."""
        key = self._key(relative)
        if key is None:
            return None
        self._used.add(key)
        return self._rows[key]

    def unused(self) -> list[str]:
        """Return the rows for which no source was found, in the table's order."""
        return [name for name in self._rows if name not in self._used]

    def _key(self, relative: str) -> str | None:
        if relative in self._rows:
            return relative
        name = PurePosixPath(relative).name
        # a bare name may stand for a file in any folder; two of them would be ambiguous
        return name if name in self._rows else None

    def check_bare_names(self, sources: Iterable[str]) -> None:
        """Refuse a bare name that fits several sources.

        Raises:
            ValueError: naming the row and two of the sources.
        """
        seen: dict[str, str] = {}
        for relative in sources:
            key = self._key(relative)
            if key is not None and seen.setdefault(key, relative) != relative:
                raise ValueError(
                    f"{self.path.name}: {key!r} fits {seen[key]} and {relative}; write the path "
                    "relative to the converted folder."
                )

    def _read(self) -> None:
        with self.path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            self.columns = tuple(name.strip() for name in reader.fieldnames or ())
            reader.fieldnames = list(self.columns)
            if "file" not in self.columns:
                raise ValueError(
                    f"{self.path.name}: columns {list(self.columns)}, expected one named 'file'."
                )
            self._check_columns()
            for cells in reader:
                where = f"{self.path.name}, line {reader.line_num}"
                if None in cells or None in cells.values():
                    raise ValueError(f"{where}: not as many cells as the first line has columns.")
                name = cells["file"].strip().replace("\\", "/").removeprefix("./")
                if name in self._rows:
                    raise ValueError(f"{where}: {name!r} comes twice, expected it once.")
                self._rows[name] = _facts(cells, where, self.path.name, self.extra_columns)

    def _check_columns(self) -> None:
        for name in self.columns:
            if name in _TAKEN:
                raise ValueError(
                    f"{self.path.name}: the conversion writes a column {name!r} of its own; give "
                    "that of the table another name."
                )
            if self.columns.count(name) > 1:
                raise ValueError(f"{self.path.name}: two columns are named {name!r}, expected one.")


def _facts(cells: dict[str, str], where: str, table: str, extra: tuple[str, ...]) -> Facts:
    text = {name: (cells.get(name) or "").strip() for name in (*FIELDS, "label_rule")}
    label = _label(text["label"], where)
    rule = text["label_rule"] or (f"column 'label' of {table}" if label is not None else "")
    return Facts(
        subject=text["subject"],
        eye=_eye(text["eye"], where),
        visit=text["visit"],
        site=text["site"],
        label=label,
        label_rule=rule,
        extra={name: (cells.get(name) or "").strip() for name in extra},
        origin={name: f"user: {table}" for name in FIELDS if text[name]},
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
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}.") from error
    names = set(compiled.groupindex)
    if not names or names - set(FIELDS):
        raise ValueError(
            f"pattern {pattern!r} has the groups {sorted(names)}, expected some of {list(FIELDS)}, "
            "written (?P<subject>...)."
        )
    return compiled


def facts_from_pattern(pattern: re.Pattern[str], relative: str) -> Facts | None:
    """Return what the pattern finds in a path, or `None` where it does not fit."""
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


def told_facts(labels: Labels | None, pattern: re.Pattern[str] | None, relative: str) -> Facts:
    """Return what table and pattern tell of a source; the table wins.

    Raises:
        ValueError: if the pattern finds a label or an eye that is none.
    """
    return merge(
        labels.find(relative) if labels is not None else None,
        facts_from_pattern(pattern, relative) if pattern is not None else None,
    )


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
    )


def _label(text: str, where: str) -> int | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not math.isfinite(value) or value < 0 or value != int(value):
        raise ValueError(f"{where}: label is {text!r}, expected a class number 0, 1, ... or none.")
    return int(value)


def _eye(text: str, where: str) -> Laterality | None:
    if not text or text.casefold() in ("unknown", "u", "?"):
        return None
    eye = normal_laterality(text)
    if eye is None:
        raise ValueError(f"{where}: eye is {text!r}, expected OD, OS or nothing.")
    return eye
