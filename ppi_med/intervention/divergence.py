"""Divergence is detected and reported by name, before the optimiser spoils the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_ADVICE = {
    "con": "L_con as printed (-CE) has no lower bound: use form 'bounded', a smaller con_weight or "
    "a warm-up",
    "ad": "lower ad_weight or the learning rate, and check that a removed region is not the whole "
    "image",
    "reg": "lower reg_weight, or measure L_reg per element",
    "cls": "lower the learning rate, and check inputs and labels for values that are not finite",
}


class DivergenceError(RuntimeError):
    """A term of the loss is not finite or too large.

    Attributes:
        term: its short name (`cls`, `con`, `ad`, `reg`).
        value: its value.
        epoch: when, from 1.
        iteration: when, from 1 over all epochs.
    """

    def __init__(self, term: str, value: float, reason: str, epoch: int, iteration: int) -> None:
        advice = _ADVICE.get(term, "lower its weight or the learning rate")
        super().__init__(f"L_{term} {reason} at epoch {epoch}, iteration {iteration}: {advice}.")
        self.term = term
        self.value = value
        self.epoch = epoch
        self.iteration = iteration


class DivergenceGuard:
    """Raises `DivergenceError` when a term is not finite or its weighted size passes a limit.

    All values are fetched from the device together, one wait for each check.

    Args:
        limit: highest |weight * term| (default 1000; a cross-entropy of a working network is below
            10).
        every: checks each `every`-th iteration (default 1); 0 never.

    Raises:
        ValueError: a limit that is not positive, or a negative `every`.

    Example:
        >>> guard = DivergenceGuard()
        >>> guard.check({"con": torch.tensor(0.7)}, {"con": 0.1}, epoch=1, iteration=1)
        >>> guard.check({"con": torch.tensor(float("nan"))}, {"con": 0.1}, epoch=2, iteration=9)
        Traceback (most recent call last):
        ...
        ppi_med.intervention.divergence.DivergenceError: L_con is nan at epoch 2, iteration 9: ...
    """

    def __init__(self, limit: float = 1e3, every: int = 1) -> None:
        if not limit > 0:
            raise ValueError(f"limit is {limit}, expected a number > 0.")
        if every < 0:
            raise ValueError(f"every is {every}, expected a number of iterations >= 0.")
        self.limit = limit
        self.every = every

    def check(
        self,
        values: Mapping[str, Tensor],
        weights: Mapping[str, float | Tensor],
        epoch: int,
        iteration: int,
    ) -> None:
        """Check the terms of one iteration.

        Args:
            values: short name -> scalar, not weighted.
            weights: short name -> weight; 1 where missing.
            epoch: from 1.
            iteration: from 1, over all epochs.

        Raises:
            DivergenceError: a term has diverged; the first one in the order given.
        """
        if not values or self.every == 0 or iteration % self.every:
            return
        parts: list[Tensor] = []
        for name, value in values.items():
            value = value.detach().float().reshape(())
            parts += [value, (value * weights.get(name, 1.0)).float().reshape(())]
        fetched = torch.stack(parts).tolist()
        pairs = zip(fetched[::2], fetched[1::2], strict=True)
        for name, (value, weighted) in zip(values, pairs, strict=True):
            self._check_one(name, value, weighted, epoch, iteration)

    def _check_one(
        self, name: str, value: float, weighted: float, epoch: int, iteration: int
    ) -> None:
        if not math.isfinite(value):
            raise DivergenceError(name, value, f"is {value}", epoch, iteration)
        if not abs(weighted) <= self.limit:
            reason = f"is {value:.4g}, weighted {weighted:.4g}, beyond the limit of {self.limit:g},"
            raise DivergenceError(name, value, reason, epoch, iteration)
