"""What handlers that change a trainer's step share: a check, the scale of the loss, failures.

A handler that changes the loss must not be left out silently, must have the same weight whether the
loss sums or averages, and must not keep other handlers from their work.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from functools import wraps
from types import SimpleNamespace
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.errors import UsageError
from ppi_med.training.recording import check_loss, repeated

_STOCK = (
    "the step of monai's SupervisedTrainer does; an iteration_update of your own has to call "
    "engine.inferer(images, engine.network), put image, label, pred and loss into "
    "engine.state.output, fire IterationEvents.LOSS_COMPLETED and go backward from "
    'engine.state.output["loss"]'
)
NOT_SEEN = "no forward of its network in training went through engine.inferer"

logger = logging.getLogger(__name__)


class StepWatch:
    """Checks that the backward pass of a step uses the loss that a handler has changed.

    Attributes:
        wanted: whether the handler must take part in this step.

    Args:
        name: name of the handler, for errors.

    Examples:
        >>> watch = StepWatch("PPIHandler")
        >>> watch.begin()
        >>> watch.end(Engine(lambda engine, batch: None))
        Traceback (most recent call last):
        ...
        ppi_med.errors.UsageError: PPIHandler had no part in iteration 0: ...
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.wanted = self._seen = self._backward = False

    def begin(self, wanted: bool = True) -> None:
        """Begin a step, and say whether the handler must take part."""
        self.wanted, self._seen, self._backward = wanted, False, False

    def seen(self, total: Tensor) -> None:
        """Record the loss that the handler has made."""
        self._seen, self._backward = True, not total.requires_grad
        if total.requires_grad:
            total.register_hook(self._note_backward)

    def refuse_second(self) -> None:
        """Refuse a step that fires LOSS_COMPLETED twice.

        Raises:
            UsageError: if the handler has seen a loss in this step.
        """
        if self._seen:
            raise UsageError(
                f"A step fires LOSS_COMPLETED twice, and {self.name} knows one forward and one "
                "loss a step: make two steps of it."
            )

    def end(self, engine: Engine) -> None:
        """End the step.

        Raises:
            UsageError: if the handler had to take part and did not.
        """
        wanted, self.wanted = self.wanted, False
        if not wanted or (self._seen and self._backward):
            return
        what = (
            "its loss did not reach the backward pass"
            if self._seen
            else "the step fired no LOSS_COMPLETED"
        )
        self.refuse(engine, what)

    def refuse(self, engine: Engine, what: str) -> None:
        """Raise the error that says what the handler lacks in a step."""
        raise UsageError(
            f"{self.name} had no part in iteration {engine.state.iteration}: {what}. It needs what "
            f"{_STOCK}."
        )

    def _note_backward(self, gradient: Tensor) -> None:
        self._backward = True


class LossScale:
    """The factor between a trainer's loss and its mean over the batch: 1, or N for a sum.

    Terms that are added to the loss are multiplied by it, so their weight is the same for both. The
    first step measures whether the loss sums, on the batch and on the batch taken twice.

    Examples:
        >>> scale, loss = LossScale(), torch.nn.CrossEntropyLoss(reduction="sum")
        >>> logits, label = torch.zeros(6, 2), torch.tensor([0, 1, 1, 0, 0, 1])
        >>> round(scale(loss, logits, label, loss(logits, label)), 4)
        6.0
    """

    def __init__(self) -> None:
        self._sums: bool | None = None

    def __call__(
        self, loss_function: Callable[..., Any], prediction: Any, label: Any, loss: Tensor
    ) -> float:
        """Return the factor of this batch.

        Args:
            loss_function: the trainer's.
            prediction: its input, `(N, ...)` or a collection of such.
            label: likewise.
            loss: its result, averaged.
        """
        if self._sums is False:
            return 1.0
        value, size = float(loss.detach()), _size(label)
        with torch.no_grad():
            if self._sums is None:
                self._sums = _measured(loss_function, prediction, label, value, size)
            if not self._sums:
                return 1.0
            mean = _mean(loss_function, prediction, label)
        # With class weights a mean is not the sum over N: ask the loss itself.
        exact = mean is not None and mean != 0 and not math.isclose(mean, value, rel_tol=1e-4)
        return value / mean if exact and mean else float(size)


