"""Trained weights from a file into a network, with clear errors."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ignite.engine import Events
from torch import nn

from ppi_med.errors import UsageError
from ppi_med.evaluation.familiarity import last_layer
from ppi_med.handlers.base import Handler, Steps
from ppi_med.networks.weights import load_weights as fill_network
from ppi_med.networks.weights import read_state_dict
from ppi_med.places import Account, Blank, Neutral, Projection

logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a `state_dict` into a network; every name and shape must fit.

    Args:
        network: its weights are replaced.
        path: a `state_dict`, alone or in a checkpoint; see `read_state_dict`.

    Raises:
        UsageError: if the file is missing, is none of these, or does not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            f"No weights {path}: train the bundle first, or name the file with --checkpoint."
        )
    try:
        state = read_state_dict(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        fill_network(network, state, path)
    except ValueError as error:
        raise UsageError(
            f"{path} does not fit {type(network).__name__}: is network_def the same as in "
            f"training? {error}"
        ) from error
    _see_as_trained(network, path.with_suffix(".json"))


def _see_as_trained(network: nn.Module, facts: Path) -> None:
    """Remove what was removed in training, according to the file beside the weights."""
    for module in network.modules():
        hooks = module._forward_pre_hooks
        for key, hook in list(hooks.items()):
            owner = getattr(hook, "__self__", hook)
            if isinstance(owner, (Blank, Neutral, Projection)):
                del hooks[key]
    if not facts.is_file():
        return
    try:
        place = json.loads(facts.read_text(encoding="utf-8")).get("trained", {}).get("place")
    except (ValueError, AttributeError):
        return
    account = Account.of(place)
    if account is None:
        return
    if account.neutral is not None:
        network.register_forward_pre_hook(account.neutral.hook)
        logger.info("images are seen with %s, as in training", account.neutral.name)
    if account.fill == "blind" and account.mask is not None:
        network.register_forward_pre_hook(Blank(account.mask))
        logger.info("a place is blanked, as it was in training")
    layer = last_layer(network)
    if account.projection is not None and layer is not None:
        layer.register_forward_pre_hook(account.projection.hook)
        logger.info("a direction is projected out of the features, as after training")


class LoadWeights(Handler):
    """Load a network's weights when an evaluator starts; one of its handlers.

    Args:
        network: the network whose weights are loaded.
        path: the file; see `load_weights`.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network = network
        self.path = Path(path)

    def _steps(self) -> Steps:
        return [(Events.STARTED, self._load)]

    def _load(self) -> None:
        load_weights(self.network, self.path)
        logger.info("weights of %s", self.path)
