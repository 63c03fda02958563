"""The base of all baselines: one entry in `train#handlers` that changes the loss or the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.intervention import log_prob_y
from ppi_med.naming import LOSS_CLS
from ppi_med.saliency import norm_derivatives, primary_logits
from ppi_med.training.steps import NOT_SEEN, LossScale, StepWatch, entry, loss_of, on_failure


class Baseline:
    """Attaches to a trainer; a subclass defines the loss or the input of a step.

    The trainer's loss must be the cross entropy of its batch, as in the bundles: terms by sample
    are computed from the logits. A subclass gets its mean; if the loss sums, the result is
    multiplied by the same factor.

    Raises:
        UsageError: in the first step without the handler, as in `PPIHandler`.
    """

    uses_inferer = False
    """Whether the baseline needs the clean forward, to change its input or take its gradient."""

    def __init__(self) -> None:
        self._engine: SupervisedTrainer | None = None
        self._inferer: SeenInferer | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer.

        Raises:
            TypeError: the engine is not a `SupervisedTrainer`.
            RuntimeError: this handler is attached already.
        """
        name = type(self).__name__
        if not isinstance(engine, SupervisedTrainer):
            raise TypeError(
                f"{name} attaches to a monai SupervisedTrainer, got {type(engine).__name__}"
            )
        if self._engine is not None:
            raise RuntimeError(f"this {name} is attached already: make another for this trainer")
        self._engine = engine
        # The trainer attaches its handlers before it has an inferer.
        engine.add_event_handler(Events.STARTED, self._wrap)
        self._step, self._scale = StepWatch(name), LossScale()
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin_step)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._change_loss)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_step)
        on_failure(engine, lambda engine, error: self._release(engine))

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs; nothing for most."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""

    def prepare(self, image: Tensor) -> Tensor:
        """Return what the network sees of the images of a training step."""
        return image

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss for the backward pass of a step, and its terms by name.

        Args:
            engine: the trainer.
            output: output of the step: `image`, `label`, `pred`, `loss`.
        """
        return output[CommonKeys.LOSS], {}

    @property
    def seen(self) -> SeenInferer:
        """The clean forward of this step."""
        if self._inferer is None:
            raise RuntimeError(f"{type(self).__name__} has no trainer that runs: attach it to one")
        return self._inferer

    def _wrap(self, engine: Engine) -> None:
        if self._inferer is None:
            self._inferer = SeenInferer(engine.inferer, self.prepare)  # type: ignore[attr-defined]
            engine.inferer = self._inferer  # type: ignore[attr-defined]

    def _begin_step(self, engine: Engine) -> None:
        self._step.begin()

    def _change_loss(self, engine: Engine) -> None:
        name = type(self).__name__
        cls_loss = loss_of(engine.state.output, name)
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        output[LOSS_CLS] = cls_loss.detach()
        self._step.refuse_second()
        if self.uses_inferer and self.seen.image is None:
            self._step.refuse(engine, NOT_SEEN)
        label, prediction = (
            entry(output, key, name) for key in (CommonKeys.LABEL, CommonKeys.PRED)
        )
        scale = self._scale(engine.loss_function, prediction, label, cls_loss)  # type: ignore[attr-defined]
        with torch.autocast(cls_loss.device.type, enabled=False):
            total, terms = self.loss(engine, {**output, CommonKeys.LOSS: cls_loss / scale})
        output[CommonKeys.LOSS] = scale * total
        self._step.seen(output[CommonKeys.LOSS])
        output.update({f"loss/{name}": value.detach() for name, value in terms.items()})

    def _end_step(self, engine: Engine) -> None:
        self._release(engine)
        self._step.end(engine)

    def _release(self, engine: Engine) -> None:
        if self._inferer is not None:
            self._inferer.release()


class SeenInferer(Inferer):
    """Wraps a trainer's inferer: in training it changes the images and keeps the call.

    Its forward passes have right derivatives, see `norm_derivatives`.
    """

    def __init__(self, inner: Callable[..., Any], prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.prepare = prepare
        self.image: Tensor | None = None
        self.call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Infer; in training, keep the inputs."""
        if not (getattr(network, "training", False) and torch.is_grad_enabled()):
            return self.inner(inputs, network, *args, **kwargs)
        self.call = (args, kwargs)
        self.image = self.prepare(inputs)
        with norm_derivatives():
            return self.inner(self.image, network, *args, **kwargs)

    def again(self, network: nn.Module) -> Any:
        """Infer from the same images once more."""
        if self.image is None:
            raise RuntimeError("no forward has been seen in this step")
        args, kwargs = self.call
        with norm_derivatives():
            return self.inner(self.image, network, *args, **kwargs)

    def release(self) -> None:
        """Release the images and their graph."""
        self.image, self.call = None, ((), {})


def losses_by_sample(output: Mapping[str, Any]) -> Tensor:
    """Return the cross entropy of each sample, `(N,)`, of a trainer's output."""
    logits = primary_logits(output[CommonKeys.PRED])
    return -log_prob_y(logits, output[CommonKeys.LABEL])


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log p of each class, `(N, K)`; of a single logit, of both classes.

    Examples:
        >>> log_probabilities(torch.zeros(1)).exp().tolist()
        [[0.5, 0.5]]
    """
    if logits.ndim == 1 or logits.shape[1] == 1:
        single = logits.reshape(-1, 1)
        return torch.nn.functional.logsigmoid(torch.cat([-single, single], 1))
    return logits.log_softmax(1)
