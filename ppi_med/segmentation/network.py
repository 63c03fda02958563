"""The network of a bundle of CT patches, the form of its images, and its maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ppi_med import saliency
from ppi_med.errors import MissingFileError, UsageError
from ppi_med.segmentation.grid import NetworkGrid, Normalise, normalised_ct

CONFIG = "inference.json"
METHODS = (
    *("wbp", "wbp_symmetric", "gradient_absolute", "gradient_x_input", "integrated_gradients"),
    *("smoothgrad", "smoothgrad_wbp", "gradcam", "gradcam_plus_plus"),
    *("lrp_epsilon", "lrp_alpha2_beta1", "lrp_epsilon_plus_flat", "occlusion"),
)


@dataclass(frozen=True)
class BundleNetwork:
    """A trained network with the form of its images.

    Attributes:
        network: with its weights, in evaluation mode.
        grid: size in pixels and in mm.
        normalise: from HU to the network's values.
        dataset_dir: the bundle's own data.
        trained: what the JSON file beside the weights says about their training.
    """

    network: nn.Module
    grid: NetworkGrid
    normalise: Normalise
    dataset_dir: str
    trained: Mapping[str, Any] = field(default_factory=dict)


def load_network(
    bundle: str | Path,
    checkpoint: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> BundleNetwork:
    """Return the network of a bundle whose `inference.json` is like that of `lidc_ppi`.

    Args:
        bundle: its folder.
        checkpoint: trained weights; default the bundle's `models/model.pt`.
        overrides: ids of the configuration, such as `architecture`, as in training.

    Raises:
        MissingFileError: if there is no such bundle or no weights.
        UsageError: for a configuration without the keys, weights that do not fit, or another size
            of images than theirs.
    """
    from monai.bundle import ConfigParser

    from ppi_med.bundle_tools.preflight import require_as_trained
    from ppi_med.handlers.checkpoint import load_weights
    from ppi_med.handlers.publish_weights import weights_facts

    folder = Path(bundle)
    if not (folder / CONFIG).is_file():
        raise MissingFileError(f"{folder} has no {CONFIG}, expected the folder of a bundle.")
    parser = ConfigParser(ConfigParser.load_config_file(str(folder / CONFIG)))
    known = set(parser.get())
    missing = sorted({"network_def", "image_size", *(overrides or {})} - known)
    if missing:
        raise UsageError(f"{folder / CONFIG} has no {missing[0]}, expected it: see lidc_ppi.")
    parser.update({key: value for key, value in (overrides or {}).items()})
    network: nn.Module = parser.get_parsed_content("network_def")
    weights = checkpoint if checkpoint is not None else folder / "models" / "model.pt"
    load_weights(network, weights)
    trained = weights_facts(weights).get("trained", {})
    size = int(parser.get_parsed_content("image_size"))
    field_mm = parser.get_parsed_content("field_mm") if "field_mm" in known else None
    require_as_trained(trained, image_size=size, field_mm=field_mm)
    return BundleNetwork(
        network.eval(),
        NetworkGrid(size, field_mm),
        _normalise(parser) if "preprocessing" in known else normalised_ct,
        str(folder.parent.parent / "data" / "lidc_phantom"),
        trained,
    )


def _normalise(parser: Any) -> Normalise:
    """Return the bundle's own step from HU to the network's values."""
    from ppi_med.data.lidc.transforms import NormalizeCtd

    steps = parser.get_parsed_content("preprocessing").transforms
    found = [step for step in steps if isinstance(step, NormalizeCtd)]
    if len(found) != 1:
        raise UsageError(
            f"{CONFIG} has {len(found)} NormalizeCtd in preprocessing, expected one: HU have to be "
            "brought to the network's values in one way."
        )

    def normalise(hu: Tensor) -> Tensor:
        values: Tensor = found[0]({"image": hu})["image"]
        return values

    return normalise


def saliency_methods(names: str = "all", size: int = 40) -> dict[str, Any]:
    """Return methods by name.

    Args:
        names: comma-separated names of `ppi_med.saliency.by_name`, or "all" of `METHODS`.
        size: rows and columns of the network's images, from which the occluding window follows.

    Raises:
        UsageError: if there is no such method.

    Examples:
        >>> list(saliency_methods("wbp,gradcam"))
        ['wbp', 'gradcam']
    """
    wanted = METHODS if names == "all" else tuple(n.strip() for n in names.split(",") if n.strip())
    windows = {"window": max(2, size // 8), "stride": max(1, size // 16)}
    return {n: saliency.by_name(n, **(windows if n == "occlusion" else {})) for n in wanted}
