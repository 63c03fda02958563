"""What MONAI asks of a bundle, by its own functions, without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from ppi_med.bundle_tools.check import check_bundle
from ppi_med.bundle_tools.installed import open_bundle
from tests.bundles.tiny import BUNDLE, settings

META = str(BUNDLE / "metadata.json")
TRAIN = str(BUNDLE / "train.json")
# A copy of the rules that MONAI's schema has for metadata; its own lies on the internet.
SCHEMA = Path(__file__).with_name("metadata_schema.json")


def workflow(phantom: Path, tmp_path: Path):
    from monai.bundle import ConfigWorkflow

    return ConfigWorkflow(
        TRAIN, logging_file=False, workflow_type="train", **settings(phantom, tmp_path)
    )


def test_properties(phantom: Path, tmp_path: Path) -> None:
    found = workflow(phantom, tmp_path)
    found.initialize()
    assert found.check_properties() == []
    assert found.max_epochs == 2 and found.val_interval == 1
    assert len(found.train_dataset_data) == 17
    assert found.trainer.network is found.network_def
    assert found.version == json.loads(Path(META).read_text())["version"]


def test_metadata(tmp_path: Path) -> None:
    from monai.bundle import verify_metadata

    schema = tmp_path / "schema.json"
    shutil.copy(SCHEMA, schema)  # a schema that is there is not downloaded
    verify_metadata(meta_file=META, filepath=str(schema))
    broken = json.loads(Path(META).read_text())
    del broken["network_data_format"]["outputs"]["pred"]["dtype"]
    (tmp_path / "metadata.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="dtype"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(schema))


def test_versions_in_the_metadata_are_those_of_the_lock() -> None:
    metadata = json.loads(Path(META).read_text())
    text = (BUNDLE.parents[1] / "constraints.txt").read_text().lower()
    locked = dict(line.split(" ")[0].split("==") for line in text.splitlines() if "==" in line)
    named = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        **metadata["required_packages_version"],
    }
    named.pop("ppi_med")
    assert {name: locked[name] for name in named} == named


@pytest.mark.parametrize("config", ["train.json", "inference.json"])
def test_network_in_and_out(config: str) -> None:
    from monai.bundle import verify_net_in_out

    verify_net_in_out(
        "network_def", meta_file=META, config_file=str(BUNDLE / config), device="cpu", n=3
    )


def test_export(tmp_path: Path) -> None:
    from monai.bundle import ConfigParser, ckpt_export

    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(TRAIN)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=META,
        config_file=TRAIN,
    )
    files = {"metadata.json": "", "train.json": ""}
    script = torch.jit.load(str(tmp_path / "model.ts"), _extra_files=files)
    assert json.loads(files["metadata.json"]) == json.loads(Path(META).read_text("utf-8"))
    assert "network_def" in json.loads(files["train.json"])
    volume = torch.randn(1, 1, 7, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(script(volume), network(volume))


def test_every_id_resolves(phantom: Path, tmp_path: Path) -> None:
    overrides = settings(phantom, tmp_path)
    overrides["tracking_uri"] = f"sqlite:///{tmp_path}/runs.db"
    reports = check_bundle(open_bundle(BUNDLE), overrides=overrides)
    assert [report.title for report in reports] == [
        "train.json", "train.json + evaluate.json", "inference.json"
    ]  # fmt: skip
    assert [report.failures for report in reports] == [(), (), ()]
    # To look at a bundle must not begin a run.
    assert not (tmp_path / "runs.db").exists() and not (tmp_path / "run").exists()


def test_every_id_of_the_papers_settings_resolves(phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    overrides = settings(phantom, tmp_path)
    del overrides["network_def#backbone_options"], overrides["image_size"]
    report = check_bundle(open_bundle(BUNDLE), [BUNDLE / "paper.json"], overrides)[-1]
    assert report.title == "train.json + paper.json"
    assert report.failures == ()
