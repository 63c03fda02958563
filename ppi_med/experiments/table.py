"""A table of results in four forms: Markdown, CSV, LaTeX, PNG. Every experiment uses it."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppi_med.evaluation.bootstrap import Interval
from ppi_med.io import markdown_table, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = (".md", ".csv", ".tex", ".png")
_INK, _ROW = "#1f2933", 0.26
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "±": r"$\pm$"}


@dataclass(frozen=True)
class Value:
    """A value and its text; CSV has the value itself.

    Attributes:
        text: shown.
        value: a number, or None if there is only the text.
    """

    text: str
    value: float | None = None


Row = tuple[str | Value, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: name of its files.
        title: one line above it.
        columns: names.
        rows: one text or cell per column.
        notes: lines below it: how settings were chosen, what an interval means.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def texts(self) -> list[list[str]]:
        """Return the rows as they are shown."""
        return [[c.text if isinstance(c, Value) else c for c in row] for row in self.rows]

    def lines(self) -> str:
        """Return columns and rows in Markdown, without title and notes."""
        return markdown_table(self.columns, self.texts())


def number(value: float, deviation: float = float("nan"), digits: int = 3) -> Value:
    """Return a number with the standard deviation beside it, if there is one; nothing for NaN.

    Examples:
        >>> number(0.8312, 0.02).text, number(float("nan")).text
        ('0.831 ± 0.020', '')
    """
    if math.isnan(value):
        return Value("")
    spread = "" if math.isnan(deviation) else f" ± {deviation:.{digits}f}"
    return Value(f"{value:.{digits}f}{spread}", value)


def signed(value: float, low: float = float("nan"), high: float = float("nan")) -> Value:
    """Return a difference with its interval; nothing for NaN.

    Examples:
        >>> signed(0.05, 0.01, 0.09).text
        '+0.050 [+0.010, +0.090]'
    """
    return ranged(Interval("", value, low, high), "+")


def ranged(found: Interval | None, sign: str = "", digits: int = 3, mark: str = "") -> Value:
    """Return a value with its interval, without ends that are NaN; nothing for None.

    Args:
        found: the interval.
        sign: "+" for differences.
        digits: digits after the point.
        mark: mark after the value.

    Examples:
        >>> ranged(Interval("", 0.5, 0.4, 0.6), digits=2, mark="*").text
        '0.50* [0.40, 0.60]'
    """
    if found is None or math.isnan(found.value):
        return Value("")
    value, low, high = (f"{v:{sign}.{digits}f}" for v in (found.value, found.low, found.high))
    ends = "" if math.isnan(found.low) else f" [{low}, {high}]"
    return Value(f"{value}{mark}{ends}", found.value)


def markdown(table: Table) -> str:
    """Return the table in Markdown, with title and notes.

    Examples:
        >>> print(markdown(Table("t", "Title", ("a", "b"), (("x", number(0.5)),))))
        Title
        <BLANKLINE>
        | a | b |
        | --- | --- |
        | x | 0.500 |
        <BLANKLINE>
    """
    notes = [part for note in table.notes for part in ("", note)]
    return "\n".join([table.title, "", table.lines().rstrip("\n"), *notes]) + "\n"


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

    paths = [folder / f"{table.name}{form}" for form in FORMS]
    for path, text in zip(paths, (markdown(table), as_csv(table), latex(table)), strict=False):
        write_text(path, text)
    save_figure(table_figure(table), paths[-1], dpi=150)
    return paths


def table_figure(table: Table) -> Figure:
    """Draw a table."""
    from ppi_med.evaluation.figures import plain_figure

    texts = [list(table.columns), *table.texts()]
    widths = [max(len(row[i]) for row in texts) + 2 for i in range(len(table.columns))]
    total = max(sum(widths) * 0.085, 4.0)
    notes = [line for note in table.notes for line in textwrap.wrap(note, int(total * 13))]
    height = _ROW * (len(texts) + 1.2) + 0.17 * len(notes) + 0.2
    figure = plain_figure(total, height)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(0, sum(widths)), ylim=(len(texts) + 0.7 * len(notes) + 0.3, -1.0))
    axes.text(0, -0.5, table.title, fontsize=10, color=_INK, va="center")
    for number, row in enumerate(texts):
        place = 0
        for text, width in zip(row, widths, strict=True):
            weight = "bold" if number == 0 else "normal"
            axes.text(place, number + 0.5, text, fontsize=8.5, va="center", weight=weight)
            place += width
    axes.axhline(1, color=_INK, linewidth=0.8)
    for number, line in enumerate(notes):
        axes.text(0, len(texts) + 0.5 + 0.7 * number, line, fontsize=7.5, va="center", color=_INK)
    return figure


def _plain(cell: str | Value) -> Any:
    if isinstance(cell, str):
        return cell
    return cell.text if cell.value is None else f"{cell.value:.6g}"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
