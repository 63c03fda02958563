from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, StatsHandler, ValidationHandler
from torch import nn

from ppi_med.handlers import BestCheckpoint, EarlyStop, ResumeHandler
from ppi_med.training.state import handlers_of, stateful_parts


def trainer_with(*handlers, network=None, **options):
    network = network or nn.Linear(2, 1)
    return SupervisedTrainer(
        device="cpu",
        max_epochs=options.pop("max_epochs", 2),
        train_data_loader=[{"image": torch.ones(2, 2), "label": torch.ones(2, 1)}] * 3,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
        loss_function=nn.MSELoss(),
        train_handlers=list(handlers),
        **options,
    )


def evaluator_with(*handlers, network):
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=[{"image": torch.ones(2, 2), "label": torch.ones(2, 1)}],
        network=network,
        key_val_metric={"val/dice": MeanDice()},
        val_handlers=list(handlers),
    )


def test_all_that_has_a_state_is_found(tmp_path):
    network = nn.Linear(2, 1)
    best = BestCheckpoint(network, tmp_path / "model.pt")
    evaluator = evaluator_with(best, StatsHandler(), network=network)
    stop = EarlyStop(evaluator, patience=3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    schedules = [torch.optim.lr_scheduler.StepLR(optimizer, step_size=k) for k in (1, 2)]
    resume = ResumeHandler(tmp_path)
    trainer = trainer_with(
        resume,
        # Every second epoch: a filtered event wraps the handler.
        ValidationHandler(interval=2, validator=evaluator),
        *(LrScheduleHandler(schedule) for schedule in schedules),
        stop,
        StatsHandler(),
        network=network,
    )
    found = stateful_parts(trainer, ignore=resume)
    assert set(found) == {
        "network",
        "optimizer",
        "trainer",
        "evaluator",
        "StepLR",
        "StepLR.2",
        "BestCheckpoint",
        "EarlyStop",
    }
    assert found["network"] is network
    assert [found["StepLR"], found["StepLR.2"]] == schedules
    assert found["BestCheckpoint"] is best and found["EarlyStop"] is stop


def test_a_filtered_handler_is_seen_through():
    evaluator = evaluator_with(network=nn.Linear(2, 1))
    validation = ValidationHandler(interval=5, validator=evaluator)
    assert validation in list(handlers_of(trainer_with(validation)))


def test_a_wrapped_network_is_saved_without_its_wrapper():
    network = nn.Linear(2, 1)
    found = stateful_parts(trainer_with(network=nn.DataParallel(network)))
    assert found["network"] is network


def test_the_evaluators_best_metric_is_restored():
    first, second = (evaluator_with(network=nn.Linear(2, 1)) for _ in range(2))
    first.state.best_metric, first.state.best_metric_epoch = 0.8, 4
    states = [
        stateful_parts(trainer_with(ValidationHandler(interval=1, validator=one)))["evaluator"]
        for one in (first, second)
    ]
    states[1].load_state_dict(states[0].state_dict())
    assert (second.state.best_metric, second.state.best_metric_epoch) == (0.8, 4)


@pytest.mark.filterwarnings("ignore")
def test_the_gradient_scaler_is_resumed(tmp_path, monkeypatch):
    """MONAI makes it in `run`; here it is one that works on the CPU, and grows every third step."""
    scaler = partial(torch.amp.GradScaler, "cpu", init_scale=8.0, growth_interval=5)
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", scaler)

    def train(folder, max_epochs):
        torch.manual_seed(0)
        trainer = trainer_with(ResumeHandler(folder), amp=True, max_epochs=max_epochs)
        trainer.run()
        return trainer.scaler.state_dict(), trainer.network.weight.detach()

    whole = train(tmp_path / "whole", 6)
    train(tmp_path / "parts", 2)
    parts = train(tmp_path / "parts", 6)
    assert whole[0] == parts[0]
    assert whole[0]["scale"] == 8.0 * 2**3 and whole[0]["_growth_tracker"] == 3
    assert torch.equal(whole[1], parts[1])


def test_further_objects_are_saved_and_a_clash_of_names_is_refused(tmp_path):
    extra = nn.Linear(1, 1)
    trainer = trainer_with(ResumeHandler(tmp_path / "a", objects={"extra": extra}))
    trainer.run()
    saved = extra.weight.item()
    with torch.no_grad():
        extra.weight.zero_()
    trainer_with(ResumeHandler(tmp_path / "a", objects={"extra": extra})).run()
    assert extra.weight.item() == saved
    with pytest.raises(ValueError, match="names 'network'"):
        trainer_with(ResumeHandler(tmp_path / "b", objects={"network": extra})).run()


def test_naming_again_what_the_trainer_has_is_no_clash(tmp_path):
    network = nn.Linear(2, 1)
    resume = ResumeHandler(tmp_path, objects={"model": network})
    trainer_with(resume, network=network).run()
    assert set(resume.store.load()["objects"]) == {"network", "optimizer", "trainer"}
