"""The findings of a short training: places, the effect of their exchange, clusters of maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.networks.weights import load_weights, read_state_dict
from ppi_med.places import ImageStack, Search, SearchSettings, exchange_effect, search
from ppi_med.saliency import WBP

Factory = Callable[[], nn.Module]
POOLED = 16
_MAPS, _SHOWN = 400, 8
_MOST_CLUSTERS = 5
_LEAST_MEMBERS = 5


@dataclass(frozen=True, eq=False)
class Cluster:
    """Images of one class whose maps are alike.

    Attributes:
        label: their class.
        count: number of its images.
        asked: number of the class's images with a map.
        mean: mean of the pooled maps, `(16, 16)`, of 0 to 1.
        edge_share: part of the mean map in the outer ring of 2 of 16.
        images: some, `(n, H, W, C)` of 0 to 1.
        maps: theirs, `(n, H, W)`, of 0 to 1.
        names: names of the cases.
    """

    label: int
    count: int
    asked: int
    mean: NDArray[np.float64]
    edge_share: float
    images: NDArray[np.float32]
    maps: NDArray[np.float32]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """Evidence from a network.

    Attributes:
        search: places and J.
        effects: effects of each place: AUC as they are (`clean`), with another class's content
            (`other`) and the same class's (`same`) at the place.
        clusters: clusters of maps.
        mean_image: mean image of the training part, `(H, W, C)`.
    """

    search: Search
    effects: tuple[dict[str, float], ...]
    clusters: tuple[Cluster, ...]
    mean_image: NDArray[np.float32]


def ask_network(
    train: ImageStack,
    validation: ImageStack,
    names: Sequence[str],
    *,
    factory: Factory | None = None,
    given: nn.Module | None = None,
    settings: SearchSettings | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Network:
    """Train shortly, search for places, exchange them, cluster the maps.

    Args:
        train: images of the training part.
        validation: the validation part.
        names: names of the validation's units, in the order of their numbers.
        factory: makes another network than the default.
        given: a trained network of single images whose maps are clustered and whose places are
            exchanged, instead of the short training's own.
        settings: settings of the search.
        seed: seed of the training.
        progress: called with a line.
    """
    found = search(train, validation, settings, network=factory, seed=seed, progress=progress)
    network = given if given is not None else found.network
    assert network is not None
    effects = tuple(
        exchange_effect(network, validation, torch.from_numpy(place.mask)) for place in found.places
    )
    if progress is not None:
        progress("clusters of maps")
    grown = clusters(network, validation, names, seed=seed)
    mean = train.image[:: max(1, len(train.image) // 500)].mean(0).permute(1, 2, 0).numpy()
    return Network(found, effects, grown, mean)


def clusters(
    network: nn.Module, stack: ImageStack, names: Sequence[str], *, seed: int = 0
) -> tuple[Cluster, ...]:
    """Cluster what the network looks at, class by class (SpRAy, Lapuschkin et al. 2019).

    The maps |s| of the true class, one image per unit, are pooled to 16 x 16, each divided by its
    sum; spectral clustering on their nearest neighbours, as many clusters as the largest gap of
    the Laplacian's eigenvalues says.
    """
    middle = _one_a_unit(stack)
    generator = torch.Generator().manual_seed(seed)
    result: list[Cluster] = []
    for label in range(stack.classes):
        own = middle[stack.label[middle] == label]
        own = own[torch.randperm(len(own), generator=generator)[: _MAPS // stack.classes + 20]]
        if len(own) < 2 * _LEAST_MEMBERS:
            continue
        maps = _maps(network, stack, own)
        pooled = adaptive_avg_pool2d(maps[:, None], POOLED)[:, 0].flatten(1).double().numpy()
        pooled /= np.maximum(pooled.sum(1, keepdims=True), 1e-12)
        group = _grouped(pooled, seed)
        for one in range(int(group.max()) + 1):
            members = np.flatnonzero(group == one)
            result.append(_cluster(label, stack, own, maps, pooled, members, names))
    return tuple(sorted(result, key=lambda c: (c.label, -c.count)))


def _cluster(
    label: int,
    stack: ImageStack,
    own: Tensor,
    maps: Tensor,
    pooled: NDArray[np.float64],
    members: NDArray[np.int64],
    names: Sequence[str],
) -> Cluster:
    mean = pooled[members].mean(0).reshape(POOLED, POOLED)
    order = members[np.argsort(((pooled[members] - mean.ravel()) ** 2).sum(1))]
    shown = order[np.unique(np.linspace(0, 0.7 * (len(order) - 1), _SHOWN).astype(int))]
    inner = mean[2:-2, 2:-2].sum()
    images = stack.image[own[shown]].permute(0, 2, 3, 1).numpy()
    tops = maps[shown].flatten(1).quantile(0.995, dim=1).clamp_min(1e-12)
    return Cluster(
        label=label,
        count=len(members),
        asked=len(own),
        mean=mean / max(float(mean.max()), 1e-12),
        edge_share=float(1 - inner / max(float(mean.sum()), 1e-12)),
        images=images,
        maps=(maps[shown] / tops[:, None, None]).clamp(0, 1).float().numpy(),
        names=tuple(names[int(stack.unit_index[own[k]])] for k in shown),
    )


def _one_a_unit(stack: ImageStack) -> Tensor:
    """Return the middle image of each unit."""
    middle = int(stack.position.max()) // 2
    return (stack.position == middle).nonzero()[:, 0]


def _maps(network: nn.Module, stack: ImageStack, index: Tensor) -> Tensor:
    """Return |WBP| of the true class, smoothed for the eye, `(n, H, W)`."""
    from ppi_med.intervention.smoothing import gaussian_smooth

    network.eval()
    method, found = WBP(), []
    device = next(network.parameters()).device
    sigma = max(1.0, min(stack.image.shape[-2:]) / 32)
    for part in index.split(64):
        image = stack.image[part].to(device)
        s = method(network, image, stack.label[part].to(device)).abs().sum(1, keepdim=True)
        found.append(gaussian_smooth(s, sigma)[:, 0].detach().cpu())
    return torch.cat(found)


def _grouped(values: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Return a cluster for each row; small ones are merged into one."""
    from sklearn.cluster import SpectralClustering
    from sklearn.neighbors import kneighbors_graph

    near = kneighbors_graph(np.sqrt(values), min(10, len(values) - 1), include_self=True)
    # One connected piece, so that it can be divided.
    affinity = 0.5 * (near + near.T).toarray() + 1e-6
    degree = affinity.sum(1)
    laplacian = np.eye(len(values)) - affinity / np.sqrt(np.outer(degree, degree))
    levels = np.linalg.eigvalsh(laplacian)[: _MOST_CLUSTERS + 1]
    count = int(np.argmax(np.diff(levels))) + 1
    if count < 2:
        return np.zeros(len(values), np.int64)
    made = SpectralClustering(count, affinity="precomputed", random_state=seed, n_init=5)
    group = made.fit_predict(affinity)
    sizes = np.bincount(group, minlength=count)
    order = [k for k in np.argsort(-sizes) if sizes[k] >= _LEAST_MEMBERS]
    number = {int(k): rank for rank, k in enumerate(order)}
    return np.array([number.get(int(k), len(order)) for k in group], np.int64)


