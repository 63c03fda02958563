"""Proactive Pseudo-Intervention as one handler on a stock trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor

from ppi_med.handlers.step import PPIStep
from ppi_med.naming import LOSS_CLS
from ppi_med.training.recording import RecordingInferer
from ppi_med.training.steps import (
    NOT_SEEN,
    LossScale,
    StepWatch,
    entry,
    loss_of,
    on_failure,
    watch_loss,
)

_NAME = "PPIHandler"


class PPIHandler(PPIStep):
    """Train with PPI: one entry in `train#handlers` of a `SupervisedTrainer` bundle.

    It is a `PPIStep`, with the same arguments, in the trainer's own step: the forward through
    `engine.inferer` is recorded, and the terms are added to the loss of the trainer's backward
    pass. They have the same weight for a loss that sums over the batch as for its mean. Nothing
    else of the trainer changes.

    Attributes:
        last: the terms of the last PPI step, also in `engine.state.ppi_terms` and, by the names
            `loss/cls`, `loss/con`, `loss/ad`, `loss/reg`, in `engine.state.output`.

    Raises:
        UsageError: in the first step whose forward or loss the handler has not seen, such as that
            of your own `iteration_update`: training never becomes plain silently.

    Examples:
        >>> from ppi_med.intervention import PPITerms
        >>> handler = PPIHandler(terms=PPITerms(fill="exchange", pairing="shared"))
        >>> handler.every
        1

    In a bundle::

        "train#handlers": [..., {"_target_": "ppi_med.handlers.PPIHandler"}]
    """

    _inferer: RecordingInferer | None = None
    _engine: SupervisedTrainer | None = None
    _loss: Any = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer.

        Raises:
            TypeError: the engine is not a `SupervisedTrainer`.
            RuntimeError: this handler is attached already.
        """
        if not isinstance(engine, SupervisedTrainer):
            raise TypeError(
                f"PPIHandler attaches to a monai SupervisedTrainer, got {type(engine).__name__}"
            )
        if self._engine is not None:
            raise RuntimeError(
                "this PPIHandler is attached already: detach it before another attach"
            )
        self._engine = engine
        self._watch, self._scale = StepWatch(_NAME), LossScale()
        events: list[tuple[Any, Callable[..., None]]] = [
            # The trainer attaches its handlers before it has an inferer.
            (Events.STARTED, self._wrap_inferer),
            (Events.STARTED, self._watch_loss),
            (Events.ITERATION_STARTED, self._begin_step),
            (IterationEvents.LOSS_COMPLETED, self._add_to_loss),
            (Events.ITERATION_COMPLETED, self._end_step),
            (Events.COMPLETED, self._leave_loss),
        ]
        self._removals = [engine.add_event_handler(event, call) for event, call in events]
        self._removals.append(on_failure(engine, self._release))

    def detach(self) -> None:
        """Restore the trainer as it was before `attach`; without a trainer, do nothing."""
        if self._engine is None:
            return
        for removal in self._removals:
            removal.remove()
        if self._inferer is not None:
            self._engine.inferer = self._inferer.inner  # type: ignore[assignment]
        self._engine, self._inferer, self._removals = None, None, []

    def _wrap_inferer(self, engine: Engine) -> None:
        if self._inferer is not None:
            return
        inner = engine.inferer  # type: ignore[attr-defined]
        if isinstance(inner, RecordingInferer):
            raise RuntimeError("another PPIHandler is attached to this trainer: keep one of them")
        self._inferer = self._recorder = RecordingInferer(inner, self.saliency)
        engine.inferer = self._inferer  # type: ignore[attr-defined]

    def _watch_loss(self, engine: Engine) -> None:
        # For the run only: a loss function outlives it, and may be another trainer's too.
        self._loss = watch_loss(engine, _NAME)

    def _leave_loss(self) -> None:
        if self._loss is not None:
            self._loss.remove()

    def _begin_step(self, engine: Engine) -> None:
        self._network = self._recorder.network = engine.network  # type: ignore[attr-defined]
        self._arm(engine.state.epoch, engine.state.iteration)
        self._watch.begin(self._recorder.armed)

    def _add_to_loss(self, engine: Engine) -> None:
        cls_loss = loss_of(engine.state.output, _NAME)
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        output[LOSS_CLS] = cls_loss.detach()
        if not self._watch.wanted:
            return
        self._watch.refuse_second()
        if self._recorder.recording is None:
            self._watch.refuse(engine, NOT_SEEN)
        label: Tensor = entry(output, CommonKeys.LABEL, _NAME)
        prediction = entry(output, CommonKeys.PRED, _NAME)
        scale = self._scale(engine.loss_function, prediction, label, cls_loss)  # type: ignore[attr-defined]
        output[CommonKeys.LOSS] = self.add_terms(cls_loss, label, scale)
        self._watch.seen(output[CommonKeys.LOSS])
        output.update(self.values)
        engine.state.ppi_terms = self.last  # type: ignore[attr-defined]

    def _end_step(self, engine: Engine) -> None:
        self._recorder.release()
        self._watch.end(engine)

    def _release(self, engine: Engine, error: BaseException) -> None:
        self._recorder.release()
        self._leave_loss()
