from __future__ import annotations

import os
import signal

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.handlers import LrScheduleHandler, StatsHandler, ValidationHandler
from torch import nn

from ppi_med import naming
from ppi_med.handlers import AUC, BestCheckpoint, RecordModel, ResumeHandler, TrackingHandler
from ppi_med.handlers.epoch_lines import EpochMeans
from ppi_med.tracking import NullTracker
from ppi_med.tracking.run import RunTracker
from tests.tracking.stores import all_runs, history, mlflow_at, only_run

BATCHES = [
    {"image": torch.full((2, 3), float(i)), "label": torch.tensor([[0.0], [1.0]])} for i in range(4)
]


def tracker_in(location, folder, **options):
    return RunTracker(location, folder, **{"system_metrics": False, "config": {}, **options})


class Terms:
    """Puts further terms where PPI does, in every second step."""

    def attach(self, engine):
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.add)

    def add(self, engine):
        output = engine.state.output
        output[naming.LOSS_CLS] = output["loss"].detach()
        if engine.state.iteration % 2:
            value = torch.tensor(float(engine.state.iteration))
            output[naming.LOSS_CON] = value
            output["loss"] = output["loss"] + value
            engine.state.ppi_terms = {"ppi/area": float(engine.state.iteration)}


def training(*handlers, max_epochs=2, network=None, validate=True, interval=1, best=None):
    network = network or nn.Linear(3, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=BATCHES,
        network=network,
        key_val_metric={"val/auc": AUC()},
        val_handlers=[BestCheckpoint(network, best)] if best else [],
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    after = [ValidationHandler(interval=interval, validator=evaluator)] if validate else []
    return SupervisedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=BATCHES,
        network=network,
        optimizer=optimizer,
        loss_function=nn.BCEWithLogitsLoss(),
        # The tracking stands before what it is to see.
        train_handlers=[*handlers, LrScheduleHandler(schedule), *after],
    )


def test_an_epoch_is_recorded_with_all_that_belongs_to_it(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run")
    requests = []
    handler = TrackingHandler(
        tracker,
        state_attributes=["delta", "none"],
        output_transform=lambda output: {"mean_pred": output["pred"].mean()},
    )
    trainer = training(handler, Terms(), max_epochs=3, best=tmp_path / "model.pt")
    losses = []
    trainer.add_event_handler(
        IterationEvents.BACKWARD_COMPLETED, lambda e: losses.append(e.state.output["loss"].item())
    )
    trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda e: setattr(e.state, "delta", 1.0 / e.state.epoch)
    )
    log_metrics = tracker.log_metrics
    tracker.log_metrics = lambda values, step: (requests.append(step), log_metrics(values, step))
    trainer.run()

    assert requests == [1, 2, 3]
    client, run = only_run(location)
    assert run.info.status == "FINISHED"
    for epoch in (1, 2, 3):
        of_epoch = losses[4 * (epoch - 1) : 4 * epoch]
        total = dict(history(client, run, naming.LOSS_TOTAL))[epoch]
        assert total == pytest.approx(sum(of_epoch) / 4, rel=1e-6)
    # Two of four steps had it; in the others the last one's value still stands in the state.
    assert history(client, run, naming.LOSS_CON) == [(1, 2.0), (2, 6.0), (3, 10.0)]
    assert history(client, run, "ppi/area") == [(1, 2.0), (2, 6.0), (3, 10.0)]
    assert len(history(client, run, naming.LOSS_CLS)) == 3
    assert history(client, run, "lr") == [(1, 0.1), (2, 0.05), (3, 0.025)]
    assert [step for step, _ in history(client, run, "val/auc")] == [1, 2, 3]
    assert [step for step, _ in history(client, run, "best/val/auc")] == [1, 2, 3]
    assert history(client, run, "best/epoch")[0] == (1, 1.0)
    assert history(client, run, "delta") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert {"mean_pred", "time/epoch_seconds"} <= set(run.data.metrics)
    assert "none" not in run.data.metrics


def test_validation_is_recorded_only_in_epochs_that_had_one(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run")
    training(TrackingHandler(tracker), max_epochs=4, interval=2).run()
    client, run = only_run(location)
    assert [step for step, _ in history(client, run, "val/auc")] == [2, 4]


def test_without_ppi_the_loss_is_the_loss_of_classification(location, tmp_path):
    training(TrackingHandler(tracker_in(location, tmp_path / "run"))).run()
    client, run = only_run(location)
    assert history(client, run, naming.LOSS_CLS) == history(client, run, naming.LOSS_TOTAL)


def test_groups_of_parameters_have_a_learning_rate_each(location, tmp_path):
    trainer = training(TrackingHandler(tracker_in(location, tmp_path / "run")), max_epochs=1)
    trainer.optimizer.add_param_group(
        {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.3, "name": "head"}
    )
    trainer.optimizer.param_groups[0]["name"] = "cnn"
    trainer._event_handlers[Events.EPOCH_COMPLETED] = [
        entry
        for entry in trainer._event_handlers[Events.EPOCH_COMPLETED]
        if "LrSchedule" not in type(getattr(entry[0], "__self__", entry[0])).__name__
    ]
    trainer.run()
    metrics = only_run(location)[1].data.metrics
    assert metrics["lr/cnn"] == 0.1 and metrics["lr/head"] == 0.3


@pytest.mark.parametrize("others", [[], [StatsHandler()]])
@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(1), "KILLED")],
)
def test_however_training_breaks_the_run_says_so(location, tmp_path, others, error, status):
    tracker = tracker_in(location, tmp_path / "run")
    # StatsHandler raises on an exception, and would keep a later handler from hearing of it.
    trainer = training(*others, TrackingHandler(tracker))

    @trainer.on(Events.ITERATION_COMPLETED(every=6))
    def fail(engine):
        raise error

    with pytest.raises(type(error)):
        trainer.run()
    client, run = only_run(location)
    assert run.info.status == status
    assert run.data.tags["error"] == type(error).__name__
    assert [step for step, _ in history(client, run, "val/auc")] == [1]


