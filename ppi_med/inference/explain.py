"""A volume's logit, slice weights and map from the GA network, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from ppi_med.evaluation.familiarity import Floats, features_of_items, recorded_features
from ppi_med.saliency import WBP
from ppi_med.saliency.base import SaliencyMethod
from ppi_med.training.modes import evaluating

_PRESENT = 1
"""The class that a map explains."""


class ExplainableNetwork(Protocol):
    """The interface that inference needs, that of `ppi_med.networks.MultiViewClassifier`."""

    num_positions: int

    def explain(self, image: Tensor, positions: Tensor | None = None) -> Any:
        """Return logit, slice logits and slice weights."""

    def slice_classifier(self) -> nn.Module:
        """Return the part that gives a single slice's logit."""


@dataclass(frozen=True)
class VolumeExplanation:
    """The network's answer about volumes of S slices, on the network's own grid.

    Attributes:
        logit: `(N, 1)`.
        slice_logits: z, `(N, S)`.
        slice_weights: w, summing to 1 over the slices, `(N, S)`.
        saliency: `(N, 1, S, H, W)`, or `None` where no map was asked for.
        features: mean over the slices of the last layer's input, `(N, features)`, or `None`.
    """

    logit: Tensor
    slice_logits: Tensor
    slice_weights: Tensor
    saliency: Tensor | None
    features: Floats | None = None


def explain_volume(
    network: nn.Module,
    image: Tensor,
    method: SaliencyMethod | None = None,
    *,
    positions: Tensor | None = None,
    chunk_size: int = 16,
) -> VolumeExplanation:
    """Explain volumes in evaluation mode.

    In evaluation a slice does not see its neighbours, so the map of a volume is that of its single
    slices, each times the slice's weight. It is computed `chunk_size` slices at a time: the memory
    is that of one chunk, the volume and the map.

    Args:
        network: a `MultiViewClassifier`, or one with its methods `explain` and `slice_classifier`.
        image: `(N, 1, S, H, W)`, preprocessed as in training.
        method: for the map of GA's presence; `None` for no map.
        positions: ids of the slices' places, `(N, S)`; default by relative place.
        chunk_size: slices at a time in the map.

    Returns:
        The explanation, on `image`'s device. The network's modes are restored.

    Raises:
        TypeError: for a network without these methods.
        ValueError: for a chunk size below 1, or a map of another shape than the slices'.

    Examples:
        >>> from ppi_med.networks.multiview import MultiViewClassifier
        >>> from ppi_med.saliency import WBP
        >>> found = explain_volume(MultiViewClassifier(), torch.zeros(1, 1, 3, 32, 32), WBP())
        >>> found.slice_weights.shape, found.saliency.shape
        (torch.Size([1, 3]), torch.Size([1, 1, 3, 32, 32]))
    """
    _check(network, chunk_size)
    explainable = cast(ExplainableNetwork, network)
    with evaluating(network):
        with torch.no_grad(), recorded_features(network) as found:
            output = explainable.explain(image, positions)
        saliency = None
        if method is not None:
            maps = _slice_maps(explainable.slice_classifier(), image, method, chunk_size)
            weights = output.slice_weights[:, None, :, None, None]
            saliency = maps.mul_(weights.to(maps.dtype))
    features = features_of_items(found, len(image), sliced=True)
    return VolumeExplanation(
        output.logit, output.slice_logits, output.slice_weights, saliency, features
    )


def _slice_maps(
    classifier: Callable[[Tensor], Tensor], image: Tensor, method: SaliencyMethod, chunk_size: int
) -> Tensor:
    """Return the maps of the single slices' logits, `(N, C, S, H, W)`."""
    batch, channels, slices = image.shape[:3]
    single = image.transpose(1, 2).flatten(0, 1)
    maps = torch.empty_like(single)
    for chunk, into in zip(single.split(chunk_size), maps.split(chunk_size), strict=True):
        found = method(classifier, chunk, _PRESENT)
        if found.shape != chunk.shape:
            raise ValueError(
                f"{type(method).__name__} gave a map of shape {tuple(found.shape)} for slices of "
                f"{tuple(chunk.shape)}, expected the same shape."
            )
        into.copy_(found.detach())
    return maps.view(batch, slices, channels, *image.shape[3:]).transpose(1, 2)


def _check(network: nn.Module, chunk_size: int) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}, expected 1 or more slices at a time.")
    missing = [name for name in ("explain", "slice_classifier") if not hasattr(network, name)]
    if missing:
        raise TypeError(
            f"{type(network).__name__} has no {' and no '.join(missing)}: inference of GA needs "
            "ppi_med.networks.MultiViewClassifier, or a network with these methods."
        )


class VolumeMap:
    """Maps a volume slice by slice, in the memory of a few slices; see `explain_volume`.

    Args:
        method: the saliency method of the single slices; default WBP.
        chunk_size: slices at a time.

    Examples:
        >>> import torch
        >>> from ppi_med.networks import MultiViewClassifier
        >>> VolumeMap()(MultiViewClassifier(), torch.zeros(1, 1, 3, 32, 32), 1).shape
        torch.Size([1, 1, 3, 32, 32])
    """

    def __init__(self, method: SaliencyMethod | None = None, chunk_size: int = 16) -> None:
        self.method = WBP() if method is None else method
        self.chunk_size = chunk_size

    def __call__(self, network: nn.Module, image: Tensor, target: Any = _PRESENT) -> Tensor:
        """Return the map of the presence of GA, of the image's shape `(N, 1, S, H, W)`.

        Raises:
            ValueError: for another target than 1.
        """
        if target != _PRESENT:
            raise ValueError(f"target is {target!r}, expected {_PRESENT}: the map is of GA.")
        found = explain_volume(network, image, self.method, chunk_size=self.chunk_size)
        # With a method there is a map.
        return cast(Tensor, found.saliency)
