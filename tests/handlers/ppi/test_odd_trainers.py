"""Losses and networks that PPI cannot train with: one sentence of ours, and nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn
from torch.nn import functional as F

from ppi_med.errors import UsageError
from ppi_med.handlers.ppi import PPIHandler
from ppi_med.handlers.step import PPIStep
from tests.handlers.ppi.trainers import batches, network, trainer


class Loss(nn.Module):
    """Cross-entropy, given back in another form."""

    def __init__(self, form: Callable[[Tensor], Any], of: Callable[[Any], Tensor] | None = None):
        super().__init__()
        self.form, self.of = form, of or (lambda output: output)

    def forward(self, output: Any, label: Tensor) -> Any:
        return self.form(F.cross_entropy(self.of(output), label))


class Wrapped(nn.Module):
    """A network whose output is in another form."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.form = network(), form

    def forward(self, image: Tensor) -> Any:
        return self.form(self.network(image))


class NoGradient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.network(image)


def frozen() -> nn.Module:
    return network().requires_grad_(False)


def last_layer_only() -> nn.Module:
    net = frozen()
    net[-1].requires_grad_(True)
    return net


def flat() -> nn.Module:
    """No ReLU, no BatchNorm, no convolution."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 2)).double()


def by_handler(net: nn.Module, loss: Any) -> None:
    trainer(net, batches(2), [PPIHandler()], loss_function=loss).run()


def by_step(net: nn.Module, loss: Any) -> None:
    (batch,) = batches(1)
    ppi = PPIStep()
    ppi.begin(1, 1)
    output = ppi.forward(net.train(), batch["image"])
    ppi.add_terms(loss(output, batch["label"]), batch["label"]).backward()


WAYS = [by_handler, by_step]
NO_NUMBER = "finds a loss that is a {}, expected one number as a tensor: take the entry that"
NOTHING = "PPI has nothing to train: the loss has no gradient, or every parameter of the network"
REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "dict": (network, Loss(lambda value: {"loss": value}), NO_NUMBER.format("dict")),
    "tuple": (network, Loss(lambda value: (value, {})), NO_NUMBER.format("tuple")),
    "float": (network, Loss(float), NO_NUMBER.format("float")),
    "a function's": (
        network, lambda output, label: {"all": F.cross_entropy(output, label)},
        NO_NUMBER.format("dict")),
    "detached": (network, Loss(Tensor.detach), NOTHING),
    "frozen": (frozen, Loss(Tensor.mean), NOTHING),
    "inference mode": (NoGradient, Loss(Tensor.mean), NOTHING),
}  # fmt: skip


@pytest.mark.parametrize("train", WAYS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_named(name: str, train: Any) -> None:
    make, loss, text = REFUSED[name]
    net = make()
    before = {key: value.clone() for key, value in net.state_dict().items() if "num_" not in key}
    with pytest.raises(UsageError, match=re.escape(text)):
        train(net, loss)
    for key, value in before.items():
        # Running statistics follow the clean forward, as in plain training.
        assert "running" in key or torch.equal(net.state_dict()[key], value), key
    assert not getattr(loss, "_forward_hooks", None)


TRAINED: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "a dict of logits": (
        lambda: Wrapped(lambda y: {"logits": y}), Loss(Tensor.mean, lambda y: y["logits"])),
    "logits and features": (
        lambda: Wrapped(lambda y: (y, y.exp())), Loss(Tensor.mean, lambda y: y[0])),
    "a list of logits": (lambda: Wrapped(lambda y: [y, y]), Loss(Tensor.mean, lambda y: y[1])),
    "the last layer only": (last_layer_only, Loss(Tensor.mean)),
    "no ReLU": (flat, Loss(Tensor.mean)),
    "a function": (network, F.cross_entropy),
}  # fmt: skip


@pytest.mark.parametrize("train", WAYS)
@pytest.mark.parametrize("name", TRAINED)
def test_what_can_be_trained_is(name: str, train: Any) -> None:
    make, loss = TRAINED[name]
    train(make(), loss)


def test_a_loss_of_each_image() -> None:
    """The stock trainer takes its mean; a loop of one's own has to."""
    loss = nn.CrossEntropyLoss(reduction="none")
    by_handler(network(), loss)
    with pytest.raises(UsageError, match=r"a tensor of shape \(6,\), expected one number"):
        by_step(network(), loss)


BAD_BATCHES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "images in a dict": (lambda x, y: ({"image": x}, y), "image is a dict, expected a tensor"),
    "a list of images": (lambda x, y: (list(x), y), "image is a list, expected a tensor"),
    "numpy": (lambda x, y: (x.numpy(), y), "image is a ndarray, expected a tensor"),
    "whole numbers": (lambda x, y: (x.to(torch.uint8), y), "image has dtype torch.uint8, expected"),
    "no images": (lambda x, y: (x[:0], y[:0]), "no element: skip empty batches"),
    "a list of labels": (lambda x, y: (x, y.tolist()), "labels are a list, expected a tensor"),
    "a label too many": (lambda x, y: (x, y.repeat(2)[:7]), "expected one class index per sample"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_batches_of_another_form(name: str) -> None:
    change, text = BAD_BATCHES[name]
    (batch,) = batches(1)
    image, label = change(batch["image"], batch["label"])
    ppi = PPIStep()
    ppi.begin(1, 1)
    with pytest.raises((TypeError, ValueError), match=text):
        output = ppi.forward(network().train(), image)
        ppi.add_terms(F.cross_entropy(output, batch["label"][: len(output)]), label)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), F.cross_entropy])
def test_nothing_stays_on_the_loss(loss: Any) -> None:
    engine = trainer(network(), batches(2), [PPIHandler()], loss_function=loss)
    for _ in range(2):  # a second run watches it again
        engine.run()
        assert engine.loss_function is loss and not getattr(loss, "_forward_hooks", None)


def test_other_handlers_keep_their_work() -> None:
    done = []
    engine = trainer(network(), batches(2), [PPIHandler()], loss_function=REFUSED["dict"][1])
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: done.append(error))
    engine.run()  # the last handler of the failure does not raise it again
    (error,) = done
    assert isinstance(error, UsageError)
