"""The comparison: cells that go on where they stopped, its table by hand, its figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ppi_med.cli import app
from ppi_med.data.photos.layouts import read_photos
from ppi_med.errors import UsageError
from ppi_med.evaluation.faithfulness import deletion_curve
from ppi_med.evaluation.measures import class_probability, ranks
from ppi_med.experiments.figures import comparison_figure
from ppi_med.experiments.map_inputs import (
    CONTROLS,
    METHODS,
    load_photographs,
    map_method,
    preparation_of,
    pretrained,
)
from ppi_med.experiments.maps import (
    Maps,
    columns,
    lines,
    mean_of,
    measure,
    parsed,
    results,
    untied,
)
from ppi_med.experiments.records import FolderRecords
from ppi_med.experiments.run import run_experiment
from tests.experiments.maps.conftest import CLASSES, SIDE

BOUNDS = ([-2.0] * 3, [2.0] * 3)


def test_a_comparison_goes_on_and_is_tabled(plan: Any, tmp_path: Path) -> None:
    store = FolderRecords(tmp_path / "records")
    assert run_experiment(plan("wbp", part=3), store) == {}
    first = {path.name: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    assert sorted(first) == ["small_cnn-wbp-0000.json", "small_cnn-wbp-0003.json"]
    assert run_experiment(plan("wbp", "gradient_x_input", "random", part=3), store) == {}
    again = {path.name: path.stat().st_mtime_ns for path in store.folder.iterdir()}
    assert len(again) == 6 and {name: again[name] for name in first} == first
    found = results(store.done())
    assert [r.method for r in found] == ["wbp", "gradient_x_input", "random"]
    assert [r.images for r in found] == [4, 4, 4]
    wbp, gradient, _ = found
    # A piecewise linear network: the two maps are one.
    assert np.allclose(wbp.values["agreement"], 1)
    for name, values in wbp.values.items():
        assert np.allclose(values, gradient.values[name], atol=2e-3, equal_nan=True), name
    table = Maps.tables(store.done())[0].lines()
    assert table.count("\n") == 5 and "small_cnn | random" in table
    assert len(comparison_figure(found).axes) == 3


def test_other_photographs_are_not_given_the_table_of_these(plan: Any, tmp_path: Path) -> None:
    store = FolderRecords(tmp_path / "records")
    assert run_experiment(plan("random"), store) == {}
    with pytest.raises(UsageError, match="small_cnn-random-0000 of other data .*images"):
        run_experiment(plan("random", most=2), store)


def test_a_cell_that_fails_stops_no_other(plan: Any, tmp_path: Path) -> None:
    failed = run_experiment(plan("grdient", "random"), FolderRecords(tmp_path / "records"))
    assert list(failed) == ["small_cnn-grdient-0000"]
    assert "method is 'grdient'" in failed["small_cnn-grdient-0000"]
    assert [r["method"] for r in FolderRecords(tmp_path / "records").done()] == ["random"]


def test_measures_are_those_of_the_evaluation(plan: Any) -> None:
    made = plan()
    network = pretrained("small_cnn", made.weights, CLASSES)
    batch = load_photographs(read_photos(made.images), SIDE)
    image = preparation_of("small_cnn")(batch.images)
    method = map_method("centre", BOUNDS)
    found = measure(network, method, method, image, batch.labels, batch.masks)
    values = method(network, image, batch.labels).sum(1)
    expected = deletion_curve(network, image, batch.labels, untied(values), counts=[100, SIDE**2])
    assert torch.allclose(found["deletion"][:, [0, 1, -1]], expected.scores, atol=1e-6)
    whole = class_probability(network(image), batch.labels)
    assert torch.allclose(found["insertion"][:, -1], whole, atol=1e-6)
    assert torch.equal(found["insertion"][:, 0], found["deletion"][:, -1])
    shares = found["box_share"].tolist()
    assert shares == pytest.approx([10 * 12 / SIDE**2] * 4)  # the cut takes nothing off the box
    assert len(columns(SIDE**2)) == found["deletion"].shape[1] * 2 + 5


def test_ties_are_broken_at_random_and_nothing_else_is() -> None:
    values = torch.zeros(1, 20, 20)
    values[0, 3, 4], values[0, 5, 6] = 2.0, 1.0
    order = untied(values)
    assert ranks(order)[0, 3, 4] == 0 and ranks(order)[0, 5, 6] == 1
    assert order.unique().numel() == 400
    rows = (ranks(order) < 100).float().sum(2)[0]
    assert (rows > 0).sum() > 15  # not the first five rows


def test_lines_can_be_read_back() -> None:
    found = {
        "deletion": torch.tensor([[0.5, 0.25]]),
        "insertion": torch.tensor([[0.0, 1.0]]),
        **{
            name: torch.tensor([0.125])
            for name in ("agreement", "energy_top", "pointing", "box_share")
        },
        "energy_all": torch.tensor([torch.nan]),
    }
    (line,) = lines(found)
    assert line == "0.5,0.25,0,1,0.125,0.125,,0.125,0.125"
    assert np.isnan(parsed([line])[0][6]) and parsed([line])[0][:2] == [0.5, 0.25]


def test_an_interval_is_that_of_resampled_images() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.4, 0.1, 120)
    mean = mean_of(values)
    assert mean.value == pytest.approx(values.mean())
    width = 2 * 1.96 * values.std() / np.sqrt(120)
    assert mean.high - mean.low == pytest.approx(width, rel=0.1)
    assert mean.excludes_zero and not mean_of(rng.normal(0, 0.1, 120)).excludes_zero
    values[:20] = np.nan
    assert mean_of(values).value == pytest.approx(values[20:].mean())


@pytest.mark.parametrize("name", METHODS)
def test_methods_by_name(name: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(900, 3),
    )
    image = torch.randn(2, 3, 32, 32)
    values = map_method(name, BOUNDS)(network, image, torch.tensor([0, 2]))
    assert values.shape == image.shape and bool(values.isfinite().all())
    others = map_method(name, BOUNDS)(network, image, torch.tensor([1, 0]))
    assert torch.equal(values, others) == (name in CONTROLS)


def test_names_of_methods_are_checked() -> None:
    with pytest.raises(UsageError, match="expected one of wbp"):
        map_method("wpb", BOUNDS)


def test_command(plan: Any, tmp_path: Path) -> None:
    run_experiment(plan("wbp"), FolderRecords(tmp_path / "records"))
    figure = tmp_path / "figure.png"
    options = ["compare-maps", "--table", "--records", str(tmp_path / "records")]
    tables = tmp_path / "tables"
    shown = CliRunner().invoke(app, [*options, "--figure", str(figure), "-o", str(tables)])
    assert shown.exit_code == 0 and "| small_cnn | wbp |" in shown.output
    assert {path.name for path in tables.iterdir()} == {
        f"maps.{form}" for form in ("md", "csv", "tex", "png")
    }
    assert figure.stat().st_size > 10_000
    refused = CliRunner().invoke(app, ["compare-maps", "--network", "small_cnn"])
    assert isinstance(refused.exception, UsageError)
