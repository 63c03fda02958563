"""The bundle's inference.json: run as a user runs it, and MONAI's own checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run

from ppi_med.bundle_tools.check import check_workflow
from ppi_med.inference.ga import network_hash
from ppi_med.places import Account
from tests.inference.conftest import Writer, retina

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "ga_ppi"
CONFIG = "inference.json"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / CONFIG))
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    (tmp_path / "hash.txt").write_text(network_hash(network))
    return tmp_path / "model.pt"


def call(folder: Path, config: str, **options: Any) -> None:
    run(
        config_file=config,
        meta_file=str(folder / "none.json"),
        logging_file=False,
        device="cpu",
        **{
            name: str(value) if isinstance(value, Path) else value
            for name, value in options.items()
        },
    )


@pytest.mark.parametrize("place", ["root", "inside"])
def test_a_file_to_its_results(
    tmp_path: Path,
    write_mat: Writer,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    path = write_mat(tmp_path / "a.mat", retina(3, 80, 110))
    monkeypatch.chdir(ROOT if place == "root" else BUNDLE)
    config = f"bundles/ga_ppi/{CONFIG}" if place == "root" else CONFIG
    out = tmp_path / "out"
    mask = torch.zeros(64, 80, dtype=torch.bool)
    mask[:32] = True
    trained = {"place": Account(None, "place", fill="blind", mask=mask).facts()}
    checkpoint.with_suffix(".json").write_text(json.dumps({"trained": trained}))
    call(
        tmp_path,
        config,
        input=path,
        output_dir=out,
        checkpoint=checkpoint,
        spacing="0.01,0.004,0.03",
    )
    facts = json.loads((out / "a" / "result.json").read_text())
    assert facts["network"]["sha256"] == (tmp_path / "hash.txt").read_text()
    assert facts["network"]["checkpoint"] == "model.pt"
    assert facts["network"]["input"] == "B-scans of 80 x 110 resampled to 64 x 80"
    assert facts["spacing_mm"] == {"lateral": 0.01, "axial": 0.004, "between": 0.03}
    assert facts["shortcut"]["boxes"] == [{"rows": [0, 40], "columns": [0, 110]}]
    assert "it is blanked, in training and here" in facts["shortcut"]["sentence"]
    assert (out / "a" / "report.html").stat().st_size > 20_000


def test_the_exit_tells(
    tmp_path: Path, write_mat: Writer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mat(tmp_path / "in" / "good.mat", retina(3, 64, 96))
    (tmp_path / "in" / "bad.vol").write_text("no volume")
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as caught:
        call(
            tmp_path,
            f"bundles/ga_ppi/{CONFIG}",
            input=tmp_path / "in",
            output_dir=tmp_path / "out",
            checkpoint=checkpoint,
        )
    assert str(caught.value.code).startswith("1 file failed, 1 volume done.")
    assert "bad.vol" in str(caught.value.code)
    assert (tmp_path / "out" / "good" / "report.html").exists()


def test_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=r"No weights .*none\.pt: train the bundle first"):
        call(
            tmp_path,
            f"bundles/ga_ppi/{CONFIG}",
            input=tmp_path,
            output_dir=tmp_path / "out",
            checkpoint=tmp_path / "none.pt",
        )


def test_properties_of_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    versions = ("version", "monai_version", "pytorch_version", "numpy_version")
    meta = tmp_path / "metadata.json"
    meta.write_text(json.dumps(dict.fromkeys(versions, "1.0")))
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / CONFIG),
        meta_file=str(meta),
        logging_file=False,
        workflow_type="infer",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.inferer.method is not None


def test_every_id_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    report = check_workflow([BUNDLE / CONFIG])
    assert report.failures == ()


@pytest.mark.parametrize("key", ["network_def", "num_positions", "image_size", "dataset_dir"])
def test_what_training_decided_is_the_same(key: str) -> None:
    train, inference = (
        json.loads((BUNDLE / name).read_text(encoding="utf-8")) for name in ("train.json", CONFIG)
    )
    assert inference[key] == train[key]
    assert inference[key] is not None
