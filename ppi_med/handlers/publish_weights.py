"""Copy the kept weights of a training to where others look for them."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ppi_med.handlers.base import Handler, Steps
from ppi_med.io import atomic_path

logger = logging.getLogger(__name__)


class PublishWeights(Handler):
    """When training has completed, copy the best weights and the JSON file that describes them.

    One of `train#handlers`. While a training runs, its best weights stay in its own folder: a
    second training, or one that is killed, changes nothing that an inference is using.

    Args:
        source: file of the best weights, from `BestCheckpoint`.
        target: the file to write, such as "models/model.pt".

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "best.pt").write_bytes(b"weights")
        >>> trainer = Engine(lambda engine, batch: None)
        >>> PublishWeights(folder / "best.pt", folder / "model.pt").attach(trainer)
        >>> _ = trainer.run([0])
        >>> (folder / "model.pt").read_bytes()
        b'weights'
    """

    def __init__(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        self.source = Path(source)
        self.target = Path(target)

    def _steps(self) -> Steps:
        return [(Events.COMPLETED, self._publish)]

    def _publish(self, engine: Engine) -> None:
        if getattr(engine.state, "rank", 0) > 0 or not self.source.is_file():
            return
        for source, target in (
            (self.source, self.target),
            (self.source.with_suffix(".json"), self.target.with_suffix(".json")),
        ):
            if source.is_file():
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)
        logger.info("weights: %s", self.target)


def weights_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of the JSON file beside a file of weights; empty if there is no file."""
    file = Path(path).with_suffix(".json")
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
