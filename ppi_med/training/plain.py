"""State that `torch.load(weights_only=True)` can read back: tensors and plain values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

_KEPT = {type(None), bool, int, float, str, bytes, complex, torch.dtype, torch.device, torch.Size}


def plain(value: Any, name: str = "state") -> Any:
    """Return the state with tensors on the CPU and everything else in plain types.

    numpy scalars become Python's; mappings become dicts (an `OrderedDict` stays one).

    Args:
        value: a `state_dict()`, or part of one.
        name: what to call it in an error.

    Raises:
        TypeError: for a value that a checkpoint cannot hold, naming the key.

    Examples:
        >>> plain({"best": np.float64(0.5)})
        {'best': 0.5}
    """
    # The very types: numpy's float64 is a float to isinstance, but not to a restricted reader.
    if type(value) in _KEPT:
        return value
    if isinstance(value, torch.Tensor):
        return _plain_tensor(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((plain(k, name), plain(v, f"{name}[{k!r}]")) for k, v in value.items())
    if isinstance(value, (list, tuple, set)):
        items = [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
        # A named tuple could not be read back: it becomes a tuple.
        return items if isinstance(value, list) else _rebuilt(value, items)
    raise TypeError(
        f"{name} holds a {type(value).__module__}.{type(value).__qualname__}, expected tensors, "
        "numbers, strings, lists and dicts: change its state_dict() to those."
    )


def _rebuilt(value: Any, items: list[Any]) -> Any:
    return set(items) if isinstance(value, set) else tuple(items)


def _plain_tensor(value: torch.Tensor) -> torch.Tensor:
    """Detach, take off subclasses such as MetaTensor, and cut a view off its larger storage."""
    tensor = value.detach().as_subclass(torch.Tensor)
    small_view = tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
    return tensor.clone().cpu() if small_view else tensor.cpu()
