"""What a handler does to a step is seen by the step, weighs alike, and costs no other its work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointSaver
from torch import Tensor, nn
from torch.nn import functional as F

from ppi_med.baselines import baseline
from ppi_med.errors import UsageError
from ppi_med.handlers.ppi import PPIHandler
from ppi_med.handlers.tracking import TrackingHandler
from ppi_med.intervention import DivergenceError, DivergenceGuard, PPITerms
from ppi_med.naming import LOSS_AD, LOSS_CON
from ppi_med.tracking import Tracker
from ppi_med.training.steps import LossScale, on_failure
from tests.handlers.ppi.trainers import batches, network, trainer


def _step(
    infer: bool = True, fire: bool = True, own_loss: bool = False, twice: bool = False
) -> Any:
    """An iteration_update as users write them."""

    def update(engine: SupervisedTrainer, batch: dict[str, Tensor]) -> dict[str, Any]:
        image, label = batch["image"], batch["label"]
        engine.network.train()
        engine.optimizer.zero_grad()
        pred = engine.inferer(image, engine.network) if infer else engine.network(image)
        loss = engine.loss_function(pred, label)
        output = {"image": image, "label": label, "pred": pred, "loss": loss}
        engine.state.output = output
        for _ in range(1 + twice):
            if fire:
                engine.fire_event(IterationEvents.LOSS_COMPLETED)
        (loss if own_loss else output["loss"]).backward()
        engine.optimizer.step()
        return output

    return update


CHANGES_INPUT = ("strong_augmentation", "rsc", "right_reasons")


@pytest.mark.parametrize("name", ["ppi", "group_dro", "irm", *CHANGES_INPUT])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fire": False}, "fired no LOSS_COMPLETED"),
        ({"own_loss": True}, "did not reach the backward pass"),
        ({"infer": False}, "no forward of its network in training"),
        ({"twice": True}, "LOSS_COMPLETED twice"),
    ],
)
def test_no_step_is_plain_without_a_word(name: str, options: dict[str, bool], message: str) -> None:
    data = [{**b, "site": ["a"] * 6, "lesion": b["image"] > 1} for b in batches(2)]
    handler = PPIHandler() if name == "ppi" else baseline(name)
    run = trainer(network(), data, [handler], iteration_update=_step(**options))
    sees_input = name == "ppi" or name in CHANGES_INPUT
    if "infer" in options and not sees_input:
        run.run()
        return
    with pytest.raises(UsageError, match=message) as caught:
        run.run()
    assert type(handler).__name__ in str(caught.value)
    assert run.state.iteration == 1


def test_a_whole_step_of_ones_own_trains_as_the_stock_one() -> None:
    own, stock = network(), network()
    trainer(own, batches(3), [PPIHandler()], iteration_update=_step()).run()
    trainer(stock, batches(3), [PPIHandler()]).run()
    for key, expected in stock.state_dict().items():
        assert torch.equal(own.state_dict()[key], expected), key


def test_a_forward_of_another_network_is_not_taken_for_the_trainers() -> None:
    teacher = network(seed=4).train()

    def update(engine: SupervisedTrainer, batch: dict[str, Tensor]) -> dict[str, Any]:
        engine.inferer(batch["image"], teacher)
        return _step()(engine, batch)  # type: ignore[no-any-return]

    own, stock = network(), network()
    trainer(own, batches(2), [PPIHandler()], iteration_update=update).run()
    trainer(stock, batches(2), [PPIHandler()]).run()
    torch.testing.assert_close(own[0].weight, stock[0].weight, rtol=0, atol=0)


def test_steps_that_shall_be_plain_may_be_anything() -> None:
    handler = PPIHandler(start_epoch=5)
    trainer(network(), batches(2), [handler], iteration_update=_step(fire=False)).run()
    assert handler.last is None


@pytest.mark.parametrize("missing", ["label", "pred", "loss"])
def test_what_the_output_lacks_is_named(missing: str) -> None:
    run = trainer(network(), batches(1), [PPIHandler()])
    run.add_event_handler(
        IterationEvents.LOSS_COMPLETED, lambda engine: engine.state.output.pop(missing)
    )
    entries = run._event_handlers[IterationEvents.LOSS_COMPLETED]
    entries.insert(0, entries.pop())
    with pytest.raises(UsageError, match=f"finds no '{missing}'"):
        run.run()


# Sums and means


class Focal(nn.Module):
    """A loss of a user, with a `reduction` of its own."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, label, reduction="none")
        loss = (1 - torch.exp(-loss)) ** 2 * loss
        return {"sum": loss.sum(), "mean": loss.mean(), "none": loss}[self.reduction]


