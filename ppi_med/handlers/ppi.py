"""Proactive Pseudo-Intervention as one handler on a stock trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.handlers.altered_images import fast_image_gradient
from ppi_med.handlers.batch_statistics import running_statistics_kept
from ppi_med.handlers.recording import RecordingInferer
from ppi_med.intervention import PPITerms
from ppi_med.intervention.labels import class_index
from ppi_med.intervention.randomness import process_rank
from ppi_med.intervention.terms import TermsResult
from ppi_med.naming import LOSS_AD, LOSS_CLS, LOSS_CON, LOSS_REG
from ppi_med.saliency import WBP, Recording, SaliencyMethod, primary_logits
from ppi_med.saliency.target import Target
from ppi_med.training.memory import keep_freed_memory

_NAMES = {"con": LOSS_CON, "ad": LOSS_AD, "reg": LOSS_REG}
_BATCH_NORM = ("clean", "all")


class PPIHandler:
    """Train with PPI: one entry in ``train#handlers`` of a ``SupervisedTrainer`` bundle.

    Each step the trainer's own forward of the clean images is recorded; its map s explains the
    label of each image; x* = x - T(s(x)) x (pushed to not-y, L_con) and x' = x - T(s(x_j)) x
    (which keeps y, L_ad) pass the network once, together; and

        L = L_cls + w_con L_con + w_ad L_ad + w_reg ||s||_1        (eq. 1-5)

    is what the trainer goes backward from. Nothing else of the trainer changes.

    Args:
        saliency: the method that makes the map (default WBP).
        terms: masks, pairing, fill, losses and their weights (default ``PPITerms()``).
        differentiable: let the losses train through the map (double backward), where a term has a
            gradient in it. False: the map is a constant, about a quarter of the step cheaper.
        every: PPI in each k-th step only; the others are plain (default 1).
        start_epoch: the first epoch with PPI, from 1; before it training is plain. Weights go on
            counting from epoch 1: a warm-up that is over by then is not seen.
        batch_norm: ``"clean"`` (default): altered images use batch statistics but leave running
            buffers to the clean ones; ``"all"``: they move them too.
        target: label -> target of the map (default: the label's class index).
        keep_freed_memory: on a CPU, let the process keep the memory that each step frees for the
            next one (default), see :func:`ppi_med.training.keep_freed_memory`.

    Attributes:
        last: the terms of the last PPI step, also in ``engine.state.ppi_terms`` and, by the names
            ``loss/cls``, ``loss/con``, ``loss/ad``, ``loss/reg``, in ``engine.state.output``.

    Example:
        >>> handler = PPIHandler(terms=PPITerms(fill="exchange", pairing="shared"))
        >>> handler.every
        1

    In a bundle::

        "train#handlers": [..., {"_target_": "ppi_med.handlers.PPIHandler"}]
    """

    def __init__(
        self,
        saliency: SaliencyMethod | None = None,
        terms: PPITerms | None = None,
        *,
        differentiable: bool = True,
        every: int = 1,
        start_epoch: int = 1,
        batch_norm: str = "clean",
        target: Callable[[Tensor], Target] | None = None,
        keep_freed_memory: bool = True,
    ) -> None:
        if every < 1 or start_epoch < 1:
            raise ValueError(f"every is {every} and start_epoch {start_epoch}, expected at least 1")
        if batch_norm not in _BATCH_NORM:
            raise ValueError(f"batch_norm is '{batch_norm}', expected one of {_BATCH_NORM}")
        self.saliency = WBP() if saliency is None else saliency
        self.terms = PPITerms() if terms is None else terms
        if not differentiable and not self.terms.weights["reg"].off:
            raise ValueError(
                "L_reg has a weight but differentiable=False: a constant map cannot be made "
                "sparser; set differentiable=True or reg_weight=0"
            )
        self.differentiable = differentiable
        self.every = every
        self.start_epoch = start_epoch
        self.batch_norm = batch_norm
        self.target = target
        self.keep_freed_memory = keep_freed_memory
        self.last: TermsResult | None = None
        self._inferer: RecordingInferer | None = None
        self._engine: SupervisedTrainer | None = None
        self._removals: list[Any] = []
        self._separated = False

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer.

        Raises:
            TypeError: the engine is not a ``SupervisedTrainer``.
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
        events: list[tuple[Any, Callable[..., None]]] = [
            # The trainer attaches its handlers before it has an inferer.
            (Events.STARTED, self._wrap_inferer),
            (Events.ITERATION_STARTED, self._arm),
            (IterationEvents.LOSS_COMPLETED, self._add_terms),
            (Events.ITERATION_COMPLETED, self._release),
            (Events.EXCEPTION_RAISED, self._release_and_raise),
        ]
        self._removals = [engine.add_event_handler(event, call) for event, call in events]

    def detach(self) -> None:
        """Leave the trainer as it was before :meth:`attach`; without one, do nothing."""
        if self._engine is None:
            return
        for removal in self._removals:
            removal.remove()
        if self._inferer is not None:
            self._engine.inferer = self._inferer.inner  # type: ignore[assignment]
        self._engine, self._inferer, self._removals = None, None, []

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs: draws, running means, schedules."""
        return {"terms": self.terms.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.terms.load_state_dict(state["terms"])
        self._separated = False

    def active(self, epoch: int, iteration: int) -> bool:
        """Say whether a step has PPI; both count from 1, the iteration over all epochs."""
        return epoch >= self.start_epoch and (iteration - 1) % self.every == 0

    def _wrap_inferer(self, engine: Engine) -> None:
        if self._inferer is not None:
            return
        inner = engine.inferer  # type: ignore[attr-defined]
        if isinstance(inner, RecordingInferer):
            raise RuntimeError("another PPIHandler is attached to this trainer: keep one of them")
        if self.keep_freed_memory and torch.device(engine.state.device).type == "cpu":  # type: ignore[attr-defined]
            keep_freed_memory()
        self._inferer = RecordingInferer(inner, self.saliency)
        engine.inferer = self._inferer  # type: ignore[attr-defined]

    def _arm(self, engine: Engine) -> None:
        if not self._separated:
            # Only now: a resumed run has by now given the first process's state to all.
            self.terms.separate(process_rank())
            self._separated = True
        self._recorder.armed = self.active(engine.state.epoch, engine.state.iteration)

    def _add_terms(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        cls_loss: Tensor = output[CommonKeys.LOSS]
        output[LOSS_CLS] = cls_loss.detach()
        recording = self._recorder.recording
        if recording is None:
            return
        label: Tensor = output[CommonKeys.LABEL]
        num_logits = _num_logits(recording.output)
        # Autocast is for forwards: the map's gradients keep the dtypes that its forward left.
        with torch.autocast(cls_loss.device.type, enabled=False):
            saliency = self._saliency(recording, label, num_logits)
            contrasts = self.terms.contrast_images(recording.image, saliency, label, num_logits)
        logits = self._pass_altered(contrasts.batch, engine) if contrasts.parts else None
        result = self.terms.losses(
            contrasts, logits, cls_loss, engine.state.epoch, engine.state.iteration
        )
        output[CommonKeys.LOSS] = cls_loss + result.total
        output.update({_NAMES[name]: value for name, value in result.values.items()})
        self.last = engine.state.ppi_terms = result  # type: ignore[attr-defined]

    def _saliency(self, recording: Recording, label: Tensor, num_logits: int) -> Tensor:
        if self.target is not None:
            target = self.target(label)
        else:
            target = class_index(label, num_logits).to(recording.image.device)
        create_graph = self.differentiable and self.terms.needs_map_gradient
        return recording.saliency(target, create_graph=create_graph)

    def _pass_altered(self, images: Tensor, engine: Engine) -> Tensor:
        network: nn.Module = engine.network  # type: ignore[attr-defined]
        kept = running_statistics_kept(network) if self.batch_norm == "clean" else nullcontext()
        with kept, fast_image_gradient(images):
            return primary_logits(self._recorder.again(images, network))

    @property
    def _recorder(self) -> RecordingInferer:
        if self._inferer is None:
            raise RuntimeError("the PPIHandler has no trainer that runs: attach it to one")
        return self._inferer

    def _release(self, engine: Engine) -> None:
        if self._inferer is not None:
            self._inferer.release()

    def _release_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._release(engine)
        # With a handler on this event ignite leaves it to the handlers to raise.
        raise error


def _num_logits(output: Any) -> int:
    logits = primary_logits(output)
    return 1 if logits.ndim == 1 else int(logits.shape[1])
