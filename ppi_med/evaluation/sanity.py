"""Sanity checks for maps (Adebayo et al., 2018): whether a map depends on what the network learned.

A map of a network whose parameters are random should have little in common with the map of the
trained one. A method that fails, such as an edge detector, shows the image and not the network.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ppi_med.evaluation.measures import MapMethod, Measure, pixel_values

RANK_CORRELATION = Measure("randomised_rank_correlation", -1)


@dataclass(frozen=True)
class SanityResult:
    """How similar maps of altered networks are to those of the network.

    Attributes:
        measure: name and direction.
        layers: what was randomised, in this order.
        correlations: `(L, N)`, Spearman's rank correlation per step and image.
        cumulative: each step keeps the earlier ones, so that the last randomises all layers.
    """

    measure: Measure
    layers: tuple[str, ...]
    correlations: Tensor
    cumulative: bool

    def passes(self, limit: float = 0.5) -> bool:
        """Say whether maps depend on the network: mean |correlation| at most `limit`.

        For cumulative steps the last counts, otherwise the mean of all.
        """
        size = self.correlations.abs()
        return float(size[-1].mean() if self.cumulative else size.mean()) <= limit


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's rank correlation of each pair, `(N,)`; ties share their mean rank.

    A constant map has no order; its correlation is 0.

    Args:
        a: `(N, *spatial)`.
        b: the other maps, of the same shape.

    Raises:
        ValueError: if the shapes differ.

    Examples:
        >>> a, b = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[3.0, 2.0, 1.0]])
        >>> round(rank_correlation(a, b).item(), 6)
        -1.0
    """
    if a.shape != b.shape:
        raise ValueError(f"got maps {tuple(a.shape)} and {tuple(b.shape)}, expected one shape")
    x, y = (_centred(_mean_ranks(values.flatten(1))) for values in (a, b))
    size = x.norm(dim=1) * y.norm(dim=1)
    found = (x * y).sum(1) / size.clamp(min=torch.finfo(size.dtype).tiny)
    return torch.where(size > 0, found, torch.zeros_like(found))


def layers_of(network: nn.Module) -> list[str]:
    """Return the names of modules with parameters of their own, from the output to the image."""
    owners = [n for n, m in network.named_modules() if any(True for _ in m.parameters(False))]
    return owners[::-1]


def randomised(network: nn.Module, layers: Sequence[str], seed: int) -> nn.Module:
    """Return a copy of the network whose named layers are initialised again.

    A layer without `reset_parameters` gets normal values with its own mean and deviation.

    Raises:
        ValueError: if the network has no such layer.
    """
    changed = copy.deepcopy(network)
    modules = dict(changed.named_modules())
    unknown = [name for name in layers if name not in modules]
    if unknown:
        raise ValueError(f"the network has no layers {unknown}: see layers_of(network)")
    devices = {p.device.index or 0 for p in network.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(devices)), torch.no_grad():
        for name in layers:
            # The seed depends on the layer, not on the order: a layer is the same in every step.
            torch.manual_seed(seed + zlib.crc32(name.encode()))
            for module in modules[name].modules():
                _initialise(module)
    return changed


def cascading(
    network: nn.Module, layers: Sequence[str] | None = None, seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """Yield networks with one more layer randomised each, from the output to the image."""
    names = layers_of(network) if layers is None else list(layers)
    for last in range(len(names)):
        yield names[last], randomised(network, names[: last + 1], seed)


def independent(
    network: nn.Module, layers: Sequence[str] | None = None, seed: int = 0
) -> Iterator[tuple[str, nn.Module]]:
    """Yield networks with one layer randomised each, the others as trained."""
    for name in layers_of(network) if layers is None else layers:
        yield name, randomised(network, [name], seed)


def model_randomisation(
    method: MapMethod,
    network: nn.Module,
    image: Tensor,
    target: Tensor,
    *,
    kind: str = "cascading",
    layers: Sequence[str] | None = None,
    seed: int = 0,
    reduce: str = "abs_sum",
) -> SanityResult:
    """Compare the maps of a network with those of randomised copies of it.

    Args:
        method: `method(network, image, target)`, the map `(N, C, *spatial)`.
        network: trained.
        image: `(N, C, *spatial)`.
        target: class indices `(N,)`.
        kind: `"cascading"` (default) or `"independent"`.
        layers: names, from the output to the image (default `layers_of`).
        seed: seed of the new parameters.
        reduce: how channels become one value, see `pixel_values`; absolute values by default, since
            Adebayo et al. show that signs can hide similarity.

    Raises:
        ValueError: for another kind.
    """
    if kind not in ("cascading", "independent"):
        raise ValueError(f"kind is '{kind}', expected 'cascading' or 'independent'")
    steps = cascading if kind == "cascading" else independent
    expected = pixel_values(method(network, image, target), reduce)
    names, found = [], []
    for name, changed in steps(network, layers, seed):
        names.append(name)
        values = pixel_values(method(changed, image, target), reduce)
        found.append(rank_correlation(expected, values))
    return SanityResult(
        RANK_CORRELATION, tuple(names), torch.stack(found), cumulative=kind == "cascading"
    )


def _initialise(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        deviation = float(parameter.std()) if parameter.numel() > 1 else 1.0
        parameter.normal_(float(parameter.mean()), deviation)


def _mean_ranks(flat: Tensor) -> Tensor:
    ordered = flat.sort(1).values
    below = torch.searchsorted(ordered, flat.contiguous(), right=False)
    upto = torch.searchsorted(ordered, flat.contiguous(), right=True)
    return (below + upto).double() / 2


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(1, keepdim=True)