WEIGHT = torch.tensor([1.0, 3.0], dtype=torch.float64)
PAIRS: dict[str, tuple[Any, Any]] = {
    "cross entropy": (nn.CrossEntropyLoss(reduction="sum"), nn.CrossEntropyLoss()),
    "weights of classes": (
        nn.CrossEntropyLoss(WEIGHT, reduction="sum"),
        nn.CrossEntropyLoss(WEIGHT),
    ),
    "a user's": (Focal("sum"), Focal("mean")),
    "a function": (
        lambda logits, label: F.cross_entropy(logits, label, reduction="sum"),
        F.cross_entropy,
    ),
    "none": (nn.CrossEntropyLoss(reduction="none"), nn.CrossEntropyLoss()),
    "a label of its own": (Focal("none"), Focal("mean")),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("method", ["ppi", "group_dro", "irm", "rsc"])
def test_terms_weigh_alike_beside_a_sum_and_a_mean(name: str, method: str) -> None:
    gradients = []
    for loss in PAIRS[name]:
        net = network()
        data = [{**b, "site": list("aabbab")} for b in batches(1)]
        handler = PPIHandler(terms=PPITerms(reg_weight=0.01, seed=3)) if method == "ppi" else None
        run = trainer(net, data, [handler or baseline(method)], loss_function=loss)
        plain = float(loss(net.train()(data[0]["image"]), data[0]["label"]).mean().detach())
        net.load_state_dict(network().state_dict())
        run.run()
        gradients.append([p.grad / plain for p in net.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_sum_of_few_and_many_samples_and_a_last_batch() -> None:
    scale, loss = LossScale(), nn.CrossEntropyLoss(reduction="sum")
    for size in (1, 7, 64, 3):
        logits, label = torch.randn(size, 2), torch.randint(0, 2, (size,))
        assert scale(loss, logits, label, loss(logits, label)) == pytest.approx(size, rel=1e-5)


def test_measuring_a_loss_draws_nothing() -> None:
    def noisy(logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits + torch.randn_like(logits) * 1e-6, label)

    logits, label = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    before = torch.get_rng_state()
    assert LossScale()(noisy, logits, label, torch.tensor(0.7)) == 1.0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_of_zero_is_measured_later() -> None:
    scale, loss = LossScale(), nn.CrossEntropyLoss(reduction="sum")
    sure, label = torch.tensor([[200.0, 0.0]] * 4), torch.zeros(4, dtype=torch.long)
    assert scale(loss, sure, label, loss(sure, label)) == 1.0
    unsure = torch.zeros(4, 2)
    assert scale(loss, unsure, label, loss(unsure, label)) == pytest.approx(4)


def test_a_large_sum_has_not_diverged() -> None:
    data = batches(2, size=40)
    guard = DivergenceGuard(limit=10)
    sums = nn.CrossEntropyLoss(reduction="sum")
    handler = PPIHandler(terms=PPITerms(guard=guard))
    slow = torch.optim.SGD((net := network()).parameters(), lr=1e-6)
    trainer(net, data, [handler], loss_function=sums, optimizer=slow).run()
    assert handler.last is not None


# Failures


def _fails(engine: Engine) -> None:
    if engine.state.iteration == 3:
        raise DivergenceError("ad", 1.0, "is too large", 1, 3)


class Notes(Tracker):
    def __init__(self) -> None:
        self.status: list[str] = []

    @property
    def active(self) -> bool:
        return True

    def finish(self, status: str = "FINISHED") -> None:  # type: ignore[override]
        self.status.append(status)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("kind", ["ppi", "rsc", "irm"])
def test_the_final_checkpoint_is_saved_wherever_it_stands(
    tmp_path: Path, order: tuple[int, ...], kind: str
) -> None:
    tracker, net = Notes(), network()
    handlers = [
        PPIHandler() if kind == "ppi" else baseline(kind),
        TrackingHandler(tracker),
        CheckpointSaver(str(tmp_path), {"net": net}, save_final=True),
    ]
    data = [{**b, "site": ["a"] * 6} for b in batches(4)]
    run = trainer(net, data, [handlers[number] for number in order])
    run.add_event_handler(IterationEvents.LOSS_COMPLETED, _fails)
    with pytest.raises(DivergenceError):
        run.run()
    assert list(tmp_path.glob("*.pt"))
    assert set(tracker.status) == {"FAILED"}


def test_an_error_while_another_is_dealt_with_costs_no_checkpoint(tmp_path: Path) -> None:
    class Full(Notes):
        def finish(self, status: str = "FINISHED") -> None:  # type: ignore[override]
            raise OSError("No space left on device")

    net = network()
    saver = CheckpointSaver(str(tmp_path), {"net": net}, save_final=True)
    run = trainer(net, batches(4), [TrackingHandler(Full()), PPIHandler(), saver])
    run.add_event_handler(IterationEvents.LOSS_COMPLETED, _fails)
    with pytest.raises(DivergenceError):
        run.run()
    assert list(tmp_path.glob("*.pt"))


def test_what_a_handler_of_failures_decides_is_left_to_it() -> None:
    # ignite takes an error as dealt with where the last handler does not raise it.
    def fails(engine: Engine, batch: int) -> None:
        raise KeyError("x")

    engine, seen = Engine(fails), []
    on_failure(engine, lambda engine, error: seen.append("ours"))
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: seen.append("theirs"))
    engine.run([1])
    assert seen[:2] == ["ours", "theirs"]
    alone = Engine(fails)
    on_failure(alone, lambda engine, error: seen.append("alone"))
    on_failure(alone, lambda engine, error: seen.append("two"))
    with pytest.raises(KeyError):
        alone.run([1])
    assert {"alone", "two"} <= set(seen)


# Shapes of heads


class Head(nn.Module):
    """A network whose head leaves spatial axes of length 1."""

    def __init__(self, classes: int, ones: int) -> None:
        super().__init__()
        self.body = network(classes=classes)
        self.ones = ones

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.body(image)
        return logits.reshape(*logits.shape, *[1] * self.ones)


@pytest.mark.parametrize("ones", [0, 1, 2, 3])
@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("label_ones", [0, 1, 3])
def test_heads_and_labels_of_any_form(ones: int, classes: int, size: int, label_ones: int) -> None:
    found = {}
    data = batches(1, size=size, classes=max(classes, 2))

    def loss(logits: Tensor, label: Tensor) -> Tensor:
        flat, index = logits.flatten(1), label.reshape(-1)
        if classes == 1:
            return F.binary_cross_entropy_with_logits(flat[:, 0], index.double())
        return F.cross_entropy(flat, index.long())

    for form in (0, ones):
        torch.manual_seed(0)
        net, handler = Head(classes, form), PPIHandler()
        shown = [{**b, "label": b["label"].reshape(-1, *[1] * label_ones)} for b in data]
        run = trainer(net, shown, [handler], loss_function=loss)
        run.run()
        found[form] = {k: float(run.state.output[k]) for k in (LOSS_CON, LOSS_AD)}
    assert found[ones] == found[0]
