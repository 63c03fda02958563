"""A table of results in four forms: Markdown, CSV, LaTeX, PNG."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppi_med.io import write_text

FORMS = (".md", ".csv", ".tex", ".png")
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "±": r"$\pm$"}


@dataclass(frozen=True)
class Cell:
    """A value and how it is shown; in CSV the value itself stands.

    Attributes:
        text: shown.
        value: a number, or None where the text is all.
    """

    text: str
    value: float | None = None


Row = tuple[str | Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files.
        title: one line above it.
        columns: names.
        rows: one text or cell a column.
        notes: lines below it: how settings were chosen, what an interval is of.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def texts(self) -> list[list[str]]:
        """Return the rows as they are shown."""
        return [[c.text if isinstance(c, Cell) else c for c in row] for row in self.rows]


def number(value: float, deviation: float = float("nan"), digits: int = 3) -> Cell:
    """Return a number with the standard deviation beside it, if there is one; nothing for NaN.

    Examples:
        >>> number(0.8312, 0.02).text, number(float("nan")).text
        ('0.831 ± 0.020', '')
    """
    if math.isnan(value):
        return Cell("")
    spread = "" if math.isnan(deviation) else f" ± {deviation:.{digits}f}"
    return Cell(f"{value:.{digits}f}{spread}", value)


def signed(value: float, low: float = float("nan"), high: float = float("nan")) -> Cell:
    """Return a difference with its interval.

    Example:
        >>> signed(0.05, 0.01, 0.09).text
        '+0.050 [+0.010, +0.090]'
    """
    if math.isnan(value):
        return Cell("")
    interval = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    return Cell(f"{value:+.3f}{interval}", value)


def markdown(table: Table) -> str:
    """Return the table in Markdown, with title and notes.

    Example:
        >>> print(markdown(Table("t", "Title", ("a", "b"), (("x", number(0.5)),))))
        Title
        <BLANKLINE>
        | a | b |
        | --- | --- |
        | x | 0.500 |
        <BLANKLINE>
    """
    lines = [table.title, "", _line(table.columns), _line(["---"] * len(table.columns))]
    lines += [_line(row) for row in table.texts()]
    lines += [part for note in table.notes for part in ("", note)]
    return "\n".join(lines) + "\n"


def as_csv(table: Table) -> str:
    """Return the table as CSV; numbers are whole, notes are lines that begin with #."""
    buffer = io.StringIO()
    buffer.writelines(f"# {line}\n" for line in (table.title, *table.notes))
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_plain(cell) for cell in row] for row in table.rows)
    return buffer.getvalue()


def latex(table: Table) -> str:
    """Return the table for LaTeX (booktabs)."""
    columns = "l" + "r" * (len(table.columns) - 1)
    rows = [" & ".join(map(_escaped, row)) + r" \\" for row in table.texts()]
    caption = " ".join(_escaped(line) for line in (f"{table.title}.", *table.notes))
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_escaped, table.columns)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write the table in all forms; return the files."""
    from ppi_med.evaluation.figures import save_figure
    from ppi_med.experiments.cross_site.figures import table_figure

    paths = [folder / f"{table.name}{form}" for form in FORMS]
    for path, text in zip(paths, (markdown(table), as_csv(table), latex(table)), strict=False):
        write_text(path, text)
    save_figure(table_figure(table), paths[-1], dpi=150)
    return paths


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(cell: str | Cell) -> Any:
    if isinstance(cell, str):
        return cell
    return cell.text if cell.value is None else f"{cell.value:.6g}"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