def _measured(
    loss_function: Callable[..., Any], prediction: Any, label: Any, value: float, size: int
) -> bool | None:
    """Say whether a loss of twice the batch is twice the loss; None where it is 0 or infinite."""
    if value == 0 or not math.isfinite(value):
        return None
    twice = [repeated(part, size, 2) for part in (prediction, label)]
    devices = [label.device] if getattr(label, "is_cuda", False) else []
    try:
        # A loss may draw random numbers: the training's own state must not change.
        with torch.random.fork_rng(devices=devices):
            found = float(loss_function(*twice).mean())
    except Exception as error:
        logger.warning("The loss takes no batch of %d, it counts as a mean: %s", 2 * size, error)
        return False
    return math.isclose(found, 2 * value, rel_tol=1e-2)


def _mean(loss_function: Callable[..., Any], prediction: Any, label: Any) -> float | None:
    """Return the value of the loss with `reduction="mean"`; None if it has no such choice."""
    if getattr(loss_function, "reduction", None) != "sum":
        return None
    twin: Any = copy.copy(loss_function)
    twin.reduction = "mean"
    return float(twin(prediction, label).mean())


def _size(label: Any) -> int:
    return int(label.shape[0]) if isinstance(label, Tensor) and label.ndim else len(label)


def entry(output: Any, key: str, name: str) -> Any:
    """Return an entry of a step's output.

    Raises:
        UsageError: if the step has left none.
    """
    if isinstance(output, Mapping) and key in output:
        return output[key]
    kind = ", ".join(map(str, output)) if isinstance(output, Mapping) else type(output).__name__
    raise UsageError(
        f"{name} finds no '{key}' in engine.state.output ({kind}). It needs what {_STOCK}."
    )


def loss_of(output: Any, name: str) -> Tensor:
    """Return the loss of a step's output, a scalar.

    Raises:
        UsageError: if it is something else.
    """
    loss = entry(output, CommonKeys.LOSS, name)
    check_loss(loss, name)
    return cast(Tensor, loss)


def watch_loss(engine: Any, name: str) -> Any:
    """Check what a trainer's loss function returns; `remove()` of the result ends that.

    The trainer takes the mean of it before any handler sees it: of a dict that is an error of its
    own, which names neither loss nor remedy.
    """
    loss = engine.loss_function
    if isinstance(loss, nn.Module):
        return loss.register_forward_hook(lambda _, __, f: check_loss(f, name, summed=False))

    @wraps(loss)
    def checked(*args: Any, **kwargs: Any) -> Any:
        found = loss(*args, **kwargs)
        check_loss(found, name, summed=False)
        return found

    engine.loss_function = checked
    return SimpleNamespace(remove=lambda: setattr(engine, "loss_function", loss))


def on_failure(engine: Engine, call: Callable[[Engine, BaseException], None]) -> Any:
    """Call something if a run fails, and let every other handler of the failure run too.

    ignite lets the handlers of `EXCEPTION_RAISED` raise the error, and handlers after one that
    raises are never called: a checkpoint would not be saved. So this one goes first, and raises
    only if it is the last.

    Args:
        engine: an engine that may fail.
        call: called with the engine and the error; it may be called twice for one error, when it
            leaves the epoch and when it leaves the run.

    Returns:
        A handle whose `remove()` removes it.
    """

    def react(engine: Engine, error: BaseException) -> None:
        try:
            call(engine, error)
        except Exception:
            logger.exception("A handler failed while it dealt with %s.", type(error).__name__)
        if entries[-1][0] is react:
            raise error

    removal = engine.add_event_handler(Events.EXCEPTION_RAISED, react)
    entries = engine._event_handlers[Events.EXCEPTION_RAISED]
    entries.insert(0, entries.pop())
    return removal
