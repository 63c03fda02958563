"""A network's answers about each case of an evaluation, written as a table.

For two classes, or for K; then it is also measured whether a case's map is in its box.
"""

from __future__ import annotations

import csv
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.distributed import rows_of_all
from ppi_med.evaluation.localisation import energy_inside, pointing_game
from ppi_med.evaluation.measures import (
    binary_label,
    class_probability,
    pixel_values,
    positive_logit,
)
from ppi_med.evaluation.predictions import Predictions
from ppi_med.handlers.base import Handler, Steps
from ppi_med.handlers.metrics import class_of, logits_and_labels, predicted_class
from ppi_med.io import atomic_path, exclusive
from ppi_med.pace import Pace
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.modes import evaluating
from ppi_med.training.state import unwrapped

Method = Callable[[Any, Tensor, Any], Tensor]
Row = dict[str, Any]

# Locks of this process: two handlers may write the same table one after the other.
_HELD: set[Path] = set()

ID, SUBJECT, SITE = "volume_id", "subject", "site"
COLUMNS = (ID, SITE, "label", "predicted", "score")
ENERGY_TOP, ENERGY_ALL, POINTING, AREA = "energy_top", "energy_all", "pointing", "box_area"
MEASURES = (ENERGY_TOP, ENERGY_ALL, POINTING, AREA)


class _CaseTable(Handler):
    """Collects a row per case; at the end of the evaluation they are stored and written."""

    def __init__(
        self, path: str | os.PathLike[str] | None, tracker: Tracker | None, folder: str
    ) -> None:
        self.path = None if path is None else Path(path)
        self.tracker = tracker if tracker is not None else NullTracker()
        self.folder = folder
        self._rows: list[Row] = []
        self._pace = Pace(0)
        self._held = ExitStack()

    def _steps(self) -> Steps:
        return [
            (Events.STARTED, self._clear),
            (Events.ITERATION_COMPLETED, self._collect),
            (Events.EPOCH_COMPLETED, self._gather),
        ]

    def _clear(self, engine: Engine) -> None:
        self._rows = []
        self._pace = Pace(engine.state.epoch_length or 0, "evaluation, batches")
        self._held.close()  # of a run that an error ended
        if self.path is not None and getattr(engine.state, "rank", 0) == 0:
            self._hold(self.path.parent.resolve() / f".{self.path.name}.lock")

    def _hold(self, lock: Path) -> None:
        """Lock the table against other processes; handlers of one process write in turn."""
        if lock not in _HELD:
            self._held.enter_context(exclusive(lock.parent, "evaluation", name=lock.name))
            _HELD.add(lock)
            self._held.callback(_HELD.discard, lock)

    def _collect(self, engine: Engine) -> None:
        logits, labels = logits_and_labels(engine.state.output)
        answers = self._answers(engine, logits, labels)
        batch, size = engine.state.batch, len(answers)
        names = column(batch, ID, size)
        if names is None:
            raise KeyError(
                f"The batch has no {ID!r}, only {_keys(batch)}: keep it in the datalist and in "
                "the transforms."
            )
        subjects = column(batch, SUBJECT, size) or [""] * size
        sites = column(batch, SITE, size) or [""] * size
        for name, subject, site, answer in zip(names, subjects, sites, answers, strict=True):
            self._rows.append({ID: name, SUBJECT: subject, SITE: site, **answer})
        self._pace.step()

    def _gather(self, engine: Engine) -> None:
        self._leave(engine, rows_of_all(self._rows))
        with self._held:
            first = getattr(engine.state, "rank", 0) == 0
            if self.path is not None and first and self._wanted(engine):
                self._write(engine, self.path)
                self.tracker.log_artifact(self.path, self.folder)

    def _wanted(self, engine: Engine) -> bool:
        return True

    @abstractmethod
    def _answers(self, engine: Engine, logits: Tensor, labels: Tensor) -> list[Row]:
        """Return the rows of the batch."""

    @abstractmethod
    def _leave(self, engine: Engine, rows: list[Row]) -> None:
        """Store the rows of all processes in the engine's state."""

    @abstractmethod
    def _write(self, engine: Engine, path: Path) -> None:
        """Write the stored rows."""


