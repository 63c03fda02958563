"""The network's answers about patches of CT: a table of probabilities and the maps."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from numpy.typing import NDArray
from torch import Tensor, nn

from ppi_med.data.oct.sources import volume_name
from ppi_med.evaluation.familiarity import (
    KnownInputs,
    features_of_items,
    likeness,
    recorded_features,
)
from ppi_med.evaluation.measures import positive_logit
from ppi_med.handlers.base import Handler, Steps
from ppi_med.inference.report import Point, ReportContent, write_report
from ppi_med.io import atomic_path, exclusive
from ppi_med.pace import Pace
from ppi_med.places import Account

logger = logging.getLogger(__name__)

_FACTS = ("volume_id", "subject", "site")
ANSWERS, REPORTS = "answers.csv", "reports"


class PatchAnswers(Handler):
    """Writes `answers.csv` and `maps.npz` after an inference; one of the evaluator's handlers.

    The table has volume_id, subject, site, probability and warning; the arrays are `volume_id` and,
    float32 `(n, H, W)`, `image` as the network saw it and `map`, which sums over its channels. With
    `report` each subject has a page `reports/<subject>.html`: its patches to scroll through, with
    the map over them, a mark at its greatest value, and distances in millimetres.

    Args:
        network: the network whose maps are made.
        method: saliency by `method(network, image, target)`.
        output_dir: output folder.
        maps: make maps too.
        positive: class of the probability and the map, for two or more logits.
        known: `inputs` of the JSON file beside the weights: what the training's patches are like.
            One that is unlike them gets a warning in the table.
        report: write the pages.
        pixel_mm: side of a pixel of the patches in mm, `None` where unknown.
        notes: sentences for the reader of the pages.
        place: `trained.place` of the JSON file beside the weights: what the training found of a
            shortcut and did about it, which the pages say and mark.
    """

    def __init__(
        self,
        network: nn.Module,
        method: Callable[[Any, Tensor, Any], Tensor] | None,
        output_dir: str | os.PathLike[str],
        maps: bool = True,
        positive: int = 1,
        known: Mapping[str, Any] | None = None,
        report: bool = False,
        pixel_mm: float | None = None,
        notes: Sequence[str] = (),
        place: Mapping[str, Any] | None = None,
    ) -> None:
        self.account = Account.of(place)
        self.report = report
        self.pixel_mm = pixel_mm
        self.notes = tuple(notes)
        self.known = KnownInputs.read(known)
        self._recording = ExitStack()
        self._held = ExitStack()
        self._found: list[Tensor] = []
        self.network = network
        self.method = method
        self.output_dir = Path(output_dir)
        self.maps = maps and method is not None
        self.positive = positive
        self._pace = Pace(0)
        self._rows: list[tuple[str, ...]] = []
        self._arrays: list[tuple[Tensor, Tensor]] = []

    def _steps(self) -> Steps:
        return [
            (Events.STARTED, self._clear),
            (Events.ITERATION_STARTED, self._record),
            (Events.ITERATION_COMPLETED, self._collect),
            (Events.COMPLETED, self._write),
        ]

    def _clear(self, engine: Engine) -> None:
        self._rows, self._arrays = [], []
        self._pace = Pace(engine.state.epoch_length or 0, "batches of patches")
        self._held.close()  # of a run that an error ended
        self._held.enter_context(exclusive(self.output_dir, "inference"))

    def _record(self) -> None:
        self._recording.close()
        self._found = self._recording.enter_context(recorded_features(self.network))

    def _warnings(self, images: Tensor) -> list[str]:
        """Return for each patch why the answer means nothing, or ""."""
        self._recording.close()
        features = features_of_items(self._found, len(images), sliced=False)
        found = []
        for index, image in enumerate(images):
            own = None if features is None else features[index]
            found.append(likeness(np.asarray(image.cpu()), own, self.known).warning)
        return found

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        scores = torch.sigmoid(positive_logit(output[CommonKeys.PRED], self.positive)).tolist()
        facts = [[str(value) for value in batch[name]] for name in _FACTS]
        image = output[CommonKeys.IMAGE]
        warnings = self._warnings(image)
        for *known, score, warning in zip(*facts, scores, warnings, strict=True):
            self._rows.append((*known, repr(score), warning))
            if warning:
                logger.warning("%s: %s", known[0], warning)
        if (self.maps or self.report) and self.method is not None:
            saliency = self.method(self.network, image, self.positive)
            self._arrays.append((image.sum(1).cpu(), saliency.detach().sum(1).cpu()))
        elif self.report:
            self._arrays.append((image.sum(1).cpu(), torch.zeros(0)))
        self._pace.step()

    def _write(self) -> None:
        with self._held:
            self._write_all()
        pages = f", the pages in {self.output_dir / REPORTS}" if self.report else ""
        logger.info("%d answers: %s%s", len(self._rows), self.output_dir / ANSWERS, pages)

    def _write_all(self) -> None:
        with (
            atomic_path(self.output_dir / ANSWERS) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow((*_FACTS, "probability", "warning"))
            writer.writerows(self._rows)
        if self.report:
            self._write_reports()
        if not self._arrays or not self.maps:
            return
        images, maps = (torch.cat(part).numpy() for part in zip(*self._arrays, strict=True))
        names = np.array([row[0] for row in self._rows])
        with atomic_path(self.output_dir / "maps.npz") as temporary:
            np.savez_compressed(temporary, volume_id=names, image=images, map=maps)

    def _write_reports(self) -> None:
        """Write one page per subject; names are shown as text and made safe for the file name."""
        images = torch.cat([own for own, _ in self._arrays]).numpy()
        mapped = self.method is not None
        maps = torch.cat([own for _, own in self._arrays]).numpy() if mapped else None
        low, high = float(images.min()), float(images.max())
        grey = np.clip((images - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
        subjects: dict[str, list[int]] = {}
        for index, row in enumerate(self._rows):
            subjects.setdefault(row[1] or row[0], []).append(index)
        for subject, own in subjects.items():
            rows = [self._rows[index] for index in own]
            content = _content(subject, rows, grey[own], None if maps is None else maps[own])
            content = replace(
                content,
                spacing_mm=(self.pixel_mm, self.pixel_mm, None),
                notes=self.notes,
                **self._shortcut(grey.shape[1:]),
            )
            name = volume_name(subject, folder=True)
            write_report(self.output_dir / REPORTS / f"{name}.html", content)

    def _shortcut(self, size: tuple[int, ...]) -> dict[str, Any]:
        """Return what the pages say of a shortcut, and its place where the patches are as then."""
        if self.account is None:
            return {}
        mask = self.account.mask
        fits = mask is not None and tuple(mask.shape) == size
        place = mask.numpy() if mask is not None and fits else None
        return {"shortcut": self.account.sentence, "place": place}


def _content(
    subject: str,
    rows: Sequence[tuple[str, ...]],
    pixels: NDArray[np.uint8],
    maps: NDArray[np.float32] | None,
) -> ReportContent:
    """Describe a subject's patches."""
    probabilities = np.array([float(row[3]) for row in rows])
    points = []
    for number, own in enumerate([] if maps is None else maps):
        row, column = np.unravel_index(int(own.argmax()), own.shape)
        points.append(Point(number, float(row), float(column), "the map's greatest value"))
    warnings = [f"{row[0]}: {row[4]}" for row in rows if row[4]]
    return ReportContent(
        finding="a nodule drawn by at least 3 of 4 readers",
        source=subject,
        probability=float(probabilities.max()),
        pixels=pixels,
        weights=None,
        slice_probabilities=probabilities,
        saliency=maps,
        facts=(("Patches", str(len(rows))), ("Site", ", ".join(sorted({row[2] for row in rows})))),
        warnings=tuple(warnings),
        modality="CT",
        slice_name="patch",
        slice_titles=tuple(row[0] for row in rows),
        points=tuple(points),
        front=False,
        about="a neural network’s estimate for the patch with the highest of all.",
    )
