from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from ppi_med.handlers import BestCheckpoint, EarlyStop

NAN = float("nan")


def loop(values, name="val/auc", *handlers_of_evaluator, stop=None, max_epochs=None):
    """Train with a validation a epoch that returns the values in turn."""
    trainer, evaluator = (Engine(lambda engine, batch: None) for _ in range(2))
    stop = stop and stop(evaluator)
    for handler in handlers_of_evaluator:
        handler.attach(evaluator)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.state.metrics = {name: values[engine.state.epoch - 1]}
        evaluator.state.max_epochs = None
        evaluator.run([0], max_epochs=1)
        evaluator.state.epoch = engine.state.epoch

    @evaluator.on(Events.STARTED)
    def count(engine):
        engine.state.epoch = trainer.state.epoch - 1
        engine.state.max_epochs = trainer.state.epoch

    if stop is not None:
        stop.attach(trainer)
    trainer.run([0], max_epochs=max_epochs or len(values))
    return trainer


def marked(network, path, **options):
    """A BestCheckpoint of a network whose weight counts the validations."""
    best = BestCheckpoint(network, path, **options)
    compare = best._compare

    def count_and_compare(engine):
        with torch.no_grad():
            network.weight.add_(1)
        compare(engine)

    best._compare = count_and_compare
    return best


@pytest.mark.parametrize(
    ("values", "name", "epoch"),
    [
        ([0.5, 0.9, 0.9, 0.8], "val/auc", 3),
        ([0.5, 0.4, 0.6], "val/loss", 2),
        ([NAN, 0.3, NAN, 0.2], "val/auc", 2),
        ([0.7], "val/auc", 1),
    ],
)
def test_the_best_epochs_weights_are_kept(tmp_path, values, name, epoch):
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
    best = marked(network, tmp_path / "model.pt", metric=name)
    loop(values, name, best)
    assert (best.epoch, best.value) == (epoch, values[epoch - 1])
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].item() == epoch
    found = json.loads((tmp_path / "model.json").read_text())
    assert found == {"metric": name, "value": values[epoch - 1], "epoch": epoch}


def test_the_first_of_equals_is_kept_where_asked_for(tmp_path):
    network = nn.Linear(1, 1, bias=False)
    best = BestCheckpoint(network, tmp_path / "model.pt", ties="first")
    loop([0.5, 0.9, 0.9], "val/auc", best)
    assert best.epoch == 2
    with pytest.raises(ValueError, match="ties is 'both'"):
        BestCheckpoint(network, tmp_path / "model.pt", ties="both")


def test_only_nan_writes_nothing(tmp_path):
    loop([NAN, NAN], "val/auc", BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt"))
    assert list(tmp_path.iterdir()) == []


def test_the_first_epochs_may_be_left_out(tmp_path):
    best = BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt", start_epoch=3)
    loop([0.9, 0.8, 0.5, 0.6], "val/auc", best)
    assert (best.epoch, best.value) == (4, 0.6)


def test_a_resumed_best_is_only_beaten_by_a_better_one(tmp_path):
    best = BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt")
    best.load_state_dict({"value": 0.8, "epoch": 5})
    loop([0.7, 0.75], "val/auc", best)
    assert best.state_dict() == {"value": 0.8, "epoch": 5}


def test_other_ranks_write_nothing(tmp_path):
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.rank, evaluator.state.metrics = 1, {"val/auc": 0.5}
    best = BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt")
    best.attach(evaluator)
    evaluator.run([0])
    assert best.value == 0.5 and list(tmp_path.iterdir()) == []


def test_a_missing_metric_is_named(tmp_path):
    with pytest.raises(KeyError, match=r"no metric 'val/auc', only \['val/acc'\]"):
        loop([0.5], "val/acc", BestCheckpoint(nn.Linear(1, 1), tmp_path / "model.pt"))


@pytest.mark.parametrize(
    ("values", "options", "epochs"),
    [
        ([0.5, 0.6, 0.6, 0.6, 0.9], {"patience": 2}, 4),
        ([0.5, 0.4, 0.6, 0.5, 0.7], {"patience": 2}, 5),
        ([0.5, 0.51, 0.52, 0.53], {"patience": 2, "min_delta": 0.1}, 3),
        ([0.5, NAN, NAN, 0.9], {"patience": 2}, 3),
        ([0.9, 0.5, 0.4, 0.5, 0.4, 0.3], {"patience": 2, "start_epoch": 3}, 6),
    ],
)
def test_training_stops_after_the_patience(values, options, epochs):
    trainer = loop(values, stop=lambda evaluator: EarlyStop(evaluator, **options))
    assert trainer.state.epoch == epochs


def test_losses_are_minimised():
    values = [0.5, 0.4, 0.45, 0.46, 0.1]
    trainer = loop(values, "val/loss", stop=lambda e: EarlyStop(e, patience=2, metric="val/loss"))
    assert trainer.state.epoch == 4


def test_wrong_options_are_refused():
    evaluator = Engine(lambda engine, batch: None)
    with pytest.raises(ValueError, match="patience=0"):
        EarlyStop(evaluator, patience=0)
    stop = EarlyStop(evaluator, patience=1)
    stop.attach(Engine(lambda engine, batch: None))
    with pytest.raises(RuntimeError, match="attached once"):
        stop.attach(Engine(lambda engine, batch: None))
    best = BestCheckpoint(nn.Linear(1, 1), "model.pt")
    best.attach(evaluator)
    with pytest.raises(RuntimeError, match="attached once"):
        best.attach(evaluator)
