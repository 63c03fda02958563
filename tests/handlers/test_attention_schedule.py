import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from ppi_med.handlers.attention_schedule import AttentionSchedule
from ppi_med.networks import MultiViewClassifier


@pytest.fixture
def network():
    return MultiViewClassifier(delta=10.0, delta_epochs=2, delta_final=0.01)


def run(network, **options):
    deltas = []
    trainer = Engine(lambda engine, batch: None)
    AttentionSchedule(network).attach(trainer)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: deltas.append(round(network.attention.delta, 4))
    )
    if "resume_after" in options:
        trainer.load_state_dict(
            {"epoch_length": 1, "max_epochs": 4, "iteration": options["resume_after"]}
        )
    trainer.run([0], max_epochs=4)
    return deltas


def test_each_epoch_has_its_delta(network):
    assert run(network) == [10.0, 1.0, 0.1, 0.1]


def test_resumed_trainer_goes_on_where_it_was(network):
    assert run(network, resume_after=1) == [1.0, 0.1, 0.1]


def test_schedule_acts_on_the_trained_delta(network):
    with torch.no_grad():
        network.attention.log_delta += torch.log(torch.tensor(2.0))
    assert run(network) == [20.0, 2.0, 0.2, 0.2]


def test_network_wrapped_for_parallel_training(network):
    AttentionSchedule(nn.DataParallel(network)).attach(trainer := Engine(lambda *_: None))
    trainer.run([0], max_epochs=2)
    assert network.attention.delta == pytest.approx(1.0)


def test_second_attachment_is_refused(network):
    trainer = Engine(lambda *_: None)
    handler = AttentionSchedule(network)
    handler.attach(trainer)
    with pytest.raises(RuntimeError, match="attached once"):
        handler.attach(trainer)


def test_network_without_schedule_is_refused():
    with pytest.raises(TypeError, match=r"Linear has no set_epoch\(epoch\)"):
        AttentionSchedule(nn.Linear(1, 1))