class PredictionsHandler(_CaseTable):
    """Collects an evaluator's predictions, writes them as CSV; one of `validate#handlers`.

    The columns are volume_id, subject, site, label and score (probability of label 1). The record
    is also in `engine.state.predictions`, where pictures and summaries find it.

    Args:
        path: path of the CSV; None writes none.
        positive: index of the positive class, for two or more logits.
        best_only: write only after the best epoch so far (of the evaluator's key metric).
        tracker: records the file in the run; None does not.
        folder: folder of the run, for the file.

    Raises:
        KeyError: while evaluating, where the batches have no "volume_id".

    Examples:
        >>> evaluator = Engine(lambda engine, batch: batch)
        >>> PredictionsHandler().attach(evaluator)
        >>> batch = {"pred": torch.zeros(1, 1), "label": torch.ones(1), "volume_id": ["v1"]}
        >>> evaluator.run([batch]).predictions.score.tolist()
        [0.5]
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        positive: int = 1,
        best_only: bool = False,
        tracker: Tracker | None = None,
        folder: str = "predictions",
    ) -> None:
        super().__init__(path, tracker, folder)
        self.positive = positive
        self.best_only = best_only

    def _answers(self, engine: Engine, logits: Tensor, labels: Tensor) -> list[Row]:
        scores = torch.sigmoid(positive_logit(logits, self.positive)).tolist()
        values = binary_label(labels, self.positive).tolist()
        return [{"label": v, "score": s} for v, s in zip(values, scores, strict=True)]

    def _leave(self, engine: Engine, rows: list[Row]) -> None:
        engine.state.predictions = Predictions.from_rows(rows)  # type: ignore[attr-defined]

    def _wanted(self, engine: Engine) -> bool:
        best = getattr(engine.state, "best_metric_epoch", None)
        return not self.best_only or best == engine.state.epoch

    def _write(self, engine: Engine, path: Path) -> None:
        engine.state.predictions.write(path)  # type: ignore[attr-defined]


class ClassCases(_CaseTable):
    """Collects an evaluator's cases, writes them as CSV; one of `test#handlers`.

    Columns: volume_id, site, label, predicted, score (probability of the label); and, with a
    method and boxes (Table 7): the share of the map's energy inside the box of the `top` highest
    points and of all, whether the highest point lies inside, and the box's share of the image. A
    map is that of the label, summed over channels; energy is its positive part. The rows are left
    in `engine.state.cases`.

    Args:
        path: path of the CSV; None writes none.
        network: the network whose maps are measured.
        method: `method(network, image, target)`; None measures no maps.
        mask_key: key of the boxes' mask `(N, 1, *spatial)` in the batch; a case whose mask is
            empty is not measured.
        top: number of highest points (Table 7: 1000 of 224 x 224).
        tracker: records the file in the run; None does not.
        folder: folder of the run, for the file.

    Raises:
        ValueError: if a method comes without a network.
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
        super().__init__(path, tracker, folder)
        self.network = network
        self.method = method
        self.mask_key = mask_key
        self.top = top

    def _answers(self, engine: Engine, logits: Tensor, labels: Tensor) -> list[Row]:
        classes = class_of(labels)
        said = predicted_class(logits).tolist()
        scores = class_probability(logits.detach().float(), classes).tolist()
        return [
            {"label": label, "predicted": predicted, "score": score, **measured}
            for label, predicted, score, measured in zip(
                classes.tolist(), said, scores, self._measured(engine, classes), strict=True
            )
        ]

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

    def _leave(self, engine: Engine, rows: list[Row]) -> None:
        engine.state.cases = sorted(rows, key=lambda row: str(row[ID]))  # type: ignore[attr-defined]

    def _write(self, engine: Engine, path: Path) -> None:
        write_cases(path, engine.state.cases)  # type: ignore[attr-defined]


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

    Maps need a gradient on the image, so MONAI's wrapper is removed.
    """
    if isinstance(batch, dict):
        value = batch.get(key)
    elif batch and isinstance(batch[0], dict) and key in batch[0]:
        value = torch.stack([torch.as_tensor(case[key]) for case in batch])
    else:
        value = None
    return None if value is None else torch.as_tensor(value).as_subclass(Tensor)


def column(batch: Any, key: str, size: int) -> list[str] | None:
    """Return a key of each case of a batch as text, decollated or not; None where it is missing.

    Raises:
        ValueError: if the batch has another number of values than of predictions.
    """
    if isinstance(batch, Mapping):
        values = batch.get(key)
    elif isinstance(batch, Sequence) and batch and isinstance(batch[0], Mapping):
        values = [case[key] for case in batch] if key in batch[0] else None
    else:
        values = None
    if values is None:
        return None
    texts = [_text(value) for value in values]
    if len(texts) != size:
        raise ValueError(
            f"The batch has {len(texts)} values of {key!r} and {size} predictions, expected one "
            "each."
        )
    return texts


def _text(value: Any) -> str:
    return str(value.item()) if isinstance(value, torch.Tensor) else str(value)


def _keys(batch: Any) -> list[str]:
    if isinstance(batch, Sequence) and batch:
        batch = batch[0]
    return sorted(map(str, batch)) if isinstance(batch, Mapping) else []
