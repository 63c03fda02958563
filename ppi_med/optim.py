"""Parameter groups and learning-rate schedules: what of a network learns at which rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["PerGroupStepLR", "StepAfterLR", "ga_parameter_groups"]


def ga_parameter_groups(
    network: nn.Module, cnn_lr: float = 5e-5, rest_lr: float = 5e-3, **options: Any
) -> list[dict[str, Any]]:
    """Return the two groups of Appendix E.3: the CNN, then everything else.

    Parameters that are frozen (``requires_grad=False``) are in neither. A group that would be
    empty is left out, so that a frozen CNN gives one group.

    Args:
        network: has its CNN as ``backbone``, such as ``MultiViewClassifier``; also wrapped for
            parallel training.
        cnn_lr: learning rate of the CNN.
        rest_lr: learning rate of the embedding, the heads and delta.
        options: further settings of both groups, such as ``weight_decay``.

    Returns:
        Groups for an optimiser, each with ``params``, ``lr`` and ``name`` ("cnn", "rest").

    Raises:
        ValueError: where the network has no ``backbone``, or nothing to train.

    Examples:
        >>> from ppi_med.networks import MultiViewClassifier
        >>> groups = ga_parameter_groups(MultiViewClassifier())
        >>> [(group["name"], group["lr"]) for group in groups]
        [('cnn', 5e-05), ('rest', 0.005)]
    """
    if isinstance(network, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        network = network.module
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ValueError(
            f"{type(network).__name__} has no module 'backbone', expected a network whose CNN is "
            "found there: make the groups yourself, or give the optimiser network.parameters()."
        )
    in_cnn = {id(parameter) for parameter in backbone.parameters()}
    trained = [p for p in network.parameters() if p.requires_grad]
    parts = (
        ("cnn", cnn_lr, [p for p in trained if id(p) in in_cnn]),
        ("rest", rest_lr, [p for p in trained if id(p) not in in_cnn]),
    )
    if not trained:
        raise ValueError(
            f"{type(network).__name__} has no parameter with requires_grad: unfreeze some."
        )
    return [
        {"name": name, "params": params, "lr": lr, **options}
        for name, lr, params in parts
        if params
    ]


class PerGroupStepLR(LRScheduler):
    """Multiplies each group's rate by its own factor every ``step_size`` epochs.

    After n epochs the rate of group g is ``lr_g * gamma_g ** (n // step_size_g)``, computed from
    its first value, so that a resumed run has the same rates to the last bit. The defaults are
    those of Appendix E.3 for the groups of ``ga_parameter_groups``: the CNN's halved, the rest's
    multiplied by 0.2, every 10 epochs.

    Args:
        optimizer: the optimiser.
        step_size: epochs between two steps; one number, or one a group.
        gamma: factor of each step; one number, or one a group.
        last_epoch: -1 to start; see ``torch.optim.lr_scheduler.LRScheduler``.

    Raises:
        ValueError: where a sequence has not one value a group, or a value is not positive.

    Examples:
        >>> import torch
        >>> weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        >>> groups = [{"params": [w], "lr": lr} for w, lr in zip(weights, (4.0, 1.0))]
        >>> optimizer = torch.optim.SGD(groups)
        >>> scheduler = PerGroupStepLR(optimizer, step_size=1, gamma=(0.5, 0.1))
        >>> optimizer.step(), scheduler.step(), scheduler.get_last_lr()
        (None, None, [2.0, 0.1])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        step_size: int | Sequence[int] = 10,
        gamma: float | Sequence[float] = (0.5, 0.2),
        last_epoch: int = -1,
    ) -> None:
        number = len(optimizer.param_groups)
        self.step_sizes = _per_group("step_size", step_size, number)
        self.gammas = _per_group("gamma", gamma, number)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group at ``last_epoch``."""
        return [
            base * gamma ** (self.last_epoch // int(size))
            for base, gamma, size in zip(self.base_lrs, self.gammas, self.step_sizes, strict=True)
        ]


class StepAfterLR(LRScheduler):
    """Keeps the rate for some epochs, then multiplies it every so many.

    After n epochs it is ``lr * gamma ** (max(0, n - after) // step_size)``, computed from its
    first value. The defaults are the paper's for LIDC: times 0.3 every 10 epochs after 50.

    Args:
        optimizer: the optimiser.
        after: epochs at the first rate before the count begins.
        step_size: epochs between two steps.
        gamma: factor of each step.
        last_epoch: -1 to start; see ``torch.optim.lr_scheduler.LRScheduler``.

    Raises:
        ValueError: where `after` is negative, or `step_size` or `gamma` not positive.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> scheduler, rates = StepAfterLR(optimizer, after=1, step_size=2, gamma=0.5), []
        >>> for _ in range(5):
        ...     rates += scheduler.get_last_lr()
        ...     _ = optimizer.step(), scheduler.step()
        >>> rates
        [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        after: int = 50,
        step_size: int = 10,
        gamma: float = 0.3,
        last_epoch: int = -1,
    ) -> None:
        if after < 0 or step_size < 1 or gamma <= 0:
            raise ValueError(
                f"Got after={after}, step_size={step_size} and gamma={gamma}, expected 0 or more, "
                "1 or more, and a factor above 0."
            )
        self.after, self.step_size, self.gamma = after, step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group at ``last_epoch``."""
        steps = max(0, self.last_epoch - self.after) // self.step_size
        return [base * self.gamma**steps for base in self.base_lrs]


def _per_group(name: str, value: float | Sequence[float], number: int) -> list[float]:
    values = [value] * number if isinstance(value, (int, float)) else list(value)
    if len(values) != number:
        raise ValueError(
            f"{name} has {len(values)} values, expected one number or one for each of the "
            f"optimiser's {number} parameter groups."
        )
    if min(values, default=0) <= 0:
        raise ValueError(f"{name} is {values}, expected positive numbers.")
    return values
