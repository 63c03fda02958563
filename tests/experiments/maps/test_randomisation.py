"""The sanity check by block: WBP's maps change with the network, an edge detector's do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchvision import models

from ppi_med.errors import UsageError
from ppi_med.experiments.randomise import Randomisation, _table, blocks_of, correlation, passes
from ppi_med.experiments.records import FolderRecords
from ppi_med.experiments.run import run_experiment
from tests.experiments.maps.conftest import CLASSES, SIDE


def test_an_edge_detector_is_found_out(plan: Any, tmp_path: Path) -> None:
    made = plan()
    check = Randomisation(
        made.network, made.weights, made.images, ("wbp", "edges"), classes=CLASSES, side=SIDE
    )
    store = FolderRecords(tmp_path / "records")
    assert run_experiment(check, store) == {}
    edges, wbp = store.done()
    assert (
        edges["method"] == "edges" and passes(edges) is False and passes(edges, "signed") is False
    )
    assert [correlation(step, "absolute") for step in edges["steps"]] == pytest.approx(
        [1.0] * len(edges["steps"])
    )
    left = [correlation(step, "signed") for step in wbp["steps"]]
    assert left[-1] < 0.5 and passes(wbp, "signed") is True
    assert all(value < 0.999 for value in left)
    with pytest.raises(UsageError, match="seed: 0, now 1"):
        run_experiment(replace(check, seed=1), store)
    shown = Randomisation.tables(store.done())[1].lines()
    assert shown.startswith("| small_cnn, signed values: random from the output to | wbp | edges |")
    assert shown.rstrip().endswith("| yes | **no** |")


def test_constant_maps_are_named() -> None:
    step = {"layer": "fc", "absolute": [None, 0.4, -0.2], "signed": [None, None, None]}
    record = {"network": "net", "method": "wbp", "steps": [step]}
    assert correlation(step, "absolute") == pytest.approx(0.3)
    assert passes(record, "signed") is None
    assert "| fc | 0.30 (1 const.) |" in _table("net", {"wbp": record}, "absolute").lines()
    assert "| fc | const. |" in _table("net", {"wbp": record}, "signed").lines()


def test_blocks_of_real_networks() -> None:
    blocks = blocks_of(models.resnet18(weights=None))
    assert blocks[:3] == ["fc", "layer4.1", "layer4.0"] and blocks[-2:] == ["bn1", "conv1"]
    squeezenet = blocks_of(models.squeezenet1_1(weights=None))
    assert squeezenet[0] == "classifier.1" and squeezenet[-1] == "features.0"
    assert len(squeezenet) == 10
