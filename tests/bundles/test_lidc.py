"""The bundle lidc_ppi trains, evaluates, answers and resolves, in this process."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppi_med.bundle_tools.check import check_bundle
from ppi_med.bundle_tools.installed import open_bundle
from ppi_med.errors import UsageError
from tests.bundles.tiny_lidc import BUNDLE, ROOT, run_bundle, settings
from tests.data.lidc.folders import write_nodules


@pytest.fixture(scope="module")
def nodules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nodules(tmp_path_factory.mktemp("nodules"))


@pytest.fixture(scope="module")
def trained(nodules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_bundle("train.json", settings(nodules, folder, test_fold=1))
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_what_a_training_leaves(trained: Path) -> None:
    folder = trained
    facts = read(folder / "models" / "model.json")["trained"]
    assert (facts["method"], facts["architecture"], facts["fold"], facts["test_fold"]) == (
        "ppi_wbp_context", "small_cnn", 1, 1
    )  # fmt: skip
    summary = read(folder / "run" / "test.json")
    tested = rows(folder / "run" / "test_predictions.csv")
    assert summary["cases"] == len(tested) == 16
    for name in ("auc", "sensitivity", "specificity", "accuracy", "brier", "ece"):
        low, value, high = (summary[f"test/{name}{end}"] for end in ("_low", "", "_high"))
        assert 0 <= low <= value <= high <= 1, name
    validation = rows(folder / "run" / "validation_predictions.csv")
    assert not {r["subject"] for r in validation} & {r["subject"] for r in tested}
    called = [float(r["score"]) >= summary["test/threshold"] for r in tested if r["label"] == "1"]
    assert summary["test/sensitivity"] == pytest.approx(np.mean(called))
    pictures = {path.name for path in (folder / "run" / "pictures").glob("*.png")}
    assert "roc.png" in pictures and sum(name.startswith("case_") for name in pictures) == 4


def test_evaluation_repeats_the_test(trained: Path, nodules: Path, tmp_path: Path) -> None:
    folder = trained
    overrides = settings(nodules, folder, output_dir=str(tmp_path), test_fold=1)
    run_bundle(["train.json", "evaluate.json"], overrides)
    assert read(tmp_path / "test.json") == read(folder / "run" / "test.json")


def test_patients_of_the_training_are_no_test(trained: Path, nodules: Path, tmp_path: Path) -> None:
    for asked in ({}, {"test_fold": 0}):
        overrides = settings(nodules, trained, output_dir=str(tmp_path / "out"), **asked)
        error = fault(["train.json", "evaluate.json"], overrides)
        assert isinstance(error, UsageError) and "--test_fold 1" in str(error)
    # Weights without model.json stay usable.
    (tmp_path / "models").mkdir()
    for name in ("model.pt", "validation_predictions.csv"):
        shutil.copy(trained / "models" / name, tmp_path / "models" / name)
    run_bundle(["train.json", "evaluate.json"], settings(nodules, tmp_path, test_fold=0))
    assert (tmp_path / "run" / "test.json").is_file()


def test_inference_writes_probabilities_and_maps(
    trained: Path, nodules: Path, tmp_path: Path
) -> None:
    folder = trained
    known = settings(nodules, folder)
    overrides = {k: known[k] for k in ("device", "image_size", "field_mm", "architecture_options",
                                       "dataset_dir", "ckpt_dir")}  # fmt: skip
    run_bundle("inference.json", {**overrides, "output_dir": str(tmp_path)})
    answers = {r["volume_id"]: float(r["probability"]) for r in rows(tmp_path / "answers.csv")}
    assert len(answers) == 80
    for row in rows(folder / "run" / "test_predictions.csv"):
        assert answers[row["volume_id"]] == pytest.approx(float(row["score"]), abs=1e-5)
    with np.load(tmp_path / "maps.npz") as maps:
        assert maps["map"].shape == maps["image"].shape == (80, 16, 16)
        assert set(maps["volume_id"]) == set(answers) and np.abs(maps["map"]).max() > 0


def test_plain_training_on_one_site_with_another_network(nodules: Path, tmp_path: Path) -> None:
    overrides = settings(nodules, tmp_path, method="plain", max_epochs=1, sites="A", test_sites="B",
                         architecture="monai:DenseNet121")  # fmt: skip
    overrides["architecture_options"] = {"block_config": [1, 1], "growth_rate": 4,
                                         "init_features": 8}  # fmt: skip
    run_bundle("train.json", overrides)
    assert {r["site"] for r in rows(tmp_path / "run" / "test_predictions.csv")} == {"B"}
    facts = read(tmp_path / "models" / "model.json")["trained"]
    assert (facts["train_site"], facts["test_site"]) == ("A", "B")


def test_every_id_resolves(nodules: Path, tmp_path: Path) -> None:
    reports = check_bundle(open_bundle(BUNDLE), overrides=settings(nodules, tmp_path))
    assert [report.title for report in reports] == [
        "train.json", "train.json + evaluate.json", "inference.json"
    ]  # fmt: skip
    assert [report.failures for report in reports] == [(), (), ()]
    assert not (tmp_path / "run").exists()


def test_the_papers_settings_resolve(nodules: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    overrides = settings(nodules, tmp_path, architecture_options={})
    for name in ("image_size", "field_mm", "batch_size", "max_epochs"):
        del overrides[name]
    report = check_bundle(open_bundle(BUNDLE), [BUNDLE / "paper.json"], overrides)[-1]
    assert report.failures == ()
    paper = read(BUNDLE / "paper.json")
    assert (paper["architecture"], paper["image_size"], paper["lr"], paper["batch_size"]) == (
        "inception_v3", 299, 1e-4, 64
    )  # fmt: skip
    weights = paper["method_options"]
    assert (paper["method"], weights["con_weight"]) == ("ppi_wbp_soft", 10)
    assert (weights["reg_weight"], weights["ad_weight"]) == (0.1, 1)
    assert paper["rotate_degrees"] == 20 and paper["lr_scheduler"]["after"] == "@lr_after"


def test_properties(nodules: Path, tmp_path: Path) -> None:
    from monai.bundle import ConfigWorkflow

    found = ConfigWorkflow(
        str(BUNDLE / "train.json"), logging_file=False, workflow_type="train",
        **settings(nodules, tmp_path),
    )  # fmt: skip
    found.initialize()
    assert found.check_properties() == []
    assert found.trainer.network is found.network_def


@pytest.mark.parametrize("config", ["train.json", "inference.json"])
def test_network_in_and_out(config: str) -> None:
    from monai.bundle import verify_net_in_out

    verify_net_in_out(
        net_id="network_def", meta_file=str(BUNDLE / "metadata.json"),
        config_file=str(BUNDLE / config), device="cpu", n=1,
    )  # fmt: skip


def test_metadata(tmp_path: Path) -> None:
    from monai.bundle import verify_metadata

    schema = tmp_path / "schema.json"
    shutil.copy(ROOT / "tests/bundles/metadata_schema.json", schema)
    verify_metadata(meta_file=str(BUNDLE / "metadata.json"), filepath=str(schema))


def fault(files: str | list[str], overrides: dict[str, Any]) -> BaseException | None:
    """Return the error under those that MONAI wraps it in."""
    with pytest.raises(RuntimeError) as caught:
        run_bundle(files, overrides)
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, UsageError):
        error = error.__cause__
    return error


def test_without_data_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    error = fault("train.json", settings(tmp_path / "none", tmp_path))
    assert "ppi-med make-phantom lidc --output" in str(error)
    assert "--count 240 --variant nodule" in str(error)


README = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")


def documented() -> dict[str, str]:
    """Return the default behind each key of the README's table."""
    found: dict[str, str] = {}
    for line in README.split("## Keys")[1].split("\n## ")[0].splitlines():
        if line.startswith("| `"):
            names, default, *_ = (cell.strip() for cell in line.strip("|").split("|"))
            found |= dict.fromkeys(re.findall(r"`(\w+)`", names), default)
    return found


def test_every_key_is_documented_with_its_default() -> None:
    named = documented()
    for file in ("train.json", "evaluate.json", "paper.json", "multi_gpu.json"):
        keys = {re.split("#", key.removeprefix("+"))[0] for key in read(BUNDLE / file)}
        assert keys <= set(named), keys - set(named)
    for key, value in read(BUNDLE / "train.json").items():
        if named[key] == "made":
            assert str(value).startswith("$"), key
        elif named[key]:
            assert named[key] == f"`{json.dumps(value)}`", key
