"""The role of a tensor in a map: part of the signal, a gate on it, or a constant.

The role is an attribute of the intermediate tensor, so it lives and dies with it. Leaves (images,
parameters, buffers) never get one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any

from torch import Tensor

_ATTRIBUTE = "_saliency_role"


class Role(IntEnum):
    """How relevance treats an intermediate tensor."""

    CONSTANT = 0
    """Made of parameters alone."""
    SIGNAL = 1
    """Depends on the image and carries relevance."""
    GATE = 2
    """Depends on the image, but acts as a factor in [0, 1] or a rescaling in products."""


def role_of(value: object) -> Role | None:
    """Return `SIGNAL` or `GATE`, or None if `value` does not depend on the image."""
    entry = getattr(value, _ATTRIBUTE, None)
    return None if entry is None else (entry[0] or None)


def is_classified(tensor: Tensor) -> bool:
    """Say whether the tensor is a leaf, or has a role and has not changed since."""
    node = tensor.grad_fn
    if node is None:
        return True
    entry = getattr(tensor, _ATTRIBUTE, None)
    return entry is not None and entry[1] is node


def is_untouched(tensor: Tensor) -> bool:
    """Say whether the tensor depends on the image only, and on nothing that is trained."""
    entry = getattr(tensor, _ATTRIBUTE, None)
    return entry is not None and entry[2]


def assign_role(value: Any, role: Role, *, replace: bool = True, untouched: bool = False) -> None:
    """Give a role to every intermediate tensor in `value`.

    Args:
        value: a tensor, or tensors in tuples, lists and dictionaries.
        role: the role.
        replace: replace existing roles too.
        untouched: see `is_untouched`.
    """
    for tensor in tensors_in((value,)):
        node = tensor.grad_fn
        if node is not None and (replace or not hasattr(tensor, _ATTRIBUTE)):
            setattr(tensor, _ATTRIBUTE, (role, node, untouched))


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among `values`, looking into lists, tuples and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())


def map_tensors(value: Any, function: Any) -> Any:
    """Return `value` with `function` applied to the tensors in lists, tuples, dictionaries."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, function) for item in value))
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, function) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value