def bundle_network(
    bundle: str | Path, channels: int, classes: int, checkpoint: str | Path | None
) -> tuple[Factory, nn.Module | None]:
    """Return the factory of a bundle's network, and the network with a checkpoint's weights.

    Args:
        bundle: its folder, with `train.json`.
        channels: channels of the images.
        classes: number of classes.
        checkpoint: checkpoint of the bundle's training, or a plain state dict.

    Raises:
        MissingFileError: if a file is missing.
        UsageError: if the bundle's network does not take the images, or the weights do not fit.
    """
    from monai.bundle import ConfigParser

    path = Path(bundle) / "train.json"
    if not path.is_file():
        path = Path(bundle) / "configs" / "train.json"
    if not path.is_file():
        raise MissingFileError(f"{bundle} has no train.json, expected a bundle's folder.")

    def factory() -> nn.Module:
        parser = ConfigParser()
        parser.read_config(str(path))
        for key, value in (("num_classes", classes), ("device", "$torch.device('cpu')")):
            if parser.get(key) is not None:
                parser[key] = value
        if "in_channels" in (parser.get("network_def") or {}):
            parser["network_def"]["in_channels"] = channels
        parser.get_parsed_content("imports", default=None)
        return parser.get_parsed_content("network_def")  # type: ignore[no-any-return]

    _tried(factory, path, channels)
    return factory, None if checkpoint is None else _restored(factory(), Path(checkpoint))


def _of_slices(network: nn.Module) -> nn.Module:
    """Return the part of a network for volumes that handles one slice, or the network."""
    slices = getattr(network, "slice_classifier", None)
    found: nn.Module = network if slices is None else slices()
    return found


def _tried(factory: Factory, path: Path, channels: int) -> None:
    try:
        _of_slices(factory()).eval()(torch.zeros(2, channels, 64, 64))
    except Exception as error:  # another package's network can fail in any way
        raise UsageError(
            f"The network of {path} does not take images of {channels} channels ({error}): leave "
            "--bundle out, the default network is enough for an audit."
        ) from error


def _restored(network: nn.Module, checkpoint: Path) -> nn.Module:
    if not checkpoint.is_file():
        raise MissingFileError(f"There is no checkpoint {checkpoint}.")
    try:
        load_weights(network, read_state_dict(checkpoint), checkpoint.name)
    except ValueError as error:
        raise UsageError(f"--checkpoint: {error}") from error
    return _of_slices(network).eval()
