"""Tables as spreadsheets, pandas and people write them: one reader for all that others give us."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppi_med.errors import UsageError

WINDOWS = "cp1252"
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NOTHING = {"", "nan", "<na>", "na", "n/a", "#n/a", "#na", "null", "nat", "#ref!", "#value!"}
# 12300000000 as a spreadsheet shows it: its last digits are lost.
_ROUNDED = re.compile(r"\d([.,]\d+)?e\+?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Sheet:
    """A table of texts: names of the columns; line and cells of each row that is not empty."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    encoding: str
    separator: str


def read_sheet(path: str | Path, names: Collection[str]) -> Sheet:
    """Read a CSV: UTF-8, UTF-16 or Windows-1252; commas, semicolons or tabs; empty rows.

    Args:
        path: path of the table.
        names: column names in lower case; one of them marks the line of the names.

    Raises:
        UsageError: for a workbook, an unknown encoding, two columns of one name, or a row of
            another number of cells, by its line.
    """
    path = Path(path)
    text, encoding = _decoded(path)
    separator = _separator(text.splitlines(keepends=True), names)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        cells_of = ((tuple(cell.strip() for cell in cells), reader.line_num) for cells in reader)
        rows = [(cells, line) for cells, line in cells_of if any(cells)]
    except csv.Error as error:
        raise UsageError(f"{path.name} is no table ({error}).") from error
    if rows and rows[0][0][0].lower().startswith("sep="):
        rows = rows[1:]
    columns = rows[0][0] if rows else ()
    for name in columns:
        if name and columns.count(name) > 1:
            raise UsageError(f"{path.name}: two columns are named {name!r}, expected one.")
    for cells, line in rows:
        if len(cells) != len(columns):
            where = f"{path.name}, line {line}"
            raise UsageError(f"{where}: not as many cells as the first line has columns.")
    kept = tuple((line, cells) for cells, line in rows[1:])
    return Sheet(columns, kept, encoding, separator)


def is_nothing(text: str) -> bool:
    """Tell whether a cell is empty, in the words of pandas and spreadsheets too."""
    return text.strip().casefold() in _NOTHING


def name_of(text: str, where: str, column: str) -> str:
    """Return the name of a patient, visit or site in one form; "" where the cell says nothing.

    Accents are one letter each, spaces single; `7.0`, which pandas makes of the number 7, is `7`.

    Raises:
        UsageError: for a long number that a spreadsheet has rounded: patients would fall together.

    Examples:
        >>> name_of("7.0", "a.csv, line 2", "subject"), name_of("nan", "a.csv, line 3", "subject")
        ('7', '')
    """
    if is_nothing(text) or text.casefold() == "none":
        return ""
    if _ROUNDED.fullmatch(text):
        raise UsageError(
            f"{where}: {column} is {text!r}, a number that a spreadsheet has rounded: make the "
            "column text there, and save it again."
        )
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.partition(".")[0] if re.fullmatch(r"\d+\.0+", text) else text


def alike(names: Iterable[str]) -> list[str]:
    """Return a note on patients whose names differ only in case or spaces; empty without any.

    Examples:
        >>> alike(["p1", "P 1", "p2"])
        ["'P 1' and 'p1' differ only in case or spaces: two patients, unless you write one form."]
    """
    forms: dict[str, str] = {}
    for name in sorted(set(names)):
        first = forms.setdefault("".join(name.casefold().split()), name)
        if first != name:
            text = "differ only in case or spaces: two patients, unless you write one form."
            return [f"{first!r} and {name!r} {text}"]
    return []


def _decoded(path: Path) -> tuple[str, str]:
    """Return a table's text and its encoding."""
    content = path.read_bytes()
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UsageError(f"{path.name} is a workbook: save the sheet as CSV (UTF-8).")
    encoding = next((name for bom, name in _BOMS.items() if content.startswith(bom)), "")
    if not encoding and b"\0" in content[:4]:
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    for name in [encoding] if encoding else ["utf-8", WINDOWS]:
        try:
            return content.decode(name), name
        except UnicodeDecodeError:
            continue
    raise UsageError(f"{path.name} is no text of {encoding or 'UTF-8'}: save it as CSV (UTF-8).")


def _separator(lines: Sequence[str], names: Collection[str]) -> str:
    """Return what separates the columns: of the line that names them, else as `sep=` says."""
    for line in lines[:100]:
        if re.fullmatch(r"sep=.\s*", line, re.IGNORECASE):
            return line[4]
        cells = {
            mark: [c.strip(' "\t\r\n').casefold() for c in line.split(mark)] for mark in ",;\t"
        }
        named = [mark for mark, found in cells.items() if not set(names).isdisjoint(found)]
        if named:
            return max(named, key=lambda mark: len(cells[mark]))
    return ","
