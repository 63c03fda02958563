"""Means over the iterations of an epoch, without waiting for the device in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class EpochMeans:
    """Adds up scalars by name; a name counts only the iterations in which it came.

    Examples:
        >>> means = EpochMeans()
        >>> means.add({"loss/cls": torch.tensor(1.0), "loss/con": 4.0})
        >>> means.add({"loss/cls": torch.tensor(3.0)})
        >>> means.take()
        {'loss/cls': 2.0, 'loss/con': 4.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Any]) -> None:
        """Add one iteration's scalars: numbers, or tensors of one element on any device."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = value.detach().as_subclass(Tensor).reshape(())
                value = value.to(torch.float32 if value.device.type == "mps" else torch.float64)
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """Return the means and start anew."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return what has been added."""
        return {
            "sums": {name: float(total) for name, total in self._sums.items()},
            "counts": dict(self._counts),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what had been added."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
