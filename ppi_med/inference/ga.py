"""Inference of geographic atrophy on one OCT volume."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from ppi_med.data.oct.fit import spread_map
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import OctReadError, OctVolume
from ppi_med.evaluation.familiarity import KnownInputs, Likeness, likeness
from ppi_med.inference.explain import VolumeExplanation, explain_volume
from ppi_med.inference.volumes import LoadedVolume, find_inputs, load_volume, read_volumes
from ppi_med.saliency.base import SaliencyMethod

Preprocessing = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def network_hash(network: nn.Module) -> str:
    """Return the SHA-256 of a network's parameters and buffers, on any device.

    Two networks share it only if names, types, shapes and every bit of the values are the same.

    Examples:
        >>> network_hash(nn.ReLU())[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not isinstance(value, torch.Tensor):
            continue
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class NetworkInfo:
    """The network of a result.

    Attributes:
        name: name of its class.
        sha256: SHA-256 hash of its weights; see `network_hash`.
        method: name of the saliency method, "" where there is no map.
    """

    name: str
    sha256: str
    method: str = ""


@dataclass(frozen=True)
class GaResult:
    """The network's answer about one volume.

    Attributes:
        volume: the volume.
        network: identity of the network.
        probability: probability of GA, in [0, 1].
        logit: the same before the sigmoid.
        slice_logits: z of each B-scan, float32 `(S,)`.
        slice_weights: w of each B-scan, summing to 1, float32 `(S,)`.
        positions: id of each B-scan's place, int64 `(S,)`.
        saliency: float32 `(S, H, W)` on the volume's own grid, or `None`.
        network_size: (depth, width) of the B-scans as the network saw them.
        likeness: how like the training's data the volume is.
    """

    volume: LoadedVolume
    network: NetworkInfo
    probability: float
    logit: float
    slice_logits: NDArray[np.float32]
    slice_weights: NDArray[np.float32]
    positions: NDArray[np.int64]
    saliency: NDArray[np.float32] | None
    network_size: tuple[int, int]
    likeness: Likeness = Likeness()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings: first that the volume is unlike the training's, then its own."""
        own = self.likeness.warning
        return (*([own] if own else []), *self.volume.warnings)

    @property
    def slice_probabilities(self) -> NDArray[np.float64]:
        """The B-scans' own probabilities p, float64 `(S,)`."""
        return np.asarray(expit(self.slice_logits.astype(np.float64)))


def infer_volume(
    network: nn.Module,
    volume: LoadedVolume | OctVolume | str | Path,
    method: SaliencyMethod | None = None,
    *,
    size: Sequence[int] | None = None,
    preprocessing: Preprocessing | None = None,
    options: ReadOptions | None = None,
    device: torch.device | str | None = None,
    chunk_size: int = 16,
    known: KnownInputs | None = None,
) -> GaResult:
    """Apply a network to one volume.

    Args:
        network: a `MultiViewClassifier` with its trained weights.
        volume: a file or folder of any supported format, or a volume that is already read.
        method: for the map, such as `WBP()`; `None` for no map.
        size: (depth, width) of the B-scans that the network was trained on: others are brought to
            it, see `fit.fitting_matrices`. `None`: every volume in its own size.
        preprocessing: replaces the standard one, which is `size`, then all B-scans, then the
            training's normalisation; `size` is then unused.
        options: values that the user knows and the file does not state.
        device: device of the computation; default the network's.
        chunk_size: slices at a time in the map.
        known: statistics of the training's inputs, from the JSON file beside the weights:
            `KnownInputs.read(weights_facts(path).get("inputs"))`.

    Returns:
        The result, its map on the volume's own grid.

    Raises:
        OctReadError: if the file cannot be read or holds several volumes.
        TypeError: for a network without slices.
        ValueError: for sizes that the network cannot take.

    Examples:
        >>> from ppi_med.networks.multiview import MultiViewClassifier
        >>> pixels = np.zeros((3, 40, 50), np.uint8)
        >>> volume = OctVolume(pixels, reader="example", source=Path("a.mat"))
        >>> result = infer_volume(MultiViewClassifier(), volume, size=(32, 32))
        >>> result.slice_weights.shape, result.network_size
        ((3,), (32, 32))
    """
    loaded = _loaded(volume, options)
    if preprocessing is None:
        preprocessing = standard_preprocessing(size, getattr(network, "num_positions", 100))
    device = device or next((p.device for p in network.parameters()), "cpu")
    item = preprocessing({"image": volume_tensor(loaded)})
    explanation = explain_volume(
        network,
        item["image"][None].to(device),
        method,
        positions=item["positions"][None].to(device),
        chunk_size=chunk_size,
    )
    info = NetworkInfo(type(network).__name__, network_hash(network), method_name(method))
    return make_result(loaded, explanation, info, item, known)


def standard_preprocessing(
    size: Sequence[int] | None = None, num_positions: int = 100
) -> Preprocessing:
    """Return the bundle's evaluation transform for a volume `image` of 8-bit pixels.

    Args:
        size: (depth, width) of the network's training, or `None` for the volume's own.
        num_positions: number of positions of the network.

    Returns:
        A transform of items `{"image": (1, S, H, W)}`; it adds `positions`, `(S,)`.
    """
    from monai.transforms import Compose

    from ppi_med.data.oct.transforms import AllSlicesd, FitSlicesd, NormalizeOctd

    return Compose(
        [
            FitSlicesd("image", size),
            AllSlicesd("image", num_positions=num_positions),
            NormalizeOctd("image"),
        ]
    )


def volume_tensor(volume: LoadedVolume) -> torch.Tensor:
    """Return the pixels as the transforms expect them, uint8 `(1, S, H, W)`."""
    return torch.from_numpy(np.ascontiguousarray(volume.pixels))[None]


def method_name(method: SaliencyMethod | None) -> str:
    """Return a method's name, "" for none."""
    return "" if method is None else type(method).__name__


def make_result(
    volume: LoadedVolume,
    explanation: VolumeExplanation,
    network: NetworkInfo,
    item: Mapping[str, Any],
    known: KnownInputs | None = None,
) -> GaResult:
    """Join a volume with the network's answer about it.

    Args:
        volume: volume of S B-scans.
        explanation: explanation of a batch of this one volume.
        network: the network.
        item: the network's input: `image`, `(1, S, h, w)`, and `positions`,
            `(S,)`.
        known: statistics of the training's inputs.

    Raises:
        ValueError: if the network's numbers are not finite.
    """
    logit = float(explanation.logit.double().reshape(()))
    if not math.isfinite(logit):
        raise ValueError(
            f"the network's logit is {logit}: its weights or the volume's pixels are damaged."
        )
    saliency = None
    if explanation.saliency is not None:
        saliency = spread_map(explanation.saliency[0, 0].cpu(), volume.shape[1:]).numpy()
    features = None if explanation.features is None else explanation.features[0]
    image = item["image"]
    return GaResult(
        volume=volume,
        network=network,
        probability=float(expit(logit)),
        logit=logit,
        slice_logits=explanation.slice_logits[0].float().cpu().numpy(),
        slice_weights=explanation.slice_weights[0].float().cpu().numpy(),
        positions=item["positions"].reshape(-1).cpu().numpy().astype(np.int64),
        saliency=saliency,
        network_size=(int(image.shape[-2]), int(image.shape[-1])),
        likeness=likeness(image.cpu().numpy(), features, known, volume.pixels),
    )


def _loaded(
    volume: LoadedVolume | OctVolume | str | Path, options: ReadOptions | None
) -> LoadedVolume:
    if isinstance(volume, LoadedVolume):
        return volume
    if isinstance(volume, OctVolume):
        return load_volume(volume, options)
    sources = find_inputs(volume)
    if len(sources) > 1:
        raise OctReadError(
            volume,
            f"holds {len(sources)} sources (first {sources[0].relative}), expected one volume: "
            "name one of them.",
        )
    volumes = read_volumes(sources[0], options)
    if len(volumes) > 1:
        raise OctReadError(
            volume, f"holds {len(volumes)} volumes, expected one: choose among read_volumes(...)."
        )
    return volumes[0]
