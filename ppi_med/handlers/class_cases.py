"""What a network of K classes said about each case, and whether its map lies in the box."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.distributed import rows_of_all
from ppi_med.evaluation.localisation import energy_inside, pointing_game
from ppi_med.evaluation.measures import class_probability, pixel_values
from ppi_med.handlers.accuracy import class_of, predicted_class
from ppi_med.handlers.metrics import logits_and_labels
from ppi_med.handlers.predictions import ID, SITE, column
from ppi_med.io import atomic_path
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.modes import evaluating
from ppi_med.training.state import unwrapped

Method = Callable[[Any, Tensor, Any], Tensor]

COLUMNS = (ID, SITE, "label", "predicted", "score")
ENERGY_TOP, ENERGY_ALL, POINTING, AREA = "energy_top", "energy_all", "pointing", "box_area"
MEASURES = (ENERGY_TOP, ENERGY_ALL, POINTING, AREA)

Row = dict[str, Any]


class ClassCases:
    """Collects an evaluator's cases, writes them as CSV; one of `test#handlers`.

    Columns: volume_id, site, label, predicted, score (probability of the label); and, with a
    method and boxes (Table 7): the share of the map's energy inside the box of the `top` highest
    points and of all, whether the highest point lies inside, and the box's share of the image. A
    map is that of the label, summed over channels; energy is its positive part. The rows are left
    in `engine.state.cases`.

    Args:
        path: path of the CSV; None writes none.
        network: whose maps are measured.
        method: `method(network, image, target)`; None measures no maps.
        mask_key: key of the boxes' mask `(N, 1, *spatial)` in the batch; a case whose mask is
            empty is not measured.
        top: number of highest points (Table 7: 1000 of 224 x 224).
        tracker: records the file in the run; None does not.
        folder: folder of the run, for the file.

    Raises:
        ValueError: where a method comes without a network.
        KeyError: while evaluating, where the batches have no "volume_id".

    Examples:
        >>> evaluator = Engine(lambda engine, batch: batch)
        >>> ClassCases().attach(evaluator)
        >>> batch = {"pred": torch.zeros(1, 4), "label": torch.ones(1), "volume_id": ["a"]}
        >>> evaluator.run([batch]).cases[0]["score"]
        0.25
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        network: nn.Module | None = None,
        method: Method | None = None,
        mask_key: str = "box",
        top: int = 1000,
        tracker: Tracker | None = None,
        folder: str = "predictions",
    ) -> None:
        if method is not None and network is None:
            raise ValueError("Got a method without the network whose maps it makes: give both.")
        self.path = None if path is None else Path(path)
        self.network = network
        self.method = method
        self.mask_key = mask_key
        self.top = top
        self.tracker = tracker if tracker is not None else NullTracker()
        self.folder = folder
        self._rows: list[Row] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator.

        Raises:
            RuntimeError: where it is attached to it already.
        """
        if engine.has_event_handler(self._collect, Events.ITERATION_COMPLETED):
            raise RuntimeError("A ClassCases is attached once: name it once in handlers.")
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._gather)

    def _clear(self, engine: Engine) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        logits, labels = logits_and_labels(engine.state.output)
        classes = class_of(labels)
        names = column(engine.state.batch, ID, len(classes))
        if names is None:
            raise KeyError(f"The batch has no {ID!r}: keep it in the datalist and the transforms.")
        sites = column(engine.state.batch, SITE, len(classes)) or [""] * len(classes)
        answers = predicted_class(logits).tolist()
        scores = class_probability(logits.detach().float(), classes).tolist()
        values = zip(names, sites, classes.tolist(), answers, scores, strict=True)
        rows: list[Row] = [dict(zip(COLUMNS, row, strict=True)) for row in values]
        for row, measured in zip(rows, self._measured(engine, classes), strict=True):
            row.update(measured)
        self._rows += rows

    def _measured(self, engine: Engine, classes: Tensor) -> list[dict[str, float]]:
        """Return the measures of each case's map; nothing for a case without a box."""
        nothing: list[dict[str, float]] = [{} for _ in range(len(classes))]
        mask = stacked(engine.state.batch, self.mask_key)
        if self.method is None or self.network is None or mask is None or not bool(mask.any()):
            return nothing
        image = stacked(engine.state.output, CommonKeys.IMAGE)
        if image is None:
            return nothing
        network = unwrapped(self.network)
        with evaluating(network):
            maps = self.method(network, image, classes.to(image.device)).detach()
        return measure_maps(maps, mask.to(maps.device).bool()[:, 0], self.top)

    def _gather(self, engine: Engine) -> None:
        rows = sorted(rows_of_all(self._rows), key=lambda row: str(row[ID]))
        engine.state.cases = rows  # type: ignore[attr-defined]
        if self.path is None or getattr(engine.state, "rank", 0) > 0:
            return
        write_cases(self.path, rows)
        self.tracker.log_artifact(self.path, self.folder)


def measure_maps(maps: Tensor, mask: Tensor, top: int) -> list[dict[str, float]]:
    """Return Table 7's measures of each map `(N, C, *spatial)` by name.

    Args:
        maps: signed; summed over channels, positive part.
        mask: `(N, *spatial)`, inside the boxes; a case with none has no measures.
        top: number of highest points.

    Examples:
        >>> maps = torch.tensor([[[[3.0, 1.0, -2.0]]]])
        >>> measure_maps(maps, torch.tensor([[[True, False, False]]]), top=1)[0]["energy_all"]
        0.75
    """
    values = pixel_values(maps)
    energy = values.clamp(min=0)
    columns = {
        ENERGY_TOP: energy_inside(energy, mask, top),
        ENERGY_ALL: energy_inside(energy, mask),
        POINTING: pointing_game(values, mask),
        AREA: mask.flatten(1).float().mean(1),
    }
    found = [dict.fromkeys(columns, 0.0) if has else {} for has in mask.flatten(1).any(1).tolist()]
    for name, column_values in columns.items():
        for row, value in zip(found, column_values.tolist(), strict=True):
            if row:
                row[name] = value
    return found


def write_cases(path: str | os.PathLike[str], rows: list[Row]) -> None:
    """Write the rows as CSV, atomically; a measure that is not defined is an empty cell."""
    names = [*COLUMNS, *(m for m in MEASURES if any(m in row for row in rows))]
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(row.get(name)) for name in names])


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return "" if value is None else value


def stacked(batch: Any, key: str) -> Tensor | None:
    """Return a key of all cases as one plain tensor, decollated or not; None where it is missing.

    Maps need a gradient on the image, so it is taken off what MONAI wrapped it in.
    """
    if isinstance(batch, dict):
        value = batch.get(key)
    elif batch and isinstance(batch[0], dict) and key in batch[0]:
        value = torch.stack([torch.as_tensor(case[key]) for case in batch])
    else:
        value = None
    return None if value is None else torch.as_tensor(value).as_subclass(Tensor)
