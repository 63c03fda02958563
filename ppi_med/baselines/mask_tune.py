"""MaskTune: what the trained network looks at is masked, and training goes on for an epoch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.baselines.base import Baseline
from ppi_med.intervention import class_index
from ppi_med.saliency import by_name
from ppi_med.training.state import unwrapped


class MaskTune(Baseline):
    """MaskTune (Asgari Taghanaki et al., NeurIPS 2022, arXiv 2210.00055).

    Training is plain but for the last `epochs`. In these the network sees only images whose values
    are 0 where the map of their own class, by the network as it stood before, is above mean + k SD
    of the image's map. The paper's map is xGradCAM; here it is WBP, PPI's own, so that the methods
    differ in the training alone.

    Args:
        epochs: epochs of fine-tuning; part of the trainer's epochs, so that all methods have as
            many.
        k: k of the threshold.
        saliency: name of the method of the map.

    Examples:
        >>> MaskTune(k=1.5).epochs
        1
    """

    uses_inferer = True

    def __init__(self, epochs: int = 1, k: float = 2.0, saliency: str = "wbp") -> None:
        super().__init__()
        if epochs < 1:
            raise ValueError(f"epochs is {epochs}, expected 1 or more.")
        self.epochs, self.k = epochs, k
        self.method = by_name(saliency)
        self.frozen: nn.Module | None = None
        self._saved: Mapping[str, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self._freeze)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the network that is asked where to mask, once there is one."""
        return {"frozen": None if self.frozen is None else self.frozen.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self._saved = state["frozen"]

    def prepare(self, image: Tensor) -> Tensor:
        """Return the images, masked in the last epochs."""
        if self.frozen is None or self._engine is None:
            return image
        label = self._engine.state.output[CommonKeys.LABEL]
        args, kwargs = self.seen.call
        with torch.autocast(image.device.type, enabled=False):
            recorded = self.method.record(self.frozen, image, *args, **kwargs)
            logits = recorded.output
            count = 1 if logits.ndim == 1 else int(logits.shape[1])
            found = recorded.saliency(class_index(label, count).to(image.device))
        return image.masked_fill(most_relevant(found.detach(), self.k), 0.0)

    def _freeze(self, engine: Engine) -> None:
        """Take the network as it stands before the first epoch of fine-tuning."""
        last = int(engine.state.max_epochs or 0)
        if self.frozen is not None or engine.state.epoch <= last - self.epochs:
            return
        network = unwrapped(engine.network)  # type: ignore[attr-defined]
        self.frozen = copy.deepcopy(network).eval().requires_grad_(False)
        if self._saved is not None:
            self.frozen.load_state_dict(self._saved)


def most_relevant(saliency: Tensor, k: float) -> Tensor:
    """Return where each image's map is above its mean + k SD, bool of its shape.

    Examples:
        >>> most_relevant(torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]), 2.0).tolist()
        [[False, False, False, False, False, True]]
    """
    flat = saliency.flatten(1)
    threshold = flat.mean(1) + k * flat.std(1, correction=0)
    return saliency > threshold.view(-1, *[1] * (saliency.ndim - 1))
