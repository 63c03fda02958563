"""What the network says about patches of CT: a table of probabilities and the maps."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.evaluation.scores import positive_logit
from ppi_med.io import atomic_path

_FACTS = ("volume_id", "subject", "site")


class PatchAnswers:
    """Writes `answers.csv` and `maps.npz` after an inference; one of the evaluator's handlers.

    The table has volume_id, subject, site and probability; the arrays are `volume_id` and, float32
    `(n, H, W)`, `image` as the network saw it and `map`, which sums over its channels.

    Args:
        network: whose maps to make.
        method: saliency by ``method(network, image, target)``.
        output_dir: where to write.
        maps: make maps too.
        positive: class whose probability and map are wanted, where there are two logits or more.
    """

    def __init__(
        self,
        network: nn.Module,
        method: Callable[[Any, Tensor, Any], Tensor] | None,
        output_dir: str | os.PathLike[str],
        maps: bool = True,
        positive: int = 1,
    ) -> None:
        self.network = network
        self.method = method
        self.output_dir = Path(output_dir)
        self.maps = maps and method is not None
        self.positive = positive
        self._rows: list[tuple[str, ...]] = []
        self._arrays: list[tuple[Tensor, Tensor]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator that does not decollate.

        Raises:
            RuntimeError: where it is attached to it already.
        """
        if engine.has_event_handler(self._collect, Events.ITERATION_COMPLETED):
            raise RuntimeError("A PatchAnswers is attached once: name it once in handlers.")
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _clear(self) -> None:
        self._rows, self._arrays = [], []

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        scores = torch.sigmoid(positive_logit(output[CommonKeys.PRED], self.positive)).tolist()
        facts = [[str(value) for value in batch[name]] for name in _FACTS]
        for *known, score in zip(*facts, scores, strict=True):
            self._rows.append((*known, repr(score)))
        if self.maps and self.method is not None:
            image = output[CommonKeys.IMAGE]
            saliency = self.method(self.network, image, self.positive)
            self._arrays.append((image.sum(1).cpu(), saliency.detach().sum(1).cpu()))

    def _write(self) -> None:
        with (
            atomic_path(self.output_dir / "answers.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow((*_FACTS, "probability"))
            writer.writerows(self._rows)
        if not self._arrays:
            return
        images, maps = (torch.cat(part).numpy() for part in zip(*self._arrays, strict=True))
        names = np.array([row[0] for row in self._rows])
        with atomic_path(self.output_dir / "maps.npz") as temporary:
            np.savez_compressed(temporary, volume_id=names, image=images, map=maps)
