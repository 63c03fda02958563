"""ClArC's projection: a direction is removed from the features before the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ppi_med.errors import UsageError


@dataclass(frozen=True, eq=False)
class Projection:
    r"""Projective class artifact compensation (Anders et al., 2022, arXiv 1912.11425).

    .. math:: z' = z - v (v^T z - c)

    Attributes:
        vector: v, of length 1, float32 `(F,)`.
        centre: c, the mean of v^T z over examples.

    Examples:
        >>> Projection(torch.tensor([0.0, 1.0]), 3.0)(torch.tensor([[5.0, 7.0]])).tolist()
        [[5.0, 3.0]]
    """

    vector: Tensor
    centre: float

    @classmethod
    def between(cls, features: Tensor, exchanged: Tensor) -> Projection:
        """Return the projection of the direction between features of images and of exchanged ones.

        v is the direction in which an exchange moves the features most, the first right singular
        vector of the differences: the examples come in pairs, where the paper fits a linear
        classifier to two sets.

        Args:
            features: `(n, F)`.
            exchanged: those of the same images with another class's content at a place.

        Examples:
            >>> x = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
            >>> made = Projection.between(x, x + torch.tensor([[0.0, 2.0], [0.0, -2.0]]))
            >>> made.vector.abs().tolist(), made(x)[:, 0].tolist()
            ([0.0, 1.0], [1.0, 0.0])
        """
        one, two = features.double().cpu(), exchanged.double().cpu()
        vector = torch.linalg.svd(one - two, full_matrices=False).Vh[0]
        return cls(vector.float(), float((torch.cat([one, two]) @ vector).mean()))

    def __call__(self, features: Tensor) -> Tensor:
        """Return features `(..., F)` without the direction."""
        v = self.vector.to(features)
        keep = torch.eye(len(v), dtype=v.dtype, device=v.device) - torch.outer(v, v)
        return nn.functional.linear(features, keep, self.centre * v)

    def hook(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Act as the forward pre-hook of a layer."""
        return (self(inputs[0]), *inputs[1:])

    def facts(self) -> dict[str, Any]:
        """Return JSON values that `of` reads."""
        return {"vector": self.vector.tolist(), "centre": self.centre}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Projection:
        """Return what `facts` described.

        Raises:
            UsageError: where it is something else.
        """
        try:
            vector = torch.tensor(facts["vector"], dtype=torch.float32)
            if vector.ndim != 1 or abs(float(vector.norm()) - 1) > 1e-3:
                raise ValueError(f"a vector of shape {tuple(vector.shape)}")
            return cls(vector, float(facts["centre"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"the projection beside the weights cannot be read ({error}): copy both files "
                "again."
            ) from error
