"""Learning rates that fall in steps, each parameter group's in its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def step_schedule(
    optimizer: Optimizer,
    step_size: int | Sequence[int] = 10,
    gamma: float | Sequence[float] = (0.5, 0.2),
    after: int = 0,
) -> LambdaLR:
    """Return a schedule that multiplies each group's rate by its own factor every some epochs.

    After n epochs the rate of group g is `lr_g * gamma_g ** (max(0, n - after) // step_size_g)`,
    computed from its first value, so that a resumed run has exactly the same rates. The
    defaults are those of Appendix E.3 for the groups of
    `ppi_med.networks.ga_parameter_groups`: the CNN's halved, the rest's multiplied by 0.2,
    every 10 epochs. LIDC's are `step_size=10, gamma=0.3, after=50`.

    Args:
        optimizer: the optimiser.
        step_size: epochs between two steps; one number, or one per group.
        gamma: factor of each step; one number, or one per group.
        after: epochs at the first rate before the count begins.

    Raises:
        ValueError: if a sequence has not one value per group, or a value is not positive.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule, rates = step_schedule(optimizer, step_size=2, gamma=0.5, after=1), []
        >>> for _ in range(5):
        ...     rates += schedule.get_last_lr()
        ...     _ = optimizer.step(), schedule.step()
        >>> rates
        [1.0, 1.0, 1.0, 0.5, 0.5]
    """
    if after < 0:
        raise ValueError(f"after is {after}, expected 0 or more epochs.")
    number = len(optimizer.param_groups)
    sizes = _per_group("step_size", step_size, number)
    gammas = _per_group("gamma", gamma, number)
    factors = [_steps(int(size), one, after) for size, one in zip(sizes, gammas, strict=True)]
    return LambdaLR(optimizer, factors)


def _steps(size: int, gamma: float, after: int) -> Callable[[int], float]:
    return lambda epochs: gamma ** (max(0, epochs - after) // size)


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
