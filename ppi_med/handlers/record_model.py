"""Records the trained network in MLflow's own format."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from ppi_med.handlers.base import Handler, Steps
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.state import unwrapped

logger = logging.getLogger(__name__)


class RecordModel(Handler):
    """When training has completed, record the network with its best weights.

    One of `train#handlers`. The model loads by `mlflow.pyfunc.load_model` and takes float32
    arrays; `ppi_med.tracking.models` says what the format is inside.

    Args:
        tracker: from `ppi_med.tracking.create_tracker`; None records nothing.
        network: the network; it is copied, so that its own weights stay.
        input_shape: shape of one input without the batch, `(C, *spatial)`.
        weights: file of the best `state_dict`; default, or if it does not exist: the weights at the
            end.
        registered_name: register the model under this name; default not.
        free_axes: axes of the batched input whose length the signature leaves open.
        serialization: "pickle" or "pt2", see `ppi_med.tracking.models`.
    """

    def __init__(
        self,
        tracker: Tracker | None,
        network: nn.Module,
        input_shape: Sequence[int],
        weights: str | os.PathLike[str] | None = None,
        registered_name: str | None = None,
        free_axes: Sequence[int] = (0,),
        serialization: str = "pickle",
    ) -> None:
        self.tracker = tracker if tracker is not None else NullTracker()
        self.network = network
        self.input_shape = tuple(int(n) for n in input_shape)
        self.weights = weights
        self.registered_name = registered_name
        self.free_axes = tuple(free_axes)
        self.serialization = serialization

    def _steps(self) -> Steps:
        return [(Events.COMPLETED, self._record)]

    def _record(self, engine: Engine) -> None:
        if not self.tracker.active:
            return
        network: Any = copy.deepcopy(unwrapped(self.network))
        if self.weights is not None and Path(self.weights).exists():
            state = torch.load(self.weights, map_location="cpu", weights_only=True)
            network.load_state_dict(state)
        self.tracker.log_model(
            network,
            torch.zeros(2, *self.input_shape),
            registered_name=self.registered_name,
            free_axes=self.free_axes,
            serialization=self.serialization,
            step=engine.state.epoch,
        )
