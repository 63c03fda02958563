from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ppi_med.errors import UsageError
from ppi_med.experiments.weak_segmentation.choice import TestCaseError
from ppi_med.experiments.weak_segmentation.report import (
    case_rows,
    difference_interval,
    intervals,
    mean_interval,
    segmentation_figure,
    summary_table,
    typical_cases,
    write_outcomes,
)
from ppi_med.experiments.weak_segmentation.study import (
    FLOORS,
    Outcome,
    Study,
    modes_of,
    reference_of,
)
from ppi_med.networks import LoTeNet
from ppi_med.saliency import WBP, GradientTimesInput
from ppi_med.segmentation.grid import NetworkGrid
from ppi_med.segmentation.masking import MaskRule
from ppi_med.segmentation.network import METHODS, saliency_methods
from ppi_med.tracking.base import Tracker
from tests.segmentation.made import BrightSum, made_case, made_cases

RULES = [MaskRule(smoothing_mm=0.5), MaskRule(smoothing_mm=0.5, threshold="std", level=0.5)]

CENTRED = 1 + len(FLOORS) + 2
"""Outcomes of the fixture on centred crops: the readers, the floors, two methods."""


def made_study(**options: object) -> Study:
    return Study(made_cases(), NetworkGrid(31), rules=RULES, betas=(), **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    study = made_study()
    return study.all(BrightSum(), {"wbp": WBP(), "gxi": GradientTimesInput()})


def test_a_good_map_beats_the_floors(outcomes: list[Outcome]) -> None:
    assert [o.method for o in outcomes] == 2 * ["readers", *FLOORS, "wbp", "gxi"]
    assert [o.crops for o in outcomes] == CENTRED * ["centred"] + CENTRED * ["shifted"]
    dice = {o.method: np.mean([r["dice_union"] for r in o.rows]) for o in outcomes[:CENTRED]}
    assert dice["wbp"] > 0.7 > 0.4 > dice["random_map"]
    assert dice["wbp"] == pytest.approx(dice["gxi"])
    assert dice["readers"] > 0.8


def test_rules_come_from_validation_alone() -> None:
    """Other test cases change nothing of what is chosen."""
    cases = made_cases()
    more = [c for c in cases if c.part == "validation"] + [
        made_case(n, "test") for n in range(300, 304)
    ]
    study = Study(more, NetworkGrid(31), rules=RULES, betas=())
    for one, other in zip(made_study().floors("centred"), study.floors("centred"), strict=True):
        assert (one.rule, one.validation_dice) == (other.rule, other.validation_dice)


def test_a_test_case_with_an_empty_majority_is_left_out_of_the_mean(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cases = made_cases(2, 2)
    cases[-1] = replace(cases[-1], majority=np.zeros_like(cases[-1].majority))
    study = Study(cases, NetworkGrid(31), rules=RULES, betas=(), reference="majority",
                  distances=False)  # fmt: skip
    with caplog.at_level(logging.INFO):
        found = study.method("gxi", BrightSum(), GradientTimesInput(), "centred")
    assert ["dice_majority" in row for row in found.rows] == [True, False]
    assert f"Dice {found.rows[0]['dice_majority']:.3f}" in caplog.text


def test_a_patient_in_both_parts_is_refused() -> None:
    cases = [*made_cases(), made_case(500, "test", subject="p0")]
    with pytest.raises(TestCaseError, match="held out"):
        Study(cases, NetworkGrid(20))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_both_parts_are_needed(part: str) -> None:
    with pytest.raises(ValueError, match=f"part {part}"):
        Study([c for c in made_cases() if c.part != part], NetworkGrid(20))


def test_a_network_without_a_layer_for_gradcam_says_so() -> None:
    network = LoTeNet(1, 2, 31, layers=1, bond_dim=2)
    found = made_study().all(network, saliency_methods("gradcam,wbp", 31), ("centred",))
    assert "no convolution" in found[-2].reason
    assert found[-2].rows == ()
    assert len(found[-1].rows) == 5
    assert "no convolution" in summary_table(found).lines()


@pytest.mark.parametrize("outputs", [1, 2])
def test_every_method_gives_masks(outputs: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, outputs),
    )  # fmt: skip
    cases = made_cases(2, 2)
    study = Study(cases, NetworkGrid(16), rules=RULES, betas=(), distances=False)
    for name, method in saliency_methods("all", 16).items():
        found = study.method(name, network, method, "centred")
        assert len(found.masks) == len(found.maps) == 2, found.reason
    assert network.training


def test_mean_over_cases_interval_over_patients() -> None:
    values = [0.2, 0.4, 0.9, np.nan]
    found = mean_interval("dice", values, ["a", "a", "b", "c"])
    assert found.value == pytest.approx(0.5)
    assert found.subjects == 2
    # Of two patients only four resamples exist: both, one twice, the other twice.
    assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.9))


