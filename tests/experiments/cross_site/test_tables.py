"""Tables in their four forms."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppi_med.errors import UsageError
from ppi_med.experiments.figures import heat_map
from ppi_med.experiments.matrix import matrices
from ppi_med.experiments.selection import InSiteValidation
from ppi_med.experiments.sweep_tables import cross_site_tables, write_sweep
from ppi_med.experiments.table import (
    Table,
    Value,
    as_csv,
    latex,
    markdown,
    number,
    signed,
    table_figure,
)
from tests.experiments.cross_site.made import SITES, sweep, whole

RULE = InSiteValidation()


def test_csv_holds_the_numbers_and_the_notes() -> None:
    table = Table("t", "A title", ("a_b", "c"), (("x, y", number(1 / 3, 0.1)),), ("A note.",))
    lines = as_csv(table).splitlines()
    assert lines[:2] == ["# A title", "# A note."]
    assert list(csv.reader(lines[2:])) == [["a_b", "c"], ["x, y", "0.333333"]]


def test_latex_is_escaped() -> None:
    table = Table("t", "50 % of a_b", ("a_b", "c & d"), (("x_1", number(0.5, 0.1)),))
    text = latex(table)
    assert r"50 \% of a\_b" in text and r"c \& d" in text
    assert r"x\_1 & 0.500 $\pm$ 0.100 \\" in text
    assert text.count("{") == text.count("}")


def test_missing_values_are_empty() -> None:
    assert number(float("nan")) == signed(float("nan")) == Value("")
    assert "| x |  |" in markdown(Table("t", "t", ("a", "b"), (("x", number(float("nan"))),)))


def test_the_tables_of_a_sweep() -> None:
    cells = whole({"plain": 0.5, "random_mask": 0.5, "ppi_x": 2.0})
    tables = {t.name: t for t in cross_site_tables(sweep(), cells, RULE, repeats=20)}
    assert list(tables) == ["summary", "matrix", "table3_random_mask", "table3_ppi_x"]
    found = {one.method: one for one in matrices(cells, SITES, RULE)}
    side = tables["table3_ppi_x"]
    assert side.columns[0] == "trained on" and len(side.columns) == 1 + 2 * (3 + 2)
    for i, row in enumerate(side.rows):
        values = [c.value for c in row[1:]]
        assert values[:3] == pytest.approx(found["plain"].values[i])
        assert values[5:8] == pytest.approx(found["ppi_x"].values[i])
        assert values[8] == pytest.approx(np.mean(found["ppi_x"].values[i]))
        assert values[9] == pytest.approx(np.std(found["ppi_x"].values[i], ddof=1))
    summary = {row[0]: row for row in tables["summary"].rows}
    assert summary["plain"][4].text == ""
    assert summary["ppi_x"][4].text.startswith("+0.")


def test_all_forms_are_written_twice_the_same(tmp_path: Path) -> None:
    cells = whole({"plain": 0.5, "ppi_x": 2.0})
    written = write_sweep(sweep(), cells, tmp_path / "a", RULE)
    names = {path.name for path in written}
    assert {"tables.md", "heat_map.png", "matrix.csv", "matrix.tex", "table3_ppi_x.md"} <= names
    again = write_sweep(sweep(), cells[::-1], tmp_path / "b", RULE)
    for one, other in zip(sorted(written), sorted(again), strict=True):
        assert one.name == other.name
        if one.suffix != ".png":
            assert one.read_bytes() == other.read_bytes(), one.name
        else:
            pixels = np.asarray(Image.open(one).convert("RGB"))
            assert min(pixels.shape[:2]) > 100 and pixels.std() > 1


def test_the_heat_map_says_what_the_matrix_says() -> None:
    found = matrices(whole({"plain": 0.5, "ppi_x": 2.0}), SITES, RULE)
    figure = heat_map(found, "a title", "a note")
    panels = [axes for axes in figure.axes if axes.get_xlabel() == "tested on"]
    assert len(panels) == 2
    for axes, one in zip(panels, found, strict=True):
        shown = [text.get_text() for text in axes.texts]
        assert shown == [f"{value:.2f}" for value in one.values.ravel()]
        assert len(axes.patches) == 3  # one framed cell a site
        assert one.method in axes.get_title(loc="left")
    with pytest.raises(UsageError, match="no finished cell"):
        heat_map([])


@pytest.mark.parametrize(("methods", "across", "named"), [(3, 3, 3), (4, 4, 4), (6, 4, 4)])
def test_heat_maps_of_many_methods_go_on_below(methods: int, across: int, named: int) -> None:
    names = {f"m{number}": 1.0 for number in range(methods)}
    figure = heat_map(matrices(whole(names), SITES, RULE))
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(panels) == methods and all(axes.get_visible() for axes in panels)
    places = [axes.get_subplotspec() for axes in panels]
    assert {place.get_gridspec().ncols for place in places if place} == {across}
    below = [axes for axes in panels if axes.get_xlabel() == "tested on"]
    assert len(below) == named
    for axes in below:
        assert [label.get_text() for label in axes.get_xticklabels()] == list(SITES)


def test_a_table_as_a_picture_has_all_its_texts() -> None:
    table = Table("t", "A title", ("a", "b"), (("x", number(0.5)),), ("A note.",))
    (axes,) = table_figure(table).axes
    assert [t.get_text() for t in axes.texts] == ["A title", "a", "b", "x", "0.500", "A note."]
