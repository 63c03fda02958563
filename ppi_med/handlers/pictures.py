"""Pictures of an evaluation.

For two classes the ROC curve, slices with their map and the weights of slices; for K classes images
with their map and boxes.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.evaluation import figures
from ppi_med.evaluation.bootstrap import bootstrap
from ppi_med.evaluation.measures import binary_label, positive_logit
from ppi_med.evaluation.metrics import AUC
from ppi_med.evaluation.predictions import Predictions
from ppi_med.handlers.base import Handler, Steps
from ppi_med.handlers.metrics import class_of, logits_and_labels, predicted_class
from ppi_med.handlers.predictions import ID, Method, column, stacked
from ppi_med.naming import distinct
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.modes import evaluating
from ppi_med.training.state import unwrapped

_REFUSED, _LONGEST_NAME = r"[^\w\-.]", 80


@dataclass(frozen=True)
class Case:
    """One case to draw.

    Attributes:
        name: volume_id.
        image: `(1, C, *spatial)` on the CPU.
        label: 0 or 1.
        probability: probability of label 1, as evaluated.
        lesion: mask of the image's shape, or None.
    """

    name: str
    image: Tensor
    label: int
    probability: float
    lesion: Tensor | None


class _Pictures(Handler):
    """Keeps some cases of an evaluation and draws them at its end."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        network: nn.Module,
        tracker: Tracker | None,
        folder: str,
    ) -> None:
        self.directory = Path(directory)
        self.network = network
        self.tracker = tracker if tracker is not None else NullTracker()
        self.folder = folder
        self._kept: list[Any] = []

    def _steps(self) -> Steps:
        return [
            (Events.STARTED, self._clear),
            (Events.ITERATION_COMPLETED, self._keep),
            (Events.COMPLETED, self._draw),
        ]

    def _clear(self) -> None:
        self._kept = []

    @abstractmethod
    def _keep(self, engine: Engine) -> None:
        """Keep the cases of a batch that are drawn, on the CPU."""

    @abstractmethod
    def _draw(self, engine: Engine) -> None:
        """Draw what was kept."""

    def _device(self) -> torch.device:
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))

    def _save(self, figure: Any, name: str) -> None:
        # Most systems take 255 bytes, and a letter may need three.
        path = self.directory / f"{distinct(name, _REFUSED, _LONGEST_NAME)}.png"
        self.tracker.log_artifact(figures.save_figure(figure, path), self.folder)