def test_one_patient_has_a_mean_and_no_interval() -> None:
    found = mean_interval("dice", [0.2, 0.4], ["a", "a"])
    assert found.value == pytest.approx(0.3)
    assert np.isnan([found.low, found.high]).all()


def test_the_difference_needs_the_same_cases(outcomes: list[Outcome]) -> None:
    wbp, gxi, shifted = outcomes[CENTRED - 2], outcomes[CENTRED - 1], outcomes[-2]
    gap = difference_interval("gap", wbp, gxi)
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="not judged on the same cases"):
        difference_interval("gap", wbp, shifted)


def test_single_readers_are_left_to_the_cases(outcomes: list[Outcome]) -> None:
    assert "dice_reader1" in case_rows(outcomes[-1])[0]
    assert "dice_readers" in intervals(outcomes[-1])
    assert "dice_reader1" not in intervals(outcomes[-1])


def test_pictured_cases_do_not_depend_on_the_method(outcomes: list[Outcome]) -> None:
    assert typical_cases(outcomes[-1], 3) == typical_cases(outcomes[1], 3)
    assert len(segmentation_figure(outcomes[-1], 3).axes) == 12
    with pytest.raises(ValueError, match="no masks"):
        segmentation_figure(outcomes[0])


class Kept(Tracker):
    def __init__(self) -> None:
        self.metrics: dict[tuple[str, int], float] = {}
        self.files: list[str] = []

    @property
    def active(self) -> bool:
        return True

    def log_metrics(self, values: dict[str, float], step: int) -> None:  # type: ignore[override]
        self.metrics |= {(name, step): value for name, value in values.items()}

    def log_artifact(self, path: object, folder: str = "") -> None:
        self.files.append(f"{folder}/{Path(str(path)).name}")


def test_what_is_written_and_recorded(outcomes: list[Outcome], tmp_path: Path) -> None:
    tracker = Kept()
    write_outcomes(outcomes[:CENTRED], tmp_path, tracker, pictures=2)
    with (tmp_path / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == CENTRED * 5
    wbp = [row for row in rows if row["method"] == "wbp"]
    mean = np.mean([float(row["dice_union"]) for row in wbp])
    with (tmp_path / "summary.csv").open() as stream:
        summary = {row["method"]: row for row in csv.DictReader(stream)}
    assert float(summary["wbp"]["dice_union"]) == pytest.approx(mean, rel=1e-4)
    rules = json.loads((tmp_path / "rules.json").read_text())
    assert MaskRule(**rules[CENTRED - 2]["options"]) in RULES
    recorded = tracker.metrics["seg/dice_union/centred/wbp", 0]
    assert recorded == pytest.approx(mean, rel=1e-4)
    low = tracker.metrics["seg/dice_union/centred/wbp/low", 0]
    assert low <= recorded <= tracker.metrics["seg/dice_union/centred/wbp/high", 0]
    steps = [step for name, step in tracker.metrics if name == "seg_case/dice_union/centred/wbp"]
    assert steps == list(range(5))
    assert {"weak_segmentation/cases.csv", "pictures/wbp_centred.png"} <= set(tracker.files)


def test_names() -> None:
    assert modes_of("centred,shifted") == ["centred", "shifted"]
    with pytest.raises(UsageError, match="expected centred"):
        modes_of("middle")
    assert reference_of("majority") == "majority"
    with pytest.raises(UsageError, match="expected union or majority"):
        reference_of("readers")
    with pytest.raises(UsageError, match="no method 'xyz'"):
        saliency_methods("wbp,xyz")
    assert set(saliency_methods()) == set(METHODS)
