"""How faithful a network's maps are, method by method, over the images of an evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from numpy.typing import NDArray
from torch import Tensor, nn

from ppi_med.evaluation.bootstrap import interval, of_mean
from ppi_med.evaluation.faithfulness import TOP_K, deletion_curve, insertion_curve, random_values
from ppi_med.evaluation.figures import curves_figure, save_figure
from ppi_med.evaluation.measures import pixel_values
from ppi_med.handlers.base import Handler, Steps
from ppi_med.handlers.metrics import class_of, logits_and_labels, predicted_class
from ppi_med.handlers.predictions import MEASURES, Method, measure_maps, stacked
from ppi_med.io import write_json, write_text
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.modes import evaluating
from ppi_med.training.state import unwrapped

RANDOM = "random"
DELETION, INSERTION = "deletion", "insertion"
Floats = NDArray[np.float64]

logger = logging.getLogger(__name__)


class MapCurves(Handler):
    """Deletion, insertion and localisation of each method's maps; in an evaluator's handlers.

    The map explains the label. Pixels are removed (replaced by 0) or shown, highest first, and the
    score is the label's probability; `random` removes them in a random order. It writes
    `curves.csv` (a line for each method and count), `maps.json` (areas under both curves, and Table
    7's measures if there are boxes, each a mean with a 95 % interval over images) and `curves.png`.

    Args:
        directory: output folder.
        network: the network whose maps are measured; in evaluation mode meanwhile, then restored.
        methods: name -> `method(network, image, target)`.
        counts: numbers of pixels (default Figure 5's); those beyond the image are left out.
        top: number of highest points for the energy (Table 7: 1000 of 224 x 224).
        right_only: leave out images whose class the network gets wrong.
        mask_key: key of the boxes' mask in the batch.
        seed: seed of the random order and the intervals.
        tracker: records the files in the run; None does not.

    Raises:
        ValueError: if there is no method, or one is named `random`.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        network: nn.Module,
        methods: Mapping[str, Method],
        counts: Sequence[int] = TOP_K,
        top: int = 1000,
        right_only: bool = False,
        mask_key: str = "box",
        seed: int = 0,
        tracker: Tracker | None = None,
    ) -> None:
        if not methods or RANDOM in methods:
            raise ValueError(f"methods are {sorted(methods)}, expected one or more, none {RANDOM}.")
        self.directory = Path(directory)
        self.network = network
        self.methods = dict(methods)
        self.counts = tuple(counts)
        self.top = top
        self.right_only = right_only
        self.mask_key = mask_key
        self.seed = seed
        self.tracker = tracker if tracker is not None else NullTracker()
        self._clear()

    def _steps(self) -> Steps:
        return [
            (Events.STARTED, self._clear),
            (Events.STARTED, self.tracker.start),
            (Events.ITERATION_COMPLETED, self._measure),
            (Events.COMPLETED, self._write),
        ]

    def _clear(self) -> None:
        self._curves: dict[str, dict[str, list[Tensor]]] = {}
        self._measures: dict[str, list[dict[str, float]]] = {}
        self._kept_counts: tuple[int, ...] = ()
        self._seen = self._right = 0

    def _measure(self, engine: Engine) -> None:
        logits, labels = logits_and_labels(engine.state.output)
        target, image = class_of(labels), stacked(engine.state.output, CommonKeys.IMAGE)
        if image is None:
            raise KeyError("The evaluator's output has no 'image', which the maps are made of.")
        right = predicted_class(logits) == target
        self._seen, self._right = self._seen + len(right), self._right + int(right.sum())
        kept = right.nonzero()[:, 0] if self.right_only else torch.arange(len(right))
        if len(kept) == 0:
            return
        mask = stacked(engine.state.batch, self.mask_key)
        image, target = image[kept.to(image.device)], target[kept].to(image.device)
        network = unwrapped(self.network)
        with evaluating(network):
            for name, method in self.methods.items():
                maps = method(network, image, target).detach()
                self._curve(name, network, image, target, pixel_values(maps))
                if mask is not None:
                    inside = mask[kept].to(maps.device).bool()[:, 0]
                    found = measure_maps(maps, inside, self.top)
                    self._measures.setdefault(name, []).extend(row for row in found if row)
            order = random_values(image, self.seed + engine.state.iteration)
            self._curve(RANDOM, network, image, target, order)

    def _curve(
        self, name: str, network: nn.Module, image: Tensor, target: Tensor, values: Tensor
    ) -> None:
        for kind, make in ((DELETION, deletion_curve), (INSERTION, insertion_curve)):
            curve = make(network, image, target, values, counts=self.counts)
            self._kept_counts = curve.counts
            kinds = self._curves.setdefault(name, {DELETION: [], INSERTION: []})
            kinds[kind].append(curve.scores.double().cpu())

    def _write(self, engine: Engine) -> None:
        if getattr(engine.state, "rank", 0) > 0:
            return
        if not self._curves:
            raise ValueError(
                f"None of {self._seen} images is right, so no map is measured: check weights, "
                "normalisation and class numbers, or give right_only=false."
            )
        curves = {
            name: {kind: torch.cat(parts).numpy() for kind, parts in kinds.items()}
            for name, kinds in self._curves.items()
        }
        result = {
            "images": self._seen,
            "right": self._right,
            "measured": len(curves[RANDOM][DELETION]),
            "counts": list(self._kept_counts),
            "methods": {name: self._summary(name, kinds) for name, kinds in curves.items()},
        }
        write_json(self.directory / "maps.json", result)
        write_text(self.directory / "curves.csv", self._table(curves))
        panels = {
            kind: {name: kinds[kind].mean(0) for name, kinds in curves.items()}
            for kind in (DELETION, INSERTION)
        }
        title = f"{result['measured']} images"
        figure = curves_figure(panels, self._kept_counts, title)
        save_figure(figure, self.directory / "curves.png")
        for file in ("maps.json", "curves.csv", "curves.png"):
            self.tracker.log_artifact(self.directory / file, "maps")
        logger.info("accuracy %.3f of %d images", self._right / self._seen, self._seen)
        for name, found in result["methods"].items():  # type: ignore[attr-defined]
            shown = "  ".join(f"{key} {value['mean']:.3f}" for key, value in found.items())
            logger.info("%-14s %s", name, shown)

    def _summary(self, name: str, kinds: dict[str, Floats]) -> dict[str, dict[str, float | None]]:
        """Return each measure's mean and interval."""
        width = np.asarray(self._kept_counts, dtype=np.float64)
        columns = {
            kind: np.trapezoid(scores, width, axis=1) / width[-1] for kind, scores in kinds.items()
        }
        rows = self._measures.get(name, [])
        for measure in MEASURES:
            values = np.array([row[measure] for row in rows], dtype=np.float64)
            if len(values) and not np.isnan(values).all():
                columns[measure] = values[~np.isnan(values)]
        return {key: mean_with_interval(values, self.seed) for key, values in columns.items()}

    def _table(self, curves: Mapping[str, Mapping[str, Floats]]) -> str:
        lines = ["method,pixels,deletion,reduction,insertion"]
        for name, kinds in curves.items():
            removed, shown = kinds[DELETION].mean(0), kinds[INSERTION].mean(0)
            for i, count in enumerate(self._kept_counts):
                lost = removed[0] - removed[i]
                lines.append(f"{name},{count},{removed[i]:.5f},{lost:.5f},{shown[i]:.5f}")
        return "\n".join(lines) + "\n"


def mean_with_interval(
    values: Floats, seed: int = 0, repeats: int = 2000
) -> dict[str, float | None]:
    """Return the mean of images with its 95 % interval, images resampled; None for one image.

    Examples:
        >>> mean_with_interval(np.array([0.5, 0.5]))
        {'mean': 0.5, 'low': 0.5, 'high': 0.5}
    """
    found = interval([of_mean(values, np.arange(len(values)))], seed=seed, repeats=repeats)
    # A single image has no interval, and JSON no NaN.
    known = not np.isnan(found.low)
    return {
        "mean": found.value,
        "low": found.low if known else None,
        "high": found.high if known else None,
    }