class PicturesHandler(_Pictures):
    """Draws pictures after an evaluation and records them; one of `validate#handlers`.

    `roc.png`; for the first cases of each label `case_<volume_id>.png` with its most relevant
    slices; and, if the network has `explain`, `weights_<volume_id>.png`. They overwrite those of
    the previous evaluation. The ROC curve needs a `PredictionsHandler` before this one.

    Args:
        directory: output folder.
        network: the network; in evaluation mode while drawing, then restored.
        method: saliency by `method(network, image, target)`; None draws no maps.
        tracker: records the files in the run; None does not.
        cases: number of cases per label to draw.
        slices: how many slices of a volume `(N, 1, S, H, W)` to draw.
        positive: class whose map is drawn.
        interval: draw after every so many epochs of a training.
        best_only: draw only after the best epoch so far (of the evaluator's key metric).
        lesion_key: key of the batch with a mask to outline, if it has one.
        aspect: height of a pixel divided by its width.
        folder: folder of the run, for the files.

    Raises:
        ValueError: if `cases`, `slices` or `interval` is not positive.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        network: nn.Module,
        method: Method | None = None,
        tracker: Tracker | None = None,
        cases: int = 2,
        slices: int = 3,
        positive: int = 1,
        interval: int = 1,
        best_only: bool = False,
        lesion_key: str = "lesion",
        aspect: float = 1.0,
        folder: str = "pictures",
    ) -> None:
        if min(cases, slices, interval) < 1:
            raise ValueError(
                f"Got cases={cases}, slices={slices} and interval={interval}, expected 1 or more."
            )
        super().__init__(directory, network, tracker, folder)
        self.method = method
        self.cases = cases
        self.slices = slices
        self.positive = positive
        self.interval = interval
        self.best_only = best_only
        self.lesion_key = lesion_key
        self.aspect = aspect

    def _keep(self, engine: Engine) -> None:
        """Keep the first cases of each label, on the CPU."""
        missing = {
            label: self.cases - sum(c.label == label for c in self._kept) for label in (0, 1)
        }
        if max(missing.values()) <= 0 or not self._drawn_now(engine):
            return
        logits, labels = logits_and_labels(engine.state.output)
        probabilities = torch.sigmoid(positive_logit(logits, self.positive)).tolist()
        values = binary_label(labels, self.positive).tolist()
        names = column(engine.state.batch, ID, len(values)) or [str(i) for i in range(len(values))]
        images = _items(engine.state.output, CommonKeys.IMAGE) or []
        lesions = _items(engine.state.batch, self.lesion_key) or [None] * len(values)
        for index, label in enumerate(values):
            if missing[label] > 0:
                missing[label] -= 1
                lesion = lesions[index]
                self._kept.append(
                    Case(
                        names[index],
                        _plain(images[index])[None],
                        label,
                        probabilities[index],
                        None if lesion is None else _plain(lesion),
                    )
                )

    def _draw(self, engine: Engine) -> None:
        # The best epoch is known only now.
        best = getattr(engine.state, "best_metric_epoch", None)
        if not self._drawn_now(engine) or (self.best_only and best != engine.state.epoch):
            return
        predictions = getattr(engine.state, "predictions", None)
        if isinstance(predictions, Predictions) and np.unique(predictions.label).size == 2:
            self._save(_roc(predictions), "roc")
        for case in self._kept:
            self._draw_case(case)
        self._kept = []

    def _draw_case(self, case: Case) -> None:
        network = unwrapped(self.network)
        image = case.image.to(self._device())
        with evaluating(network):
            weights = _slice_weights(network, image)
            saliency = None if self.method is None else self.method(network, image, self.positive)
        chosen: list[int] = []
        if saliency is not None:
            planes, maps = _planes(case.image), _planes(saliency.detach().cpu())
            chosen = most_relevant(maps, self.slices)
            outlines = None if case.lesion is None else _planes(case.lesion[None])[chosen]
            names = [_name(i, len(planes), weights) for i in chosen]
            figure = figures.overlay_figure(
                planes[chosen],
                maps[chosen],
                names=names,
                title=_title(case),
                outlines=outlines,
                aspect=self.aspect,
            )
            self._save(figure, f"case_{case.name}")
        if weights is not None:
            figure = figures.slice_weight_figure(
                weights["weights"],
                probabilities=weights["probabilities"],
                marked=chosen,
                title=_title(case),
            )
            self._save(figure, f"weights_{case.name}")

    def _drawn_now(self, engine: Engine) -> bool:
        first_process = getattr(engine.state, "rank", 0) == 0
        return first_process and engine.state.epoch % self.interval == 0


class ClassPictures(_Pictures):
    """Draws the first images of an evaluation with the map of their label; in `test#handlers`.

    One file, `maps.png`, one row per image, boxes outlined where the batch has them.

    Args:
        directory: output folder.
        network: the network whose maps are drawn; restored afterwards.
        method: `method(network, image, target)`.
        mask_key: key of the boxes' mask in the batch.
        images: number of images, 1 or more.
        tracker: records the file in the run; None does not.
        folder: folder of the run, for the file.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        network: nn.Module,
        method: Method,
        mask_key: str = "box",
        images: int = 6,
        tracker: Tracker | None = None,
        folder: str = "pictures",
    ) -> None:
        if images < 1:
            raise ValueError(f"Got images={images}, expected 1 or more.")
        super().__init__(directory, network, tracker, folder)
        self.method = method
        self.mask_key = mask_key
        self.images = images

    def _keep(self, engine: Engine) -> None:
        missing = self.images - len(self._kept)
        image = stacked(engine.state.output, CommonKeys.IMAGE) if missing > 0 else None
        if image is None or getattr(engine.state, "rank", 0) > 0:
            return
        logits, labels = logits_and_labels(engine.state.output)
        classes, answers = class_of(labels), predicted_class(logits)
        names = column(engine.state.batch, ID, len(classes)) or [""] * len(classes)
        masks = stacked(engine.state.batch, self.mask_key)
        # Spread over the batch: the first images are often all of one class.
        chosen = np.linspace(0, len(image) - 1, min(missing, len(image))).astype(int)
        for i in chosen.tolist():
            title = f"{names[i]}: class {int(classes[i])}, answer {int(answers[i])}"
            mask = None if masks is None else masks[i].cpu()
            self._kept.append((title, image[i].cpu(), int(classes[i]), mask))

    def _draw(self, engine: Engine) -> None:
        if not self._kept:
            return
        titles, images, classes, masks = (list(part) for part in zip(*self._kept, strict=True))
        network = unwrapped(self.network)
        device = self._device()
        batch = torch.stack(images).to(device)
        with evaluating(network):
            maps = self.method(network, batch, torch.tensor(classes, device=device)).detach()
        outlines: Any = None if None in masks else torch.stack(masks)[:, 0].numpy()
        figure = figures.overlay_figure(
            batch.mean(1).cpu().numpy(), maps.sum(1).cpu().numpy(), names=titles, outlines=outlines
        )
        self._save(figure, "maps")
        self._kept = []


