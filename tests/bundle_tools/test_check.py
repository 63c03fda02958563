from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ppi_med.bundle_tools.check import Report, check_bundle, check_workflow
from ppi_med.bundle_tools.installed import open_bundle
from ppi_med.errors import UsageError
from tests.bundle_tools.conftest import INFERENCE, TRAIN, write


def broken(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(TRAIN), **changes}


def check(folder: Path, content: dict[str, Any]) -> Report:
    return check_workflow([write(folder / "train.json", content)], folder / "metadata.json")


def keys(report: Report) -> list[str]:
    return [failure.key for failure in report.failures]


def test_a_bundle_in_order_resolves(folder: Path) -> None:
    said: list[str] = []
    reports = check_bundle(open_bundle(folder), say=said.append)
    assert said == ["checking train.json", "checking inference.json"]
    assert [report.title for report in reports] == ["train.json", "inference.json"]
    assert [report.failures for report in reports] == [(), ()]
    assert reports[0].resolved > len(TRAIN)


def test_nothing_of_the_life_cycle_is_executed(folder: Path) -> None:
    # The fixture's `initialize` raises and its `run` calls a method that does not exist.
    assert check(folder, TRAIN).failures == ()


def test_a_missing_reference_names_key_and_neighbour(folder: Path) -> None:
    report = check(folder, broken(network="$@netwrok_def.to(@device)"))
    assert keys(report) == ["network"]
    assert "@netwrok_def" in report.failures[0].reason
    assert "did you mean @network_def" in report.failures[0].reason


def test_only_the_first_cause_is_listed(folder: Path) -> None:
    # network, optimizer and run all depend on network_def.
    wrong = {"_target_": "torch.nn.Linear", "in_features": "@width"}
    report = check(folder, broken(network_def=wrong))
    assert keys(report) == ["network_def"]
    assert "out_features" in report.failures[0].reason


def test_independent_failures_are_all_listed(folder: Path) -> None:
    report = check(folder, broken(device="$torch.devise('cpu')", extra="$1 / 0", typo="@widht"))
    assert set(keys(report)) == {"device", "extra", "typo"}
    reasons = {failure.key: failure.reason for failure in report.failures}
    assert reasons["extra"].startswith("ZeroDivisionError")


def test_an_item_deep_in_a_list_is_named(folder: Path) -> None:
    content = broken()
    content["train"]["handlers"][1]["_target_"] = "torch.nn.NoSuchLayer"
    assert keys(check(folder, content)) == ["train::handlers::1"]


def test_life_cycle_references_and_syntax_are_checked(folder: Path) -> None:
    report = check(folder, broken(run=["$@train#trainr.run()"], finalize=["$print("]))
    assert set(keys(report)) == {"run::0", "finalize::0"}


def test_a_circle_is_named(folder: Path) -> None:
    report = check(folder, broken(a="@b", b="$@c + 1", c="@a"))
    assert len(report.failures) == 1
    assert "a -> b -> c -> a" in report.failures[0].reason


def test_metadata_can_be_referred_to(folder: Path) -> None:
    assert check(folder, broken(version="@_meta_#version")).failures == ()
    assert keys(check(folder, broken(version="@_meta_#vision"))) == ["version"]


def test_an_overlay_is_checked_over_the_training(folder: Path) -> None:
    overlay = write(folder / "paper.json", {"width": 6, "optimizer#lr": "@no_such"})
    reports = check_bundle(open_bundle(folder), [overlay])
    assert reports[-1].title == "train.json + paper.json"
    assert keys(reports[-1]) == ["optimizer::lr"]


def test_an_incomplete_evaluation_is_checked_over_the_training(folder: Path) -> None:
    write(folder / "evaluate.json", {"evaluator": "$@network.eval()", "run": "$@evaluator"})
    reports = check_bundle(open_bundle(folder))
    assert [r.title for r in reports] == [
        "train.json", "train.json + evaluate.json", "inference.json"
    ]  # fmt: skip
    assert all(not report.failures for report in reports)


def test_a_fault_of_its_own_does_not_move_a_file_onto_the_training(folder: Path) -> None:
    write(folder / "inference.json", {**INFERENCE, "typo": "@nowhere"})
    report = check_bundle(open_bundle(folder))[-1]
    assert report.title == "inference.json"
    assert keys(report) == ["typo"]


def test_overrides_reach_every_workflow_and_unknown_ones_are_refused(folder: Path) -> None:
    reports = check_bundle(open_bundle(folder), overrides={"network_def#in_features": "no number"})
    assert [keys(report) for report in reports] == [["network_def"], ["network_def"]]
    for unknown in ("nowhere#at#all", "nowhere"):
        with pytest.raises(UsageError, match="no such id"):
            check_bundle(open_bundle(folder), overrides={unknown: 1})


@pytest.mark.parametrize("key", ["width", "optimizer::lr", "train#handlers#1#inplace"])
def test_an_override_of_what_only_the_training_has(folder: Path, key: str) -> None:
    train, inference = check_bundle(open_bundle(folder), overrides={key: "@no_such"})
    assert keys(train) == [key.replace("#", "::")]
    assert keys(inference) == []


def test_a_key_that_is_missing_can_be_given(folder: Path) -> None:
    write(folder / "train.json", broken(extra="$@seed + 1"))
    assert keys(check_bundle(open_bundle(folder))[0]) == ["extra"]
    assert keys(check_bundle(open_bundle(folder), overrides={"seed": 3})[0]) == []


def test_modules_beside_the_configuration_are_found_and_the_path_restored(folder: Path) -> None:
    (folder / "beside_the_small_bundle.py").write_text("VALUE = 7\n")
    write(folder / "train.json", {"v": "$__import__('beside_the_small_bundle').VALUE", "run": "$1"})
    before = list(sys.path)
    assert check_bundle(open_bundle(folder))[0].failures == ()
    assert sys.path == before


@pytest.mark.parametrize("text", ["{", '{"a": 1, "a": 2}'])
def test_a_file_that_is_no_configuration_is_named(folder: Path, text: str) -> None:
    (folder / "train.json").write_text(text)
    with pytest.raises(UsageError, match=r"train\.json"):
        check_bundle(open_bundle(folder))


def test_a_missing_macro_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="macro"):
        check(folder, broken(width="%no_such_id"))


def test_the_zoo_layout_is_understood(folder: Path) -> None:
    configs = folder / "configs"
    configs.mkdir()
    for name in ("train.json", "inference.json", "metadata.json"):
        (folder / name).rename(configs / name)
    assert [report.failures for report in check_bundle(open_bundle(folder))] == [(), ()]


@pytest.mark.parametrize("make", [False, True])
def test_no_bundle_is_told(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "empty"
    if make:
        folder.mkdir()
    with pytest.raises(UsageError, match=r"train\.json" if make else "not a folder"):
        open_bundle(folder)


def test_what_monai_runs_is_what_was_checked(folder: Path) -> None:
    """The oracle: MONAI itself builds what the check passed, and refuses what it named."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(json.loads((folder / "train.json").read_text()))
    assert parser.get_parsed_content("optimizer").param_groups[0]["lr"] == 0.1
    parser = ConfigParser(broken(network="$@netwrok_def"))
    with pytest.raises(ValueError, match="netwrok_def"):
        parser.get_parsed_content("optimizer")
