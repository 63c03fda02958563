"""Learning-rate schedules that treat each parameter group in its own way."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


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
