"""Attaching, scheduling, reporting, and leaving nothing behind."""

from __future__ import annotations

import gc

import psutil
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.inferers import SimpleInferer

from ppi_med.handlers.ppi import PPIHandler
from ppi_med.intervention import DivergenceError, DivergenceGuard, PPITerms
from ppi_med.naming import LOSS_AD, LOSS_CLS, LOSS_CON, LOSS_REG
from tests.handlers.ppi.trainers import batches, network, trainer


def test_buffers_are_those_of_the_clean_images() -> None:
    # With a learning rate of 0 the weights stay, so the clean images alone decide the buffers.
    plain, ppi = network(), network()
    data = batches(300, size=4)
    for net, handlers in ((plain, []), (ppi, [PPIHandler()])):
        still = torch.optim.SGD(net.parameters(), lr=0.0)
        trainer(net, data, handlers, optimizer=still).run()
    for key, expected in dict(plain.named_buffers()).items():
        torch.testing.assert_close(dict(ppi.named_buffers())[key], expected, rtol=0, atol=0)


def test_batch_norm_all_lets_altered_images_move_buffers() -> None:
    clean, every = network(), network()
    data = batches(3)
    for net, mode in ((clean, "clean"), (every, "all")):
        still = torch.optim.SGD(net.parameters(), lr=0.0)
        trainer(net, data, [PPIHandler(batch_norm=mode)], optimizer=still).run()
    assert not torch.allclose(clean[1].running_mean, every[1].running_mean)
    assert int(every[1].num_batches_tracked) == 2 * int(clean[1].num_batches_tracked)


def test_memory_does_not_grow_over_300_steps() -> None:
    net = network(dtype=torch.float32)
    data = batches(300, size=8, dtype=torch.float32)
    counts: dict[int, tuple[int, int]] = {}

    def count(engine: Engine) -> None:
        if engine.state.iteration in (50, 300):
            gc.collect()
            tensors = sum(1 for o in gc.get_objects() if issubclass(type(o), torch.Tensor))
            counts[engine.state.iteration] = (tensors, psutil.Process().memory_info().rss)

    run = trainer(net, data, [PPIHandler(terms=PPITerms(fill="exchange", pairing="shared"))])
    run.add_event_handler(Events.ITERATION_COMPLETED, count)
    run.run()
    assert counts[300][0] <= counts[50][0]
    assert counts[300][1] - counts[50][1] < 8 * 2**20


def test_a_callers_gradients_are_untouched_until_backward() -> None:
    net = network()
    seen: list[bool] = []

    def mark(engine: Engine) -> None:
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, 7.0)

    def check(engine: Engine) -> None:
        seen.append(all(bool((p.grad == 7.0).all()) for p in net.parameters()))

    run = trainer(net, batches(2), [PPIHandler()])
    run.add_event_handler(IterationEvents.FORWARD_COMPLETED, mark)
    run.add_event_handler(IterationEvents.LOSS_COMPLETED, check)
    run.run()
    assert seen == [True, True]


def test_terms_are_in_the_output_and_in_the_state() -> None:
    handler = PPIHandler()
    run = trainer(network(), batches(1), [handler], decollate=True)
    run.run()
    for name in (LOSS_CLS, LOSS_CON, LOSS_AD, LOSS_REG):
        assert isinstance(run.state.output[0][name], float)
    assert run.state.ppi_terms is handler.last
    total = run.state.output[0][LOSS_CLS] + float(handler.last.total.detach())
    assert run.state.output[0]["loss"] == pytest.approx(total)


def test_every_and_start_epoch_choose_the_steps() -> None:
    handler = PPIHandler(every=3, start_epoch=2)
    with_ppi: list[tuple[int, int]] = []
    run = trainer(network(), batches(4), [handler], max_epochs=2)

    def note(engine: Engine) -> None:
        if LOSS_AD in engine.state.output:
            with_ppi.append((engine.state.epoch, engine.state.iteration))

    run.add_event_handler(Events.ITERATION_COMPLETED, note)
    run.run()
    assert with_ppi == [(2, 7)]


def test_detach_leaves_a_plain_trainer() -> None:
    handler = PPIHandler()
    net, plain = network(), network()
    run = trainer(net, batches(2), [handler])
    run.run()
    handler.detach()
    assert type(run.inferer) is SimpleInferer
    net.load_state_dict(network().state_dict())
    run.optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    run.state.max_epochs = 2
    run.run()
    trainer(plain, batches(2)).run()
    torch.testing.assert_close(net[0].weight, plain[0].weight)


def test_attach_twice_is_refused() -> None:
    handler = PPIHandler()
    run = trainer(network(), batches(1), [handler])
    with pytest.raises(RuntimeError, match="attached already"):
        handler.attach(run)
    with pytest.raises(RuntimeError, match="another PPIHandler"):
        trainer(network(), batches(1), [PPIHandler(), PPIHandler()]).run()
    with pytest.raises(TypeError, match="SupervisedTrainer"):
        PPIHandler().attach(Engine(lambda e, b: None))


def test_an_error_in_the_step_is_raised_and_nothing_is_kept() -> None:
    handler = PPIHandler(terms=PPITerms(guard=DivergenceGuard(limit=1e-9)))
    run = trainer(network(), batches(1), [handler])
    with pytest.raises(DivergenceError):
        run.run()
    assert handler._inferer is not None
    assert handler._inferer.recording is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"batch_norm": "none"}, "batch_norm is 'none'"),
        ({"differentiable": False, "terms": PPITerms(reg_weight=0.1)}, "L_reg has a weight"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPIHandler(**options)  # type: ignore[arg-type]


def test_resume_goes_on_bit_for_bit() -> None:
    data = batches(6)
    through, first = network(), network()
    terms = {"fill": "exchange", "pairing": "shared", "seed": 5}
    trainer(through, data, [PPIHandler(terms=PPITerms(**terms))]).run()  # type: ignore[arg-type]
    early = PPIHandler(terms=PPITerms(**terms))  # type: ignore[arg-type]
    trainer(first, data[:3], [early]).run()
    second = network(seed=9)
    second.load_state_dict(first.state_dict())
    late = PPIHandler(terms=PPITerms(**terms))  # type: ignore[arg-type]
    late.load_state_dict(early.state_dict())
    trainer(second, data[3:], [late]).run()
    for key, expected in through.state_dict().items():
        assert torch.equal(second.state_dict()[key], expected), key
