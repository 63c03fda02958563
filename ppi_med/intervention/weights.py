"""Weights of the terms over time: fixed, stepped, warmed up, balanced to L_cls.

A weight is called once for each value of its term: `weight(epoch, iteration, term, reference)`.
Epoch and iteration count from 1, as in ignite's `engine.state`; the iteration counts on over
epochs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ppi_med.intervention.numeric import choose


class Weight(ABC):
    """The weight of one term of the loss."""

    @abstractmethod
    def __call__(
        self,
        epoch: int,
        iteration: int,
        term: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> float | Tensor:
        """Return the weight, without gradient.

        Args:
            epoch: from 1.
            iteration: from 1, over all epochs.
            term: the term's value now, a scalar.
            reference: the value of L_cls now, a scalar.
        """

    @property
    def off(self) -> bool:
        """Whether the weight is 0 at all times."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Return the state that an exact resume needs; empty for most.

        Its entries have the same names at all times.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (nothing to load)
        """Restore `state_dict()`."""


class ConstantWeight(Weight):
    """Always the same number.

    Examples:
        >>> ConstantWeight(0.1)(epoch=3, iteration=100)
        0.1
    """

    def __init__(self, value: float) -> None:
        self.value = _not_negative("value", value)

    def __call__(
        self,
        epoch: int,
        iteration: int,
        term: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> float:
        """Return the number."""
        return self.value

    @property
    def off(self) -> bool:
        """Whether the number is 0."""
        return self.value == 0


class _Scaled(Weight):
    """Another weight times a factor that depends on the time alone."""

    def __init__(self, weight: float | Weight) -> None:
        self.weight = make_weight(weight)

    @abstractmethod
    def factor_at(self, epoch: int, iteration: int) -> float:
        """Return the factor at this time."""

    def __call__(
        self,
        epoch: int,
        iteration: int,
        term: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> float | Tensor:
        """Return the weight at this time."""
        return self.weight(epoch, iteration, term, reference) * self.factor_at(epoch, iteration)

    @property
    def off(self) -> bool:
        """Whether the other weight is 0 at all times."""
        return self.weight.off

    def state_dict(self) -> dict[str, Any]:
        """Return the other weight's state."""
        return self.weight.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.weight.load_state_dict(state)


class StepWeight(_Scaled):
    """A weight that is multiplied once an epoch is over; on CUB x100 after epoch 20.

    Args:
        weight: before, a number or another weight (default 1).
        factor: multiplier afterwards (default 100).
        after_epoch: the last epoch before the change (default 20: epoch 21 is the first with it).

    Examples:
        >>> weight = StepWeight(0.01)
        >>> weight(epoch=20, iteration=1), weight(epoch=21, iteration=1)
        (0.01, 1.0)
    """

    def __init__(
        self, weight: float | Weight = 1.0, factor: float = 100.0, after_epoch: int = 20
    ) -> None:
        super().__init__(weight)
        self.factor = _not_negative("factor", factor)
        self.after_epoch = after_epoch

    def factor_at(self, epoch: int, iteration: int) -> float:
        """Return 1, after the epoch `factor`."""
        return self.factor if epoch > self.after_epoch else 1.0


class WarmUpWeight(_Scaled):
    """A weight that grows linearly at the start.

    It is multiplied by start + (1 - start) * done / length, at most 1, with `done` the finished
    epochs (or iterations): the first has `start`, number length + 1 the full weight.

    They count from the start of the training, even if PPI starts later (`start_epoch` of the
    handler): with length = start_epoch - 1 + n it reaches the full weight after n epochs of PPI.

    Args:
        weight: the full weight, a number or another weight.
        length: length of the warm-up, in `unit`s, more than 0.
        unit: `epoch` (default) or `iteration`.
        start: the first factor (default 0).

    Examples:
        >>> weight = WarmUpWeight(1.0, length=4)
        >>> [weight(epoch, iteration=1) for epoch in (1, 2, 5, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """

    def __init__(
        self, weight: float | Weight, length: int, unit: str = "epoch", start: float = 0.0
    ) -> None:
        if length <= 0:
            raise ValueError(f"length is {length}, expected a number of {unit}s > 0.")
        super().__init__(weight)
        self.length = length
        self.unit = choose("unit", unit, ("epoch", "iteration"))
        self.start = _not_negative("start", start)

    def factor_at(self, epoch: int, iteration: int) -> float:
        """Return the factor at this time."""
        done = (epoch if self.unit == "epoch" else iteration) - 1
        return self.start + (1 - self.start) * min(max(done / self.length, 0.0), 1.0)


class BalancedWeight(Weight):
    """Keeps a term at a fixed share of L_cls: ratio * running L_cls / running |term|, clipped.

    The running means have no gradient and stay on the device, so nothing waits for it. A value that
    is not finite is ignored.

    Args:
        ratio: size of the weighted term relative to L_cls (default 0.1).
        momentum: momentum of the running means (default 0.98); the first values start them.
        minimum: lower clip (default 0).
        maximum: upper clip (default 1), reached when the term is small.

    Examples:
        >>> weight = BalancedWeight(ratio=0.5)
        >>> weight(1, 1, term=torch.tensor(4.0), reference=torch.tensor(0.8))
        tensor(0.1000)
    """

    def __init__(
        self,
        ratio: float = 0.1,
        momentum: float = 0.98,
        minimum: float = 0.0,
        maximum: float = 1.0,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}, expected 0 <= momentum < 1.")
        if not minimum <= maximum:
            raise ValueError(f"minimum {minimum} is above maximum {maximum}: exchange them.")
        self.ratio = _not_negative("ratio", ratio)
        self.momentum = momentum
        self.minimum = _not_negative("minimum", minimum)
        self.maximum = _not_negative("maximum", maximum)
        self.running: Tensor | None = None  # (L_cls, |term|)

    def __call__(
        self,
        epoch: int,
        iteration: int,
        term: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> Tensor:
        """Update with both values and return the weight, a scalar tensor.

        Raises:
            ValueError: a value is missing.
        """
        if term is None or reference is None:
            raise ValueError("BalancedWeight needs the values of its term and of L_cls: pass both.")
        term = term.detach().float().reshape(())
        now = torch.stack([reference.detach().to(term).reshape(()), term.abs()])
        self.running = self._run_on(now)
        weight = self.ratio * self.running[0] / self.running[1].clamp(min=1e-12)
        return weight.clamp(self.minimum, self.maximum)

    def _run_on(self, now: Tensor) -> Tensor:
        if self.running is None:
            return now
        running = self.running.to(now)
        mixed = self.momentum * running + (1 - self.momentum) * now
        # A start that was not finite is replaced by the first finite values.
        mixed = torch.where(running.isfinite(), mixed, now)
        return torch.where(now.isfinite(), mixed, running)

    def state_dict(self) -> dict[str, Any]:
        """Return the running means (None before the first call)."""
        return {"running": None if self.running is None else self.running.cpu().clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`."""
        running = state["running"]
        self.running = None if running is None else running.detach().clone()


def make_weight(weight: float | Weight) -> Weight:
    """Return a weight as given, or of a constant number.

    Raises:
        ValueError: the number is negative or not finite.

    >>> make_weight(0.5)(1, 1)
    0.5
    """
    return weight if isinstance(weight, Weight) else ConstantWeight(weight)


def _not_negative(name: str, value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is {value}, expected a finite number >= 0.")
    return float(value)
