from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from torch import nn

from ppi_med.errors import UsageError
from ppi_med.evaluation.predictions import Predictions
from ppi_med.handlers import AUC, PredictionsHandler, TestSummary
from ppi_med.io import exclusive
from ppi_med.naming import OTHER_SITES, SAME_SITE, SELECTED
from ppi_med.tracking.base import Tracker


class Fixed(nn.Module):
    def __init__(self, sign=1.0):
        super().__init__()
        self.sign = sign

    def forward(self, image):
        return self.sign * image


def evaluator_of(*handlers, classes=1, n=5, sign=1.0, **changes):
    images = torch.randn(n, classes, generator=torch.Generator().manual_seed(0))
    batches = []
    for start in range(0, n, 2):
        rows = range(start, min(start + 2, n))
        batch = {
            "image": images[rows.start : rows.stop],
            "label": torch.tensor([[float(i % 2)] for i in rows]),
            "volume_id": [f"v{9 - i}" for i in rows],
            "subject": torch.tensor([i // 2 for i in rows]),
            "site": ["A" for _ in rows],
        }
        batches.append({k: v for k, v in {**batch, **changes}.items() if v is not None})
    network = Fixed(sign)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=batches,
        network=network,
        key_val_metric={"val/auc": AUC()},
        val_handlers=list(handlers),
    )
    return evaluator, images, network


@pytest.mark.parametrize("classes", [1, 2])
def test_the_table(tmp_path, classes):
    path = tmp_path / "out" / "predictions.csv"
    evaluator, images, _ = evaluator_of(PredictionsHandler(path), classes=classes)
    evaluator.run()
    evaluator.run()  # a second validation replaces the first
    found = Predictions.read(path)
    assert found.volume_id.tolist() == ["v5", "v6", "v7", "v8", "v9"]
    assert found.subject.tolist() == ["2", "1", "1", "0", "0"]
    assert set(found.site.tolist()) == {"A"}
    assert found.label.tolist() == [0, 1, 0, 1, 0]
    expected = images.double()
    expected = expected.sigmoid()[:, 0] if classes == 1 else expected.softmax(1)[:, 1]
    np.testing.assert_allclose(found.score, expected.numpy()[::-1], rtol=1e-12)
    np.testing.assert_array_equal(evaluator.state.predictions.score, found.score)


def test_unknown_subject_and_site_stay_unknown(tmp_path):
    evaluator, *_ = evaluator_of(PredictionsHandler(tmp_path / "p.csv"), subject=None, site=None)
    evaluator.run()
    assert set(Predictions.read(tmp_path / "p.csv").subject.tolist()) == {""}


def test_only_the_best_epoch_is_written(tmp_path):
    path = tmp_path / "p.csv"
    evaluator, _, network = evaluator_of(PredictionsHandler(path, best_only=True))
    evaluator.run()
    good = 1.0 if evaluator.state.metrics["val/auc"] > 0.5 else -1.0
    evaluator.state.best_metric_epoch = -1
    written = []
    for epoch, sign in enumerate([-good, good, -good], start=1):
        network.sign = sign
        evaluator.run(epoch)
        written.append(Predictions.read(path).score.tolist())
    assert written[0] != written[1] == written[2]


def test_a_batch_without_names_is_refused(tmp_path):
    evaluator, *_ = evaluator_of(PredictionsHandler(tmp_path / "p.csv"), volume_id=None)
    with pytest.raises(KeyError, match=r"no 'volume_id', only \['image'"):
        evaluator.run()


class Kept(Tracker):
    def __init__(self):
        self.predictions, self.metrics, self.calls = [], {}, []

    def log_predictions(self, text):
        self.predictions.append(Predictions.from_json(text))
        self.calls.append("predictions")

    def log_metrics(self, values, step):
        self.metrics |= values

    def finish(self, status="FINISHED"):
        self.calls.append(status)


def test_a_finished_run_holds_its_predictions_and_the_auc_of_each_site(tmp_path):
    weights = tmp_path / "model.pt"
    weights.with_suffix(".json").write_text('{"metric": "val/auc", "value": 0.875}')
    tracker = Kept()
    summary = TestSummary(
        None, tracker, repeats=20, finish=True, train_sites=["A", "A"], checkpoint=weights
    )
    rng = np.random.default_rng(0)
    rows = [
        {"volume_id": f"v{i}", "subject": "", "site": "AB"[i // 6], "label": i % 2, "score": s}
        for i, s in enumerate(rng.uniform(size=12))
    ]
    found = Predictions.from_rows(rows)
    engine = Engine(lambda engine, batch: setattr(engine.state, "predictions", found))
    summary.attach(engine)
    engine.run([0])
    assert tracker.calls == ["predictions", "FINISHED"]
    (kept,) = tracker.predictions
    assert kept.volume_id.tolist() == found.volume_id.tolist()
    for site, name in (("A", SAME_SITE), ("B", OTHER_SITES)):
        cases = found.of_site(site)
        positive, negative = (cases.score[cases.label == label] for label in (1, 0))
        expected = np.mean([a > b for a in positive for b in negative])
        assert tracker.metrics[f"test/auc/{site}"] == pytest.approx(expected)
        assert tracker.metrics[name] == tracker.metrics[f"test/auc/{site}"]
    assert tracker.metrics[SELECTED] == 0.875


def test_two_evaluations_into_one_file(tmp_path):
    def run(name):
        evaluator_of(PredictionsHandler(tmp_path / name))[0].run()

    with exclusive(tmp_path, name=".a.csv.lock"):
        with pytest.raises(UsageError, match="Another evaluation writes to"):
            run("a.csv")
        run("b.csv")
    run("a.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]