def test_an_error_in_the_validation_fails_the_run(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run")
    trainer = training(TrackingHandler(tracker))
    with torch.no_grad():
        trainer.network.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        trainer.run()
    assert only_run(location)[1].info.status == "FAILED"


def test_sigterm_kills_the_run_and_ends_the_training(location, tmp_path):
    trainer = training(TrackingHandler(tracker_in(location, tmp_path / "run")), max_epochs=50)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=6), lambda: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(SystemExit) as ended:
        trainer.run()
    assert ended.value.code == 128 + signal.SIGTERM
    assert trainer.state.epoch == 2
    assert only_run(location)[1].info.status == "KILLED"


def test_a_resumed_training_goes_on_in_its_run(location, tmp_path):
    def train(epochs, error=None):
        torch.manual_seed(0)
        tracker = tracker_in(location, tmp_path / "run")
        trainer = training(
            ResumeHandler(tmp_path / "checkpoints"), TrackingHandler(tracker), max_epochs=epochs
        )
        if error is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=6), error)
        trainer.run()

    def lost():
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        train(3, lost)
    assert only_run(location)[1].info.status == "FAILED"
    train(3)
    client, run = only_run(location)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in history(client, run, "val/auc")] == [1, 2, 3]
    assert [step for step, _ in history(client, run, naming.LOSS_TOTAL)] == [1, 2, 3]


def test_the_run_of_the_checkpoint_is_entered_where_the_folder_lost_it(location, tmp_path):
    for folder in ("a", "b"):
        tracker = tracker_in(location, tmp_path / folder)
        resume = ResumeHandler(tmp_path / "checkpoints")
        training(resume, TrackingHandler(tracker)).run()
    assert len(all_runs(location)) == 1


def test_an_evaluation_is_recorded_in_a_run(location, tmp_path):
    tracker = tracker_in(location, tmp_path / "run")
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=BATCHES,
        network=nn.Linear(3, 1),
        key_val_metric={"test/auc": AUC()},
        val_handlers=[TrackingHandler(tracker, datasets={"test": [{"volume_id": "a"}]})],
    )
    evaluator.run()
    client, run = only_run(location)
    assert run.info.status == "FINISHED"
    assert history(client, run, "test/auc") == [(1, evaluator.state.metrics["test/auc"])]
    assert run.inputs.dataset_inputs[0].dataset.name == "test"


def test_switched_off_it_does_nothing_and_can_be_resumed_with(location, tmp_path):
    for tracker in (None, NullTracker(), tracker_in(location, tmp_path / "run")):
        handler = TrackingHandler(tracker)
        resume = ResumeHandler(tmp_path / "checkpoints")
        trainer = training(resume, handler, max_epochs=1 if handler.tracker.active is False else 2)
        trainer.run()
        if not handler.tracker.active:
            assert not trainer.has_event_handler(handler._collect)
            assert all_runs(location) == []
    client, run = only_run(location)
    assert [step for step, _ in history(client, run, "val/auc")] == [2]


def test_a_plain_ignite_engine(location, tmp_path):
    engine = Engine(lambda engine, batch: {"loss": batch})
    TrackingHandler(tracker_in(location, tmp_path / "run")).attach(engine)
    engine.run([1.0, 2.0], max_epochs=2)
    client, run = only_run(location)
    assert history(client, run, naming.LOSS_TOTAL) == [(1, 1.5), (2, 1.5)]


def test_the_best_weights_are_the_recorded_model(location, tmp_path):
    import mlflow

    network = nn.Linear(3, 1)
    tracker = tracker_in(location, tmp_path / "run")
    record = RecordModel(tracker, network, [3], weights=tmp_path / "best.pt", registered_name="m")
    trainer = training(TrackingHandler(tracker), record, network=network, validate=False)
    best = {"weight": torch.tensor([[1.0, 2.0, 3.0]]), "bias": torch.tensor([0.5])}
    torch.save(best, tmp_path / "best.pt")
    trainer.run()
    client, run = only_run(location)
    with mlflow_at(location):
        loaded = mlflow.pyfunc.load_model("models:/m/1")
    assert loaded.predict(torch.ones(1, 3).numpy()).item() == 6.5
    assert not torch.equal(network.weight, best["weight"])
    assert run.info.status == "FINISHED"


def test_attached_twice_it_is_refused(location, tmp_path):
    handler = TrackingHandler(None)
    handler.attach(Engine(lambda engine, batch: None))
    with pytest.raises(RuntimeError, match="attached once"):
        handler.attach(Engine(lambda engine, batch: None))


def test_means_survive_a_checkpoint_within_an_epoch():
    a, b = EpochMeans(), EpochMeans()
    a.add({"x": torch.tensor([1.0])})
    b.load_state_dict(a.state_dict())
    b.add({"x": 3})
    assert b.take() == {"x": 2.0}
    assert b.take() == {}
