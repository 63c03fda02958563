from __future__ import annotations

import math

import mlflow
import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121

from ppi_med.naming import distinct
from ppi_med.tracking.models import write_model
from ppi_med.tracking.run import RunTracker
from tests.tracking.stores import mlflow_at, only_run


class Sliced(torch.nn.Module):
    """Any number of slices, and a batch norm that shows the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)

    def forward(self, image):
        return self.norm(image.mean(dim=2)).sum(dim=1, keepdim=True)


@pytest.fixture
def tracking_uri(location):
    with mlflow_at(location):
        yield location.uri


def test_it_loads_as_pyfunc_with_its_signature_and_is_registered(location, tmp_path, tracking_uri):
    network = Sliced().train()
    tracker = RunTracker(location, tmp_path / "run", config={}, system_metrics=False)
    tracker.start()
    example = torch.randn(2, 3, 5)
    tracker.log_model(network, example, registered_name="ga", free_axes=(0, 2), step=4)
    tracker.log_model(network, example, registered_name="ga")
    tracker.finish()
    assert network.training and network.norm.training

    client, run = only_run(location)
    outputs = sorted(run.outputs.model_outputs, key=lambda one: -one.step)
    assert [one.step for one in outputs] == [4, 0]
    loaded = mlflow.pyfunc.load_model(f"models:/{outputs[0].model_id}")
    inputs = np.random.default_rng(0).normal(size=(4, 3, 9)).astype(np.float32)
    expected = network.eval()(torch.from_numpy(inputs)).detach().numpy()
    np.testing.assert_array_equal(loaded.predict(inputs), expected)
    shapes = [spec.shape for spec in loaded.metadata.signature.inputs.inputs]
    assert shapes == [(-1, 3, -1)]
    assert loaded.metadata.run_id == run.info.run_id
    versions = client.search_model_versions("name='ga'")
    assert sorted(int(v.version) for v in versions) == [1, 2]
    again = mlflow.pyfunc.load_model("models:/ga/1")
    np.testing.assert_array_equal(again.predict(inputs), expected)
    assert not (tmp_path / "run" / "mlflow_model").exists()


def registered(location, folder, value, status="FINISHED", **tags):
    """A run that registers a version with this validation AUC, and the other way round of test."""
    told = {"bundle": "ga", "method": "plain", "train_site": "東京", **tags}
    tracker = RunTracker(location, folder, config={}, tags=told, system_metrics=False, resume=False)
    tracker.start()
    tracker.log_model(Sliced(), torch.randn(2, 3, 5), registered_name="目")
    tracker.log_metrics({"best/val/auc": value, "test/auc": 1 - value}, step=1)
    tracker.describe("Ready.")
    tracker.finish(status)
    return tracker


def test_each_version_has_tags_and_the_best_by_validation_an_alias(location, tmp_path):
    for value, status, tags in (
        (0.7, "FINISHED", {}),
        (0.9, "FINISHED", {}),
        (0.8, "FINISHED", {}),
        (0.95, "FAILED", {}),
        (math.nan, "FINISHED", {}),
        (0.99, "FINISHED", {"method": "irm"}),
        (0.5, "FINISHED", {"train_site": "Köln/1"}),
    ):
        last = registered(location, tmp_path / "run", value, status, **tags)
    client = last.store.client
    versions = {str(one.version): one for one in client.search_model_versions("name = '目'")}
    assert len(versions) == 7
    assert versions["2"].tags == {
        "bundle": "ga",
        "method": "plain",
        "train_site": "東京",
        "best/val/auc": "0.9000",
        "test/auc": "0.1000",
        "status": "FINISHED",
    }
    assert versions["2"].description.startswith("The bundle ga: plain, trained on 東京. Ready.")
    aliases = client.get_registered_model("目").aliases
    other = distinct("best-ga-plain-Köln/1", r"[^\w\-]", 250)
    assert {name: str(version) for name, version in aliases.items()} == {
        "best-ga-plain-東京": "2",
        "best-ga-irm-東京": "6",
        other: "7",
    }


@pytest.mark.slow
@pytest.mark.parametrize("serialization", ["pickle", "pt2"])
def test_both_formats_load_for_another_batch_size(tmp_path, serialization):
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=2).eval()
    write_model(network, torch.randn(2, 1, 32, 32), tmp_path / "model", serialization=serialization)
    inputs = torch.randn(3, 1, 32, 32)
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(inputs.numpy())
    np.testing.assert_allclose(found, network(inputs).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_what_loading_needs_is_written_down(tmp_path):
    write_model(Sliced(), torch.randn(2, 3, 5), tmp_path / "model", metadata={"epoch": 3})
    needs = (tmp_path / "model" / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.split('+')[0]}" in needs
    assert "+cpu" not in needs
    assert "epoch: 3" in (tmp_path / "model" / "MLmodel").read_text()


def test_a_single_sample_would_fix_the_batch(tmp_path):
    with pytest.raises(ValueError, match="expected 2 or more"):
        write_model(Sliced(), torch.randn(1, 3, 5), tmp_path / "m", serialization="pt2")
