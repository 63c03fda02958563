"""The rules of MONAI's model zoo for a bundle, rebuilt as far as they need no network.

The zoo looks at a folder `models/NAME`: here it is what `ppi-med pack` wrote, unpacked. The last
class has the form of the zoo's own unit tests: train, evaluate, infer, each with its properties.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import unittest
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ppi_med.bundle_tools.installed import open_bundle
from ppi_med.bundle_tools.pack import pack_bundle
from ppi_med.bundle_tools.phantom_weights import FILE, LARGEST, phantom_weights
from tests.bundles import tiny, tiny_lidc
from tests.data.lidc.folders import write_nodules

ROOT = tiny.ROOT
NAMES = ("ga_ppi", "lidc_ppi")
# MONAI's own schema for metadata is on the internet; its rules are in this copy.
SCHEMA = Path(__file__).with_name("metadata_schema.json")
NECESSARY = ("configs/metadata.json", "LICENSE")
PREFERRED = ("models/model.pt", "configs/inference.json")


def unpack(name: str, folder: Path) -> Path:
    """Pack a bundle without the weights of any run, and unpack it as `models/NAME`."""
    copy = folder / "source" / name
    shutil.copytree(ROOT / "bundles" / name, copy, ignore=shutil.ignore_patterns("models", "runs"))
    packed = pack_bundle(open_bundle(copy), folder / f"{name}.zip")
    assert packed.of_phantom
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(folder / "models")
    return folder / "models" / name


@pytest.fixture(scope="module", params=NAMES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(request.param, tmp_path_factory.mktemp("zoo"))


def metadata(bundle: Path) -> dict[str, Any]:
    return dict(json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8")))


def test_necessary_and_preferred_files(bundle: Path) -> None:
    for name in (*NECESSARY, *PREFERRED, "docs/README.md", "configs/logging.conf"):
        assert (bundle / name).is_file(), name


def test_version_and_changelog(bundle: Path) -> None:
    found = metadata(bundle)
    assert found["version"] in found["changelog"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in found["changelog"])
    # Published zips bear name and version; ours is none of the zoo's.
    assert "model_info.json" not in {path.name for path in bundle.rglob("*")}


def test_metadata_follows_the_schema(bundle: Path) -> None:
    from monai.bundle import verify_metadata

    (bundle / "eval").mkdir(exist_ok=True)
    shutil.copy(SCHEMA, bundle / "eval" / "schema.json")
    meta, schema = bundle / "configs" / "metadata.json", bundle / "eval" / "schema.json"
    verify_metadata(meta_file=str(meta), filepath=str(schema))


def test_measured_values_are_those_of_the_weights(bundle: Path) -> None:
    measured = metadata(bundle)["eval_metrics"]
    found = phantom_weights(ROOT / "bundles" / bundle.name)
    assert found is not None
    assert measured == {"test_auc_on_the_phantom": found[1]["test_auc"]}
    assert 0.5 < found[1]["test_auc"] <= 1


def test_the_weights_are_small_and_say_what_they_are_of(bundle: Path) -> None:
    assert (ROOT / "bundles" / bundle.name / FILE).stat().st_size < LARGEST
    assert (bundle / "models" / "model.pt").stat().st_size < LARGEST
    facts = json.loads((bundle / "models" / "model.json").read_text())
    assert facts["data"] == "phantom, no patient" and "trained" in facts
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network(bundle).load_state_dict(state)


def network(bundle: Path) -> torch.nn.Module:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    made: torch.nn.Module = parser.get_parsed_content("network_def")
    return made.eval()


def test_input_and_output_of_the_network(bundle: Path) -> None:
    from monai.bundle import verify_net_in_out

    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        device="cpu",
        n=3,
    )


def test_the_output_is_called_what_it_is(bundle: Path) -> None:
    """A logit is no probability: the network's last layer gives any number."""
    output = metadata(bundle)["network_data_format"]["outputs"]["pred"]
    made = network(bundle)
    with torch.no_grad():
        for layer in made.modules():
            if isinstance(layer, torch.nn.Linear) and layer.out_features == 1:
                layer.bias.fill_(-5.0)
        size = (1, 1, 3, 64, 80) if bundle.name == "ga_ppi" else (1, 1, 40, 40)
        value = float(made(torch.zeros(size)).flatten()[0])
    assert (output["type"], output["format"]) != ("probabilities", "classes")
    assert not 0 <= value <= 1
    assert "logit" in output["channel_def"]["0"]


