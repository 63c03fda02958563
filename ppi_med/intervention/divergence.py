"""Detects divergence and names the term, before the optimiser spoils the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_MAP_ADVICE = (
    "use larger images or batches (normalisation over few values makes the gradient through the "
    "map large), or differentiable=False (the map is then a constant), or lower con_weight and "
    "ad_weight"
)
_ADVICE = {
    "con": "L_con as printed (-CE) has no lower bound: use form 'bounded', a smaller con_weight or "
    "a warm-up",
    "ad": "lower ad_weight or the learning rate, and check that a removed region is not the whole "
    "image",
    "reg": "lower reg_weight, or measure L_reg per element",
    "cls": "check inputs and labels for values that are not finite; if they are right, earlier "
    "steps were too large: lower the learning rate or the weights of PPI's terms, whose gradient "
    "is in each step too",
    "ppi": "lower con_weight and ad_weight",
}


class DivergenceError(RuntimeError):
    """A term of the loss is not finite or too large.

    Attributes:
        term: its short name (`cls`, `con`, `ad`, `reg`), or `ppi` for the gradient of all terms.
        value: its value.
        epoch: its epoch, from 1.
        iteration: its iteration, from 1 over all epochs.
    """

    def __init__(
        self,
        term: str,
        value: float,
        reason: str,
        epoch: int,
        iteration: int,
        advice: str | None = None,
    ) -> None:
        advice = advice or _ADVICE.get(term, "lower its weight or the learning rate")
        name = "The gradient of PPI's terms" if term == "ppi" else f"L_{term}"
        super().__init__(f"{name} {reason} at epoch {epoch}, iteration {iteration}: {advice}.")
        self.term = term
        self.value = value
        self.epoch = epoch
        self.iteration = iteration


class DivergenceGuard:
    """Raises `DivergenceError` when a term is not finite or its weighted size passes a limit.

    All values are fetched from the device together, with one wait per check.

    Args:
        limit: highest |weight * term| (default 1000; a cross-entropy of a working network is below
            10).
        every: checks each `every`-th iteration (default 1); 0 never.

    Raises:
        ValueError: a limit that is not positive, or a negative `every`.

    Examples:
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


class GradientGuard:
    """Raises `DivergenceError` before a step whose gradient of PPI's terms dwarfs that of L_cls.

    Losses of an ordinary size can have a gradient that ruins the weights in one step: the map's own
    derivative passes every normalisation twice, and over few values (a batch of 2 at 1 x 1 pixels)
    that has no bound. The gradient is measured before the optimiser uses it, and compared with the
    largest gradient of L_cls so far. A measurement costs two backward passes, so it is made in
    steps 1, 2, 4, 8 ... with PPI, and when a weight has grown by half.

    Args:
        limit: highest ratio of the two norms (default 100); 0: never measure.

    Attributes:
        ratio: ratio of the last measurement; None before.

    Examples:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> guard = GradientGuard(limit=10)
        >>> guard.check(5 * weight.sum(), weight.sum(), [weight], {"ad": 1.0}, 1, 1, False)
        >>> guard.ratio
        5.0
        >>> guard.check(50 * weight.sum(), weight.sum(), [weight], {"ad": 2.0}, 1, 2, False)
        Traceback (most recent call last):
        ...
        ppi_med.intervention.divergence.DivergenceError: The gradient of PPI's terms is 50 times ...
    """

    def __init__(self, limit: float = 100.0) -> None:
        if not limit >= 0:
            raise ValueError(f"the limit of the gradient is {limit}, expected a number >= 0.")
        self.limit = limit
        self.ratio: float | None = None
        self._steps = 0
        self._largest = 0.0
        self._weights: dict[str, float] = {}

    def check(
        self,
        total: Tensor,
        cls_loss: Tensor,
        parameters: Sequence[Tensor],
        weights: Mapping[str, float | Tensor],
        epoch: int,
        iteration: int,
        through_map: bool,
    ) -> None:
        """Measure the gradients of one step, if it is due.

        Args:
            total: the weighted terms of PPI, a scalar.
            cls_loss: L_cls, a scalar.
            parameters: the parameters that the optimiser changes.
            weights: weights of the terms, by short name.
            epoch: from 1.
            iteration: from 1, over all epochs.
            through_map: whether the terms train the map too; for the advice.

        Raises:
            DivergenceError: PPI's gradient is beyond the limit, or not finite.
        """
        if not self.limit or not total.requires_grad or not cls_loss.requires_grad:
            return
        if not self._due(weights):
            return
        plain, terms = (_norm(loss, parameters) for loss in (cls_loss, total))
        self._largest = max(self._largest, plain if math.isfinite(plain) else 0.0)
        if math.isfinite(terms) and terms <= self.limit * self._largest:
            self.ratio = terms / self._largest if self._largest else 0.0
            return
        if math.isfinite(terms) and self._largest == 0:
            # L_cls has no gradient yet: there is nothing to compare with.
            return
        ratio = terms / self._largest if self._largest else math.inf
        reason = (
            f"is {ratio:.3g} times that of L_cls (norms {terms:.3g} and {self._largest:.3g}), "
            f"beyond the limit of {self.limit:g}, and was kept from the weights,"
        )
        advice = _MAP_ADVICE if through_map else None
        raise DivergenceError("ppi", ratio, reason, epoch, iteration, advice)

    def _due(self, weights: Mapping[str, float | Tensor]) -> bool:
        """Say whether a step is measured, and count it."""
        self._steps += 1
        numbers = {name: abs(w) for name, w in weights.items() if not isinstance(w, Tensor)}
        grown = any(w > 1.5 * self._weights.get(name, 0.0) for name, w in numbers.items())
        if not grown and self._steps & (self._steps - 1):
            return False
        self._weights = numbers
        return True


def _norm(loss: Tensor, parameters: Sequence[Tensor]) -> float:
    found = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
    # Squares of a float32 may overflow; one device has no float64.
    exact = torch.float32 if loss.device.type == "mps" else torch.float64
    norms = [torch.linalg.vector_norm(one, dtype=exact) for one in found if one is not None]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
