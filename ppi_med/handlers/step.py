"""One training step with PPI, without an engine: for a plain loop, Lightning, or a handler."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ppi_med.errors import UsageError
from ppi_med.handlers.altered_images import fast_image_gradient
from ppi_med.intervention import GradientGuard, PPITerms, TermsResult
from ppi_med.intervention.labels import class_index
from ppi_med.intervention.randomness import process_rank
from ppi_med.naming import LOSS_AD, LOSS_CON, LOSS_REG
from ppi_med.saliency import WBP, Recording, SaliencyMethod, primary_logits
from ppi_med.saliency.target import Target
from ppi_med.training.modes import running_statistics_kept
from ppi_med.training.recording import RecordingInferer, check_loss

logger = logging.getLogger(__name__)

_NAMES = {"con": LOSS_CON, "ad": LOSS_AD, "reg": LOSS_REG}
_BATCH_NORM = ("clean", "all")


class PPIStep:
    """Proactive Pseudo-Intervention in your own training loop.

    A step's own forward of the clean images is recorded; its map s explains the label of each
    image; x* = x - T(s(x)) x (pushed to not-y, L_con) and x' = x - T(s(x_j)) x (which keeps y,
    L_ad) pass the network once, together; and

        L = L_cls + w_con L_con + w_ad L_ad + w_reg ||s||_1        (eq. 1-5)

    is the loss of the backward pass:

        ppi.begin(epoch, iteration)
        logits = ppi.forward(network, image)
        loss = ppi.add_terms(cross_entropy(logits, label), label)
        loss.backward()

    Args:
        saliency: the method that makes the map (default WBP).
        terms: masks, pairing, fill, losses and their weights (default `PPITerms()`).
        differentiable: let the losses train through the map (double backward), if a term has a
            gradient in it. False: the map is a constant, and the step about a quarter cheaper.
        every: PPI in each k-th step only; the others are plain (default 1).
        start_epoch: the first epoch with PPI, from 1; before it training is plain. Weights count
            from epoch 1: a warm-up may be over by then.
        batch_norm: `"clean"` (default): altered images use batch statistics but do not change
            running buffers; `"all"`: they change them too.
        target: label -> target of the map (default: the label's class index).
        gradient_limit: highest gradient of PPI's terms, in units of the gradient of L_cls (default
            100; 0: any), see `GradientGuard`.

    Attributes:
        last: the terms of the last PPI step; None before.
        values: L_con, L_ad and L_reg of this step by the names `loss/con`, `loss/ad`,
            `loss/reg`; empty in a plain step.

    Examples:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
        >>> image, label = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 1, 0])
        >>> ppi = PPIStep()
        >>> ppi.begin(epoch=1, iteration=1)
        >>> cls_loss = nn.functional.cross_entropy(ppi.forward(network, image), label)
        >>> ppi.add_terms(cls_loss, label).backward()
        >>> sorted(ppi.values)
        ['loss/ad', 'loss/con', 'loss/reg']
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
        gradient_limit: float = 100.0,
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
        self.gradients = GradientGuard(gradient_limit)
        self.last: TermsResult | None = None
        self.values: dict[str, Tensor] = {}
        self._recorder = RecordingInferer(_pass, self.saliency)
        self._network: nn.Module | None = None
        self._now = (0, 0)
        self._waits = False
        self._separated = False

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs: draws, running means, schedules."""
        return {"terms": self.terms.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self.terms.load_state_dict(state["terms"])
        self._separated = False

    def active(self, epoch: int, iteration: int) -> bool:
        """Say whether a step has PPI; both count from 1, the iteration over all epochs."""
        return epoch >= self.start_epoch and (iteration - 1) % self.every == 0

    def begin(self, epoch: int, iteration: int) -> None:
        """Begin a step.

        Args:
            epoch: from 1.
            iteration: from 1, over all epochs.

        Raises:
            UsageError: if the previous step should have had PPI and did not.
        """
        if self._waits:
            self._waits = False
            raise UsageError(
                f"Step {self._now[1]} was begun with PPI and has none: call "
                "loss = ppi.add_terms(loss, label) in each step, and go backward from that loss."
            )
        self._arm(epoch, iteration)
        self._waits = self._recorder.armed

    def forward(self, network: nn.Module, image: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the network's output on clean images, recorded if the step has PPI.

        Args:
            network: the network in training mode; in evaluation nothing is recorded.
            image: `(N, C, *spatial)`.
            args: further arguments of the network; with tensors `(N, ...)` repeated for the
                altered images.
            kwargs: likewise.
        """
        self._network = network
        return self._recorder(image, network, *args, **kwargs)

    def add_terms(self, cls_loss: Tensor, label: Tensor, scale: float = 1.0) -> Tensor:
        """Return the loss with PPI's terms; in a step without PPI, the loss itself.

        Args:
            cls_loss: L_cls of the clean images, a scalar.
            label: `(N,)`, `(N, 1)` or one-hot `(N, K)`.
            scale: factor between L_cls and its mean over the batch: N for a loss that sums.

        Raises:
            DivergenceError: a term, or the gradient of all, is not finite or too large.
            UsageError: the loss is not one number with a gradient; or the step has PPI, but no
                forward in training mode went through `forward`, or nothing can be trained.
        """
        self.values, self._waits = {}, False
        check_loss(cls_loss, "PPI")
        if self._recorder.armed:
            raise UsageError(
                f"Step {self._now[1]} was begun with PPI, but no forward was recorded: call "
                "ppi.forward(network, image) with the network in training mode and gradients on."
            )
        try:
            return self._with_terms(cls_loss, label, scale)
        finally:
            self._recorder.release()

    def _with_terms(self, cls_loss: Tensor, label: Tensor, scale: float) -> Tensor:
        recording = self._recorder.recording
        if recording is None:
            return cls_loss
        if not (cls_loss.requires_grad and self._trained()):
            raise UsageError(
                "PPI has nothing to train: the loss has no gradient, or every parameter of the "
                "network is frozen. Leave out detach(), .item() and no_grad() between network and "
                "loss, and set requires_grad_(True) on the layers to train."
            )
        num_logits = _num_logits(recording.output)
        # Autocast is for forwards: the map's gradients keep the dtypes of its forward.
        with torch.autocast(cls_loss.device.type, enabled=False):
            saliency = self._saliency(recording, label, num_logits)
            if self.last is None and not saliency.any():
                logger.warning(
                    "The first map is 0 everywhere: does the output depend on the image as it was "
                    "given? After detach(), .data or no_grad() inside the network no map sees it."
                )
            contrasts = self.terms.contrast_images(recording.image, saliency, label, num_logits)
        logits = self._pass_altered(contrasts.batch) if contrasts.parts else None
        result = self.terms.losses(contrasts, logits, cls_loss / scale, *self._now)
        self._check_gradient(result, cls_loss / scale)
        self.values = {_NAMES[name]: value for name, value in result.values.items()}
        self.last = result
        return cls_loss + scale * result.total

    def _saliency(self, recording: Recording, label: Tensor, num_logits: int) -> Tensor:
        if self.target is not None:
            target = self.target(label)
        else:
            target = class_index(label, num_logits).to(recording.image.device)
        return recording.saliency(target, create_graph=self._trains_map)

    @property
    def _trains_map(self) -> bool:
        return self.differentiable and self.terms.needs_map_gradient

    def _pass_altered(self, images: Tensor) -> Tensor:
        network = self._network
        assert network is not None
        kept = running_statistics_kept(network) if self.batch_norm == "clean" else nullcontext()
        with kept, fast_image_gradient(images):
            return primary_logits(self._recorder.again(images, network))

    def _check_gradient(self, result: TermsResult, cls_loss: Tensor) -> None:
        self.gradients.check(
            result.total, cls_loss, self._trained(), result.weights, *self._now, self._trains_map
        )

    def _trained(self) -> list[nn.Parameter]:
        assert self._network is not None
        return [one for one in self._network.parameters() if one.requires_grad]

    def _arm(self, epoch: int, iteration: int) -> None:
        if not self._separated:
            # Only now: by now a resumed run has given the first process's state to all.
            self.terms.separate(process_rank())
            self._separated = True
        self._recorder.release()
        self._now, self.values = (epoch, iteration), {}
        self._recorder.armed = self.active(epoch, iteration)


def _pass(image: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return network(image, *args, **kwargs)


def _num_logits(output: Any) -> int:
    logits = primary_logits(output)
    return 1 if logits.ndim == 1 else int(logits.shape[1])
