"""The last layer on a few labels: the draw, the figure, and the tables with and without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppi_med.data.datalist import load_parts
from ppi_med.evaluation.metrics import AUC
from ppi_med.experiments.cells import config_files
from ppi_med.experiments.few_labels import drawn, few_columns, few_label_aucs, few_values
from ppi_med.experiments.shortcut import Marks
from tests.bundles.tiny import BUNDLE, make_marked, run_bundle, settings


def test_a_draw_has_as_many_patients_of_each_class_each_once() -> None:
    cases = [{"label": k % 2, "subject": f"s{k // 4}{k % 2}"} for k in range(40)]
    for seed in range(5):
        chosen = drawn(cases, 8, seed)
        assert chosen is not None and [cases[k]["label"] for k in chosen] == [0] * 8 + [1] * 8
        assert len({cases[k]["subject"] for k in chosen}) == 16
    assert drawn(cases, 8, 0) == drawn(cases, 8, 0) != drawn(cases, 8, 1)
    assert drawn(cases, 11, 0) is None, "there are 10 patients of a class"


def test_records_without_it_show_nothing() -> None:
    old = {"mark": "band", "agreement": "1.0", "method": "plain", "seed": 0}
    old |= {"test/auc": 0.5, "cpu_seconds": 10}
    new = {**old, "method": "auto", "few_labels/20": 0.7, "few_labels/50": 0.8}
    (table,) = Marks.tables([old])
    assert not any("labels" in name for name in table.columns)
    (table,) = Marks.tables([old, new, {**new, "seed": 1, "few_labels/20": 0.6}])
    assert table.columns[-2:] == ("last layer on 20 labels", "last layer on 50 labels")
    rows = {row[0]: row[-2:] for row in table.texts()}
    assert rows["auto"] == ["0.650", "0.800"] and rows["plain"] == rows["ceiling"] == ["", ""]
    (table,) = Marks.tables([new, {**old, "method": "auto", "seed": 1}])
    assert table.texts()[0][-2:] == ["", ""], "the mean of a part would be of other seeds"
    assert few_columns([old]) == [] and few_values([old], []) == []


@pytest.mark.slow
def test_a_networks_features_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 eyes: 20 to train on, which here are the labelled ones too; 50 labels are too many."""
    counts = {"few_labels/8": "8", "few_labels/50": "50"}
    monkeypatch.setattr("ppi_med.experiments.few_labels._NAMES", counts)
    import torch
    from sklearn.linear_model import LogisticRegression

    from ppi_med.handlers import load_weights
    from ppi_med.inference.ga import standard_preprocessing
    from ppi_med.networks import MultiViewClassifier

    data = make_marked(tmp_path / "data")
    overrides = settings(data, tmp_path, method="plain", max_epochs=1)
    run_bundle("train.json", overrides)
    weights = tmp_path / "models" / "model.pt"
    found = few_label_aucs(config_files(BUNDLE), overrides, weights, data)
    assert set(found) == {"few_labels/8"}

    options = {"widths": [4, 8], "downsampling": "stride"}
    network = MultiViewClassifier("small_cnn", backbone_options=options).eval()
    load_weights(network, weights)
    seen: list[torch.Tensor] = []
    network.slice_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    parts = {part: load_parts(data / "datalist.json", part) for part in ("training", "test")}
    features = {}
    for part, cases in parts.items():
        rows = []
        for case in cases:
            seen.clear()
            image = _read(case["image"])
            item = standard_preprocessing((32, 40))({"image": image})
            with torch.no_grad():
                network(item["image"][None].as_subclass(torch.Tensor))
            rows.append(seen[0].reshape(-1, seen[0].shape[-1]).mean(0).double().numpy())
        features[part] = np.array(rows)
    labels = {part: np.array([case["label"] for case in cases]) for part, cases in parts.items()}
    aucs = []
    for seed in range(20):
        chosen = drawn(parts["training"], 4, seed)
        assert chosen is not None
        known = features["training"][chosen]
        mean, deviation = known.mean(0), known.std(0)
        deviation[deviation == 0] = 1
        model = LogisticRegression(max_iter=1000)
        model.fit((known - mean) / deviation, labels["training"][chosen])
        score = model.decision_function((features["test"] - mean) / deviation)
        aucs.append(float(AUC(labels["test"], score)))
    assert found["few_labels/8"] == pytest.approx(np.mean(aucs), abs=1e-3)


def _read(path: str) -> object:
    from ppi_med.data.oct.transforms import LoadOctVolumed

    return LoadOctVolumed(keys="image")({"image": path})["image"]