def test_torchscript_of_the_weights(bundle: Path) -> None:
    from monai.bundle import ckpt_export

    target = bundle.parent / f"{bundle.name}.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(target),
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )
    made = network(bundle)
    made.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    size = (1, 1, 5, 64, 80) if bundle.name == "ga_ppi" else (2, 1, 40, 40)
    image = torch.randn(size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(str(target))(image), made(image))


def test_no_script_is_named_that_is_not_packed(bundle: Path) -> None:
    packed = {path.name for path in bundle.rglob("*")}
    for path in bundle.rglob("*"):
        if path.suffix in (".json", ".md", ".conf") and path.name != "schema.json":
            text = path.read_text(encoding="utf-8")
            named = re.findall(r"[\w./-]+\.(?:py|sh|ipynb|toml)\b", text)
            assert {Path(name).name for name in named} <= packed, path.name
            assert "](../" not in text, f"{path.name} links out of the bundle"


class Ga:
    """The zoo's unit test of ga_ppi: its data, made for the test, and its overrides."""

    name = "ga_ppi"

    @staticmethod
    def data(folder: Path) -> Path:
        return tiny.make_phantom(folder / "data")

    @staticmethod
    def settings(data: Path, output: Path) -> dict[str, Any]:
        return tiny.settings(data, output)

    @staticmethod
    def inference(data: Path, output: Path) -> dict[str, Any]:
        volumes = sorted((data / "volumes").glob("*.nii.gz"))[0]
        return {"input": str(volumes), "output_dir": str(output)}


class Lidc:
    """The zoo's unit test of lidc_ppi."""

    name = "lidc_ppi"

    @staticmethod
    def data(folder: Path) -> Path:
        return write_nodules(folder / "data")

    @staticmethod
    def settings(data: Path, output: Path) -> dict[str, Any]:
        return tiny_lidc.settings(data, output, test_fold=1)

    @staticmethod
    def inference(data: Path, output: Path) -> dict[str, Any]:
        return {"dataset_dir": str(data), "output_dir": str(output), "maps": False}


class InTheFormOfTheZoo:
    """Train, evaluate, infer; what a workflow's properties lack fails, as in the zoo."""

    case: type[Ga] | type[Lidc]

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.root = unpack(self.case.name, self.folder)
        self.dataset_dir = self.case.data(self.folder)

    def tearDown(self) -> None:
        shutil.rmtree(self.folder)

    def run_workflow(self, kind: str | None, files: list[str], overrides: dict[str, Any]) -> None:
        from monai.bundle import ConfigWorkflow

        configs = [os.path.join(self.root, "configs", name) for name in files]
        workflow = ConfigWorkflow(
            workflow_type=kind,
            config_file=configs if len(configs) > 1 else configs[0],
            meta_file=os.path.join(self.root, "configs", "metadata.json"),
            logging_file=False,
            bundle_root=str(self.root),
            **overrides,
        )
        workflow.initialize()
        lacking = workflow.check_properties()
        if lacking:
            raise ValueError(f"check properties of {files} failed: {lacking}")
        workflow.run()
        workflow.finalize()

    def test_train_and_evaluate(self) -> None:
        overrides = self.case.settings(self.dataset_dir, self.folder / "trained")
        self.run_workflow("train", ["train.json"], overrides)
        evaluation = {**overrides, "output_dir": str(self.folder / "evaluated")}
        # An evaluation of ours has no trainer, which the properties of training ask for.
        self.run_workflow(None, ["train.json", "evaluate.json"], evaluation)
        assert (self.folder / "evaluated" / "test.json").is_file()

    def test_infer(self) -> None:
        """With the packed weights."""
        overrides = self.case.inference(self.dataset_dir, self.folder / "answers")
        self.run_workflow("infer", ["inference.json"], overrides)
        assert list((self.folder / "answers").glob("*.csv"))


@pytest.mark.slow
class TestGaPpi(InTheFormOfTheZoo, unittest.TestCase):
    case = Ga


@pytest.mark.slow
class TestLidcPpi(InTheFormOfTheZoo, unittest.TestCase):
    case = Lidc