def most_relevant(maps: np.ndarray[Any, Any], count: int) -> list[int]:
    """Return the indices of the planes `(S, H, W)` with the largest sum of |map|, rising."""
    strength = np.abs(maps).sum(axis=(1, 2))
    return sorted(np.argsort(-strength, kind="stable")[:count].tolist())


def _roc(found: Predictions) -> Any:
    subjects = np.unique(found.subject)
    known = subjects.size > 1 and "" not in subjects
    interval = bootstrap(AUC, found.label, found.score, found.subject) if known else None
    return figures.roc_figure(found.label, found.score, interval=interval)


def _slice_weights(network: Any, image: Tensor) -> dict[str, Any] | None:
    if not hasattr(network, "explain"):
        return None
    with torch.no_grad():
        found = network.explain(image)
    return {
        "weights": found.slice_weights[0].float().cpu().numpy(),
        "probabilities": torch.sigmoid(found.slice_logits[0].float()).cpu().numpy(),
    }


def _planes(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return `(S, H, W)` of an image `(1, C, H, W)` or volume `(1, C, S, H, W)`.

    Channels are averaged for grey values; relevance is summed over channels.
    """
    planes = tensor[0].float().mean(dim=0)
    return (planes if planes.ndim == 3 else planes[None]).numpy()


def _items(batch: Any, key: str) -> list[Any] | None:
    """Return a key of each case, decollated or not; None where it is missing."""
    if isinstance(batch, Mapping):
        return list(batch[key]) if key in batch else None
    return [case[key] for case in batch] if batch and key in batch[0] else None


def _plain(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().as_subclass(Tensor).cpu()


def _title(case: Case) -> str:
    return f"{case.name}: label {case.label}, probability {case.probability:.2f}"


def _name(index: int, total: int, weights: dict[str, Any] | None) -> str:
    if total == 1:
        return ""
    text = f"slice {index + 1} of {total}"
    if weights is None:
        return text
    weight, probability = weights["weights"][index], weights["probabilities"][index]
    return f"{text}, weight {weight:.3f}, probability {probability:.2f}"
