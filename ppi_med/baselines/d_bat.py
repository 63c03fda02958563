"""D-BAT: a second network that contradicts the first one on images without labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.baselines.base import Baseline, log_probabilities
from ppi_med.distributed import world_size
from ppi_med.errors import UsageError
from ppi_med.intervention.numeric import at_least_float32
from ppi_med.saliency import primary_logits
from ppi_med.training.loader import ExactDataLoader
from ppi_med.training.modes import running_statistics_kept
from ppi_med.training.rng import derive_seeds
from ppi_med.training.state import EngineBest, engines_of, handlers_of, unwrapped

Cases = Sequence[Mapping[str, Any]]


class DBat(Baseline):
    """Diversity by disagreement (D-BAT, Pagliardini et al., ICLR 2023, arXiv 2202.04414).

    The first of the trainer's epochs are plain training of a network h1. Then the network returns
    to the weights that it began with, without the optimiser's state, and becomes h2, the result:

        L = L_cls + alpha mean_u A(u),  A(u) = -log(p1 (1 - p2) + (1 - p1) p2)

    u are images without labels, a batch in each step; p1 is h1's probability of the class k that h1
    prefers, p2 is h2's of the same k. For two classes this is -log(p1(0) p2(1) + p1(1) p2(0)), the
    paper's Algorithm 1; for more it is its Algorithm 2. u leaves the running statistics as they
    are. Schedules of the learning rate go on. Validations of h1 count for no best epoch and no
    early stop.

    Args:
        alpha: alpha; the paper has 1 and less.
        first: share of the trainer's epochs that h1 has; part of them, so that all methods have as
            many.
        unlabelled: data set of cases with `image`, or what returns one, such as
            `ppi_med.data.datalist.Unlabelled`; labels in it are not used.
        seed: seed of the order of these images and of their random transforms.

    Raises:
        UsageError: at the start, without unlabelled images or with fewer than two epochs.

    Examples:
        >>> DBat(alpha=0.5).first
        0.25
    """

    uses_inferer = True

    def __init__(
        self,
        alpha: float = 1.0,
        first: float = 0.25,
        unlabelled: Cases | Callable[[], Cases] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if alpha < 0 or not 0 < first < 1:
            raise ValueError(
                f"alpha is {alpha} and first {first}, expected 0 or more and between 0 and 1."
            )
        self.alpha, self.first, self.unlabelled, self.seed = alpha, first, unlabelled, seed
        self.frozen: nn.Module | None = None
        self._initial: Mapping[str, Tensor] | None = None
        self._saved: Mapping[str, Tensor] | None = None
        self._cases: Cases = ()
        self._loader: ExactDataLoader | None = None
        self._batches: Iterator[Any] = iter(())
        self._next = -1
        self._logits: tuple[Tensor, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        super().attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin_second)
        engine.add_event_handler(Events.COMPLETED, self._end)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of h1 once it is trained; before, those that h2 begins with."""
        first = self._saved if self.frozen is None else self.frozen.state_dict()
        return {"first": first, "initial": self._initial}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`."""
        self._saved, self._initial = state["first"], state["initial"]

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss with the agreement, and the agreement, once h2 is trained."""
        if self._logits is None:
            return output[CommonKeys.LOSS], {}
        found = agreement(*self._logits).mean()
        self._logits = None
        return output[CommonKeys.LOSS] + self.alpha * found, {"d_bat": found}

    def _start(self, engine: Engine) -> None:
        last = int(engine.state.max_epochs or 0)
        if last < 2:
            raise UsageError(
                f"d_bat trains two networks one after the other, and max_epochs is {last}: give 2 "
                "or more."
            )
        self._cases = self.unlabelled() if callable(self.unlabelled) else self.unlabelled or ()
        if not len(self._cases):
            raise UsageError(
                "d_bat needs images without labels, and this training names none: give a data set "
                "of them, DBat(unlabelled=...), or places.unlabelled in a configuration."
            )
        self._loader = None
        if self._saved is None and self._initial is None:
            network = unwrapped(engine.network)  # type: ignore[attr-defined]
            self._initial = copy.deepcopy(network.state_dict())
        for one in engines_of(engine):
            for handler in handlers_of(one):
                # In-site validation prefers h1, and h1 is what must not be kept.
                start = getattr(handler, "start_epoch", None)
                if isinstance(start, int):
                    handler.start_epoch = max(start, self._epochs(engine) + 1)

    def _end(self) -> None:
        self._batches, self._next = iter(()), -1  # ends its worker processes

    def _epochs(self, engine: Engine) -> int:
        """Return the number of epochs of h1."""
        last = int(engine.state.max_epochs or 0)
        return min(max(1, round(self.first * last)), last - 1)

    def _begin_second(self, engine: Engine) -> None:
        if self.frozen is not None or engine.state.epoch <= self._epochs(engine):
            return
        network = unwrapped(engine.network)  # type: ignore[attr-defined]
        self.frozen = copy.deepcopy(network).eval().requires_grad_(False)
        if self._saved is not None:
            self.frozen.load_state_dict(self._saved)
            return
        assert self._initial is not None
        network.load_state_dict(self._initial)
        self._initial = None
        engine.optimizer.state.clear()  # type: ignore[attr-defined]
        for one in engines_of(engine):
            EngineBest(one).forget()

    def _change_loss(self, engine: Engine) -> None:
        # Here and not in `loss`, which has no mixed precision.
        self._logits = None
        if self.frozen is not None and self.seen.image is not None:
            self._logits = self._on_unlabelled(engine, len(self.seen.image))
        super()._change_loss(engine)

    def _on_unlabelled(self, engine: Engine, size: int) -> tuple[Tensor, Tensor]:
        """Return the logits of h1 and h2 of this step's images without labels."""
        network: nn.Module = engine.network  # type: ignore[attr-defined]
        image, _, *rest = engine.prepare_batch(  # type: ignore[attr-defined]
            self._drawn(engine, size),
            engine.state.device,  # type: ignore[attr-defined]
            engine.non_blocking,  # type: ignore[attr-defined]
            **engine.to_kwargs,  # type: ignore[attr-defined]
        )
        seen = self.seen
        seen.image, seen.call = image, (rest[0], rest[1]) if rest else ((), {})
        with torch.no_grad():
            first = primary_logits(seen.again(self.frozen))  # type: ignore[arg-type]
        with running_statistics_kept(network):
            return first, primary_logits(seen.again(network))

    def _drawn(self, engine: Engine, size: int) -> Any:
        """Return this step's batch; it depends on the step only: a resumed run has the same."""
        if self._loader is None:
            own = engine.state.dataloader
            size = getattr(own, "batch_size", None) or size
            self._loader = ExactDataLoader(
                self._cases,
                batch_size=size,
                seed=derive_seeds(1, self.seed, 1)[0],
                drop_last=len(self._cases) >= size * world_size(),
                num_workers=getattr(own, "num_workers", 0),
            )
            self._next = -1
        number = engine.state.iteration
        passes, within = divmod(number, len(self._loader))
        if within == 0 or number != self._next:
            self._loader.set_epoch(passes)
            self._loader.start_at(within)
            self._batches = iter(self._loader)
        self._next = number + 1
        return next(self._batches)


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """Return A of each image, `(N,)`, of the logits `(N, K)` of h1 and h2, or one logit each.

    It is taken in logarithms: where both are sure of the same class, it stays finite and has a
    gradient.

    Examples:
        >>> agreement(torch.tensor([[0.0, 9.0]]), torch.tensor([[0.0, 0.0]])).exp().item()
        2.0
    """
    one, two = (log_probabilities(at_least_float32(logits)) for logits in (first, second))
    chosen = F.one_hot(one.argmax(1), one.shape[1]).bool()
    (p, rest), (q, other) = (
        (value[chosen], value.masked_fill(chosen, -torch.inf).logsumexp(1)) for value in (one, two)
    )
    return -torch.logaddexp(p + other, rest + q)
