"""Record what a validation's inputs are like, and count the test cases that are unlike them."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med import naming
from ppi_med.evaluation.familiarity import (
    Floats,
    KnownInputs,
    features_of_items,
    grey_numbers,
    likeness,
    recorded_features,
)
from ppi_med.handlers.base import Handler, Steps
from ppi_med.handlers.publish_weights import weights_facts

logger = logging.getLogger(__name__)


class Familiarity(Handler):
    """One of an evaluator's handlers.

    In the validation it records what the inputs are like (see `ppi_med.evaluation.familiarity`);
    the JSON file of the best weights keeps that under `inputs`, and inference warns of an input
    that is unlike it. In the test, with `weights`, it counts such cases: the metric `test/unlike`
    is their share.

    Args:
        network: the network whose features are recorded.
        weights: file of the weights with the record to compare with; `None` to make the record.
        tracker: gets the share.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: str | os.PathLike[str] | None = None,
        tracker: Any = None,
    ) -> None:
        self.network = network
        self.weights = None if weights is None else Path(weights)
        self.tracker = tracker
        self._recording = ExitStack()
        self._found: list[Tensor] = []
        self._images: Any = ()
        self._grey: list[dict[str, float]] = []
        self._features: list[Floats | None] = []

    def _steps(self) -> Steps:
        return [
            (Events.STARTED, self._start),
            (Events.ITERATION_COMPLETED, self._collect),
            # Before COMPLETED, at which weights are kept and runs closed, in any order.
            (Events.EPOCH_COMPLETED, self._finish),
            # One step at a time: no hook stays on the network between steps.
            (Events.ITERATION_STARTED, self._record),
        ]

    def _start(self) -> None:
        self._recording.close()
        self._grey, self._features = [], []
        known = None if self.weights is None else weights_facts(self.weights).get("inputs")
        self._known = KnownInputs.read(known)
        self._unlike: list[str] = []

    def _record(self, engine: Engine) -> None:
        batch: Any = engine.state.batch  # later it may be decollated
        self._images = batch[CommonKeys.IMAGE]
        self._recording.close()
        self._found = self._recording.enter_context(recorded_features(self.network))

    def _collect(self) -> None:
        images = self._images
        sliced = hasattr(self.network, "slice_classifier")
        features = features_of_items(self._found, len(images), sliced)
        self._recording.close()
        for index, image in enumerate(images):
            own = None if features is None else features[index]
            pixels = np.asarray(image.detach().cpu())
            if self.weights is None:
                self._grey.append(grey_numbers(pixels))
                self._features.append(own)
            else:
                self._unlike.append(likeness(pixels, own, self._known).warning)

    def _finish(self, engine: Engine) -> None:
        if self.weights is None:
            rows = [row for row in self._features if row is not None]
            features = np.stack(rows) if rows and len(rows) == len(self._grey) else None
            known = KnownInputs.of(self._grey, features)
            engine.state.known_inputs = known  # type: ignore[attr-defined]
        elif self._unlike:
            count = sum(map(bool, self._unlike))
            share = count / len(self._unlike)
            if self.tracker is not None and getattr(engine.state, "rank", 0) == 0:
                self.tracker.log_metrics({naming.TEST_UNLIKE: share}, step=0)
            if count:
                first = next(filter(None, self._unlike))
                logger.warning("%d of %d test cases are %s", count, len(self._unlike), first)
