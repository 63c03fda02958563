"""What happens where relevance reaches an operation that has no rule."""

from __future__ import annotations

from typing import NoReturn

from torch import Tensor

from ppi_med.saliency.location import Place
from ppi_med.saliency.primitives import Relevance, Switch, UnsupportedOperationError, detour


def refuse(
    value: Tensor, operation: str, place: Place, switch: Switch, *, in_place: bool = False
) -> Tensor:
    """Return ``value``; relevance that reaches it raises :class:`UnsupportedOperationError`."""
    return detour(value, _refusing(operation, place), switch, (), in_place=in_place)


# What is said of operations for which there is something else to do.
_INSTEAD = {
    "torch.nn.modules._functions.SyncBatchNorm": (
        "no relevance rule for synchronised batch normalisation in training: its statistics are "
        "those of all processes; train with BatchNorm, DistributedDataParallel(..., "
        "broadcast_buffers=False) and the handler AverageBuffers"
    ),
}


def _refusing(operation: str, place: Place) -> Relevance:
    def raise_error(*_: Tensor) -> NoReturn:
        raise UnsupportedOperationError(
            _INSTEAD.get(operation)
            or f"no relevance rule for the operation '{operation}' in {place}: it is not linear in "
            "what depends on the image; explain a target before it, or write the step as a "
            "function with a `saliency_surrogate`"
        )

    return raise_error
