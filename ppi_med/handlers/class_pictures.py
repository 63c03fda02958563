"""A picture of held-out images with their maps and boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.evaluation import figures
from ppi_med.handlers.accuracy import class_of, predicted_class
from ppi_med.handlers.class_cases import Method, stacked
from ppi_med.handlers.metrics import logits_and_labels
from ppi_med.handlers.predictions import ID, column
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.modes import evaluating
from ppi_med.training.state import unwrapped


class ClassPictures:
    """Draws the first images of an evaluation with the map of their label; in `test#handlers`.

    One file, `maps.png`, one row per image, boxes outlined where the batch has them.

    Args:
        directory: where to write it.
        network: whose maps are drawn; left as it was.
        method: `method(network, image, target)`.
        mask_key: key of the boxes' mask in the batch.
        images: how many, 1 or more.
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
        self.directory = Path(directory)
        self.network = network
        self.method = method
        self.mask_key = mask_key
        self.images = images
        self.tracker = tracker if tracker is not None else NullTracker()
        self.folder = folder
        self._kept: list[tuple[str, Tensor, int, Tensor | None]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator.

        Raises:
            RuntimeError: where it is attached to it already.
        """
        if engine.has_event_handler(self._keep, Events.ITERATION_COMPLETED):
            raise RuntimeError("A ClassPictures is attached once: name it once in handlers.")
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _clear(self, engine: Engine) -> None:
        self._kept = []

    def _keep(self, engine: Engine) -> None:
        missing = self.images - len(self._kept)
        image = stacked(engine.state.output, CommonKeys.IMAGE) if missing > 0 else None
        if image is None or getattr(engine.state, "rank", 0) > 0:
            return
        logits, labels = logits_and_labels(engine.state.output)
        classes, answers = class_of(labels), predicted_class(logits)
        names = column(engine.state.batch, ID, len(classes)) or [""] * len(classes)
        masks = stacked(engine.state.batch, self.mask_key)
        # Spread over the batch: its first images are often all of one class.
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
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        batch = torch.stack(images).to(device)
        with evaluating(network):
            maps = self.method(network, batch, torch.tensor(classes, device=device)).detach()
        outlines: Any = None if None in masks else torch.stack(masks)[:, 0].numpy()
        figure = figures.overlay_figure(
            batch.mean(1).cpu().numpy(), maps.sum(1).cpu().numpy(), names=titles, outlines=outlines
        )
        path = figures.save_figure(figure, self.directory / "maps.png")
        self.tracker.log_artifact(path, self.folder)
        self._kept = []
