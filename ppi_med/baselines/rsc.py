"""RSC: the features with the largest gradients are left out, so that the others must learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from ppi_med.baselines.base import Baseline, losses_by_sample
from ppi_med.intervention import log_odds, log_prob_y
from ppi_med.saliency import primary_logits
from ppi_med.training.modes import running_statistics_kept
from ppi_med.training.state import unwrapped
from ppi_med.training.steps import on_failure

Change = Callable[[Tensor], Tensor]


class RSC(Baseline):
    """Representation self-challenging (Huang et al., ECCV 2020), on the vector of features.

    With features z and g = d(evidence of y) / dz, the share `features` of z with the largest g of
    each row is set to zero, and the network's head runs again. The samples (share `samples`) whose
    p_y falls most are trained on the remaining features, the others on all of z.

    Args:
        features: share of the features left out.
        samples: share of a batch that is challenged.
        layer: name of the module with output z; default `backbone`, or the input of the last linear
            layer.

    Examples:
        >>> RSC(features=0.5).features
        0.5
    """

    uses_inferer = True

    def __init__(
        self, features: float = 1 / 3, samples: float = 1 / 3, layer: str | None = None
    ) -> None:
        super().__init__()
        for name, value in (("features", features), ("samples", samples)):
            if not 0 < value <= 1:
                raise ValueError(f"{name} is {value}, expected a share above 0 up to 1.")
        self.features = features
        self.samples = samples
        self.layer = layer
        self._found: Tensor | None = None
        self._hook: Any = None

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, and record the features while it trains."""
        super().attach(engine)
        engine.add_event_handler(Events.ITERATION_STARTED, self._watch)
        on_failure(engine, lambda engine, error: self._unhook())

    def loss(self, engine: Engine, output: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss on challenged features."""
        self._unhook()
        found = self._found
        if found is None:
            raise RuntimeError(
                "the features were not seen in this step: name another layer, through which every "
                "training forward passes"
            )
        network: nn.Module = engine.network  # type: ignore[attr-defined]
        label = output[CommonKeys.LABEL]
        logits = primary_logits(output[CommonKeys.PRED])
        (slope,) = torch.autograd.grad(log_odds(logits, label).sum(), found, retain_graph=True)
        keep = loudest_left_out(slope, self.features)
        change: Change = lambda z: z * keep.to(z.dtype)  # noqa: E731
        options = {"enabled": True, **engine.amp_kwargs}  # type: ignore[attr-defined]
        options["enabled"] = options["enabled"] and bool(engine.amp)  # type: ignore[attr-defined]
        precision = torch.autocast(logits.device.type, **options)
        place = self._module(network)
        with precision, running_statistics_kept(network), changed(place, change):
            again = primary_logits(self.seen.again(network))
        plain = losses_by_sample(output)
        challenged = -log_prob_y(again, label)
        chosen = hit_hardest(plain, challenged, self.samples)
        return torch.where(chosen, challenged, plain).mean(), {"rsc_challenged": challenged.mean()}

    def _watch(self, engine: Engine) -> None:
        self._found = None
        module = self._module(engine.network)  # type: ignore[attr-defined]
        self._unhook()

        def keep(z: Tensor) -> Tensor:
            if z.requires_grad and torch.is_grad_enabled():
                self._found = z
            return z

        self._hook = hook(module, keep)

    def _module(self, network: nn.Module) -> tuple[nn.Module, bool]:
        return feature_layer(unwrapped(network), self.layer)

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _release(self, engine: Engine) -> None:
        super()._release(engine)
        self._unhook()
        self._found = None


def loudest_left_out(slope: Tensor, share: float) -> Tensor:
    """Return a mask `(M, ...)`: False on the share of each row's features with the largest slope.

    Examples:
        >>> loudest_left_out(torch.tensor([[0.1, 0.9, -2.0, 0.3]]), 0.5).tolist()
        [[True, False, True, False]]
    """
    flat = slope.flatten(1)
    number = max(1, round(share * flat.shape[1]))
    mask = torch.ones_like(flat, dtype=torch.bool)
    mask.scatter_(1, flat.topk(number, dim=1).indices, False)
    return mask.view_as(slope)


def hit_hardest(plain: Tensor, challenged: Tensor, share: float) -> Tensor:
    """Return a mask `(N,)`: True on the share of samples whose p_y falls most.

    Examples:
        >>> hit_hardest(torch.tensor([0.1, 0.1]), torch.tensor([0.2, 3.0]), 0.5).tolist()
        [False, True]
    """
    fall = plain.detach().neg().exp() - challenged.detach().neg().exp()
    number = max(1, round(share * len(fall)))
    mask = torch.zeros_like(fall, dtype=torch.bool)
    mask[fall.topk(number).indices] = True
    return mask


def feature_layer(network: nn.Module, name: str | None) -> tuple[nn.Module, bool]:
    """Return the module of the features, and whether they are its output.

    Raises:
        ValueError: if it cannot be found.
    """
    modules = dict(network.named_modules())
    if name is not None:
        if name not in modules:
            raise ValueError(f"The network has no module {name!r}: name one of its modules.")
        return modules[name], True
    if "backbone" in modules:
        return modules["backbone"], True
    linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("The network has no linear layer: name the module of its features.")
    return linear[-1], False


def hook(place: tuple[nn.Module, bool], change: Change) -> Any:
    """Pass the features through `change`; return the hook."""
    module, is_output = place
    if is_output:
        return module.register_forward_hook(lambda _, __, output: change(output))
    return module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))


@contextmanager
def changed(place: tuple[nn.Module, bool], change: Change) -> Iterator[None]:
    """Change the features inside the block."""
    handle = hook(place, change)
    try:
        yield
    finally:
        handle.remove()
