"""What a tensor is to a map: part of the signal, a gate on it, or neither.

The role is an attribute of the intermediate tensor, so it lives and dies with it. A tensor without
a role does not depend on the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any

from torch import Tensor

_ATTRIBUTE = "_saliency_role"


class Role(IntEnum):
    """How relevance treats a tensor that depends on the image."""

    SIGNAL = 1
    """Carries relevance."""
    GATE = 2
    """A factor in [0, 1] or a rescaling: constant to the rule where it multiplies a signal."""


def role_of(value: object) -> Role | None:
    """Return the role of ``value``, or None where it does not depend on the image."""
    return getattr(value, _ATTRIBUTE, None) if isinstance(value, Tensor) else None


def assign_role(value: Any, role: Role) -> None:
    """Give a role to every floating point tensor with a graph in ``value``."""
    for tensor in tensors_in((value,)):
        if tensor.requires_grad:
            setattr(tensor, _ATTRIBUTE, role)


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among ``values``, looking into lists, tuples and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())
