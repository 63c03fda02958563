"""The command on a small folder of nodules, with a network of the bundle."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ppi_med.cli import app
from ppi_med.data.lidc.cases import case_hashes
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.experiments.weak_segmentation.cases import load_study_cases, require_unseen_cases
from ppi_med.experiments.weak_segmentation.report import run_dice
from ppi_med.networks.patch_classifier import patch_classifier
from ppi_med.segmentation.network import load_network
from tests.data.lidc.folders import write_nodules

BUNDLE = Path(__file__).resolve().parents[3] / "bundles" / "lidc_ppi"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(patch_classifier("small_cnn", 40).state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_tables_and_pictures(tmp_path: Path, weights: Path) -> None:
    data = write_nodules(tmp_path / "data", patients=20)
    options = {
        "--bundle": BUNDLE, "--checkpoint": weights, "--data": data, "--output": tmp_path / "out",
        "--methods": "wbp", "--crops": "shifted", "--most": 3, "--pictures": 1,
        "--tracking-uri": "none", "--test-fold": 0,
    }  # fmt: skip
    arguments = [str(part) for pair in options.items() for part in pair]
    command = ["weak-segmentation", *arguments, "--no-walk", "--no-distances"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "| wbp | shifted |" in result.output
    with (tmp_path / "out" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["method"] for row in rows} == {
        "readers", "disc", "hu_component", "hu_component_in_disc", "random_map", "wbp",
    }  # fmt: skip
    assert {path.stem for path in (tmp_path / "out" / "pictures").iterdir()} == {
        "disc_shifted", "hu_component_shifted", "hu_component_in_disc_shifted",
        "random_map_shifted", "wbp_shifted",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "foo"], "reference is 'foo', expected union or majority"),
        (["--crops", "middle"], "crops is 'middle'"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_loaded(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["weak-segmentation", "--bundle", "nowhere", *words])
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


def test_patients_of_the_training_are_no_test(tmp_path: Path, weights: Path) -> None:
    data = write_nodules(tmp_path / "data", patients=20)
    trained = {"fold": 1, "test_fold": 1, **case_hashes(data, 1)}
    weights.with_suffix(".json").write_text(json.dumps({"trained": trained}))
    command = ["weak-segmentation", "--bundle", BUNDLE, "--checkpoint", weights, "--data", data]
    for asked in ([], ["--test-fold", 0]):
        result = CliRunner().invoke(app, [str(word) for word in [*command, *asked]])
        assert isinstance(result.exception, UsageError)
        assert "--test-fold 1" in str(result.exception)
    require_unseen_cases(trained, data, test_fold=1)


def test_dice_of_a_run(tmp_path: Path, weights: Path) -> None:
    data = write_nodules(tmp_path / "data", patients=20)
    overrides = {
        "bundle_root": BUNDLE.as_posix(), "dataset_dir": data.as_posix(), "test_fold": 1,
        "architecture": "small_cnn", "method": "plain", "seed": 3,
    }  # fmt: skip
    found = run_dice(weights.parent, overrides, most=3)
    kinds = [f"{r}/{m}" for r in ("union", "majority") for m in ("centred", "shifted")]
    wanted = {f"{kind}/{name}" for kind in kinds for name in ("floor", "wbp", "wbp_symmetric")}
    assert set(found) - wanted == {f"union/{m}/ceiling" for m in ("centred", "shifted")}
    assert wanted < set(found)
    cases = {c.name for c in load_study_cases(data, test_fold=1, most=3) if c.part == "test"}
    for values in found.values():
        assert set(values) == cases and len(cases) == 3
        assert all(0 <= value <= 1 for value in values.values())
    assert min(found["union/centred/floor"].values()) > 0.8


def test_cases_are_those_of_the_networks_test(tmp_path: Path) -> None:
    from ppi_med.data.lidc.cases import load_cases

    data = write_nodules(tmp_path / "data", patients=20)
    cases = load_study_cases(data, test_fold=1)
    wanted = {str(case["subject"]) for case in load_cases(data, "test", test_fold=1)}
    assert {case.subject for case in cases if case.part == "test"} == wanted
    assert not wanted & {case.subject for case in cases if case.part == "validation"}
    few = load_study_cases(data, test_fold=1, most=2)
    assert [case.part for case in few] == 2 * ["validation"] + 2 * ["test"]


def test_the_network_is_the_bundles(weights: Path) -> None:
    found = load_network(BUNDLE, weights)
    assert (found.grid.size, found.grid.field_mm) == (40, 32.0)
    assert not found.network.training
    assert found.normalise(torch.tensor([[[-850.0, -2000.0]]])).tolist() == [[[0.0, 0.0]]]
    with pytest.raises(UsageError, match="does not fit"):
        load_network(BUNDLE, weights, {"architecture": "lotenet"})
    with pytest.raises(UsageError, match="has no no_such"):
        load_network(BUNDLE, weights, {"no_such": 1})
    with pytest.raises(MissingFileError):
        load_network(BUNDLE.parent, weights)
