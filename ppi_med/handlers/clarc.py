"""P-ClArC: plain training, and a place's direction taken out of the features afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from ppi_med.evaluation.familiarity import last_layer, recorded_features
from ppi_med.handlers.places import PlaceHandler, case_image, case_label
from ppi_med.places import Account, PlaceBank, Projection
from ppi_med.training.modes import evaluating
from ppi_med.training.state import unwrapped

_PAIRS = 64


class ClarcHandler(PlaceHandler):
    """Projective ClArC (Anders et al., 2022), with the place of a search as its concept.

    Training is plain. After each epoch, before the validation, v is found from up to 64 training
    images and the same with another class's content at the place, by what the last linear layer is
    given; in validation, test and inference that layer sees z - v (v^T z - c). Name it before the
    validation in `train#handlers`.

    Args:
        options: options of `PlaceHandler` but `fill` and `step`.

    Attributes:
        projection: projection of the last epoch; None before, or without a place.

    Examples:
        >>> ClarcHandler().fill
        'project'
    """

    choices = {**PlaceHandler.choices, "fill": ("project",)}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "fill": "project", "step": "beside"})
        self.projection: Projection | None = None
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._projecting: Any = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self._lift)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._project)

    def account(self) -> Account:
        """Return what was found and done."""
        return replace(super().account(), projection=self.projection)

    def _arm(self, engine: Engine) -> None:
        self._tell_checkpoints(engine)
        self._change_images(engine)
        self._pairs = [] if self.mask is None else self._examples(engine, self.mask)

    def _examples(self, engine: Engine, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return training images, and the same with another class's content."""
        given = self.data.bank if self.data.bank is not None else self._training(engine)
        cases = [(case_image(case), case_label(case)) for case in given]
        bank = PlaceBank(mask, cases)
        step = -(-len(cases) // _PAIRS)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return [(x, bank.exchange(x, y, _relative(x))) for x, y in cases[::step]]

    def _project(self, engine: Engine) -> None:
        if not self._pairs:
            return
        network = unwrapped(engine.network)  # type: ignore[attr-defined]
        one, two = (self._features(network, side) for side in zip(*self._pairs, strict=True))
        self.projection = Projection.between(one, two)
        layer = last_layer(network)
        assert layer is not None
        self._projecting = layer.register_forward_pre_hook(self.projection.hook)
        self._tell_checkpoints(engine)

    @staticmethod
    def _features(network: nn.Module, images: tuple[Tensor, ...]) -> Tensor:
        device = next(network.parameters()).device
        with evaluating(network), torch.no_grad(), recorded_features(network) as found:
            for image in images:
                network(image[None].to(device))
        return torch.cat(found)

    def _lift(self) -> None:
        if self._projecting is not None:
            self._projecting.remove()
            self._projecting = None


def _relative(image: Tensor) -> Tensor | None:
    """Return the place of each B-scan in its volume, 0 to 1; None in 2-D."""
    return (torch.arange(image.shape[1]) + 0.5) / image.shape[1] if image.ndim == 4 else None
