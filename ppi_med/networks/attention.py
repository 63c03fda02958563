"""The weights of a volume's slices (Appendix E.2), in two forms."""

# No deferred annotations here: TorchScript reads them.

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

AttentionForm = Literal["power", "softmax"]
DeltaSchedule = Literal["exponential", "linear", "constant"]


class SliceAttention(nn.Module):
    r"""Turns one attention score per slice into log-weights that sum to one over the slices.

    `"power"`, the default:

    .. math:: w_i \propto (\mathrm{ReLU}(a_i) + \delta)^{1 / \tau}

    A large delta makes the weights nearly equal, whatever the scores. As it is attenuated, the
    scores decide and the weights sharpen. `ReLU(a) + delta` is kept above `floor`.

    `"softmax"`, eq. 12 as printed:

    .. math:: w_i = \mathrm{softmax}_i((\mathrm{ReLU}(a_i) + \delta) / \tau)

    There delta is in every exponent and cancels: it has no effect and no gradient.

    delta is `exp(log_delta) * attenuation`: the first factor is trained (and so stays positive),
    the second follows a schedule and is saved with the network, so that a loaded network weights
    its slices as it did when it was saved.

    Args:
        form: `"power"` or `"softmax"`.
        tau: temperature; small is sharp.
        delta: first value of delta.
        schedule: how the attenuation falls from 1 to `final` over `epochs` epochs:
            `"exponential"`, `"linear"` or not at all (`"constant"`).
        epochs: number of epochs until the attenuation reaches `final`.
        final: the last attenuation, in (0, 1].
        floor: least value of `ReLU(a) + delta` in the power form.

    Raises:
        ValueError: if an argument is outside its range.

    Examples:
        >>> attention = SliceAttention(tau=1.0, delta=1.0)
        >>> attention(torch.tensor([[2.0, 0.0, -5.0]])).exp()
        tensor([[0.6000, 0.2000, 0.2000]], grad_fn=<ExpBackward0>)
    """

    attenuation: Tensor

    def __init__(
        self,
        form: AttentionForm = "power",
        tau: float = 0.2,
        delta: float = 10.0,
        schedule: DeltaSchedule = "exponential",
        epochs: int = 10,
        final: float = 0.2,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        _check_choice("attention", form, get_args(AttentionForm))
        _check_choice("delta_schedule", schedule, get_args(DeltaSchedule))
        for name, value in (("tau", tau), ("delta", delta), ("delta_floor", floor)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected a positive number.")
        if not 0 < final <= 1:
            raise ValueError(f"delta_final is {final}, expected a factor in (0, 1].")
        if epochs < 1:
            raise ValueError(f"delta_epochs is {epochs}, expected at least 1.")
        self.form: str = form
        self.tau = float(tau)
        self.floor = float(floor)
        self.schedule: str = schedule
        self.epochs = epochs
        self.final = float(final)
        self.log_delta = nn.Parameter(torch.tensor(math.log(delta)))
        self.register_buffer("attenuation", torch.ones(()))

    @property
    def delta(self) -> float:
        """The delta now in force."""
        return float(self.log_delta.detach().exp() * self.attenuation)

    def forward(self, scores: Tensor) -> Tensor:
        """Return log-weights `(N, S)` of the scores `(N, S)`."""
        shifted = torch.relu(scores) + self.log_delta.exp() * self.attenuation
        if self.form == "power":
            shifted = shifted.clamp_min(self.floor).log()
        return torch.log_softmax(shifted / self.tau, dim=-1)

    def attenuate(self, factor: float) -> None:
        """Set the attenuation: delta becomes its trained value times `factor`.

        Raises:
            ValueError: if `factor` is outside [0, 1].
        """
        if not 0 <= factor <= 1:
            raise ValueError(f"The attenuation of delta is {factor}, expected a factor in [0, 1].")
        self.attenuation.fill_(factor)

    def set_epoch(self, epoch: int) -> None:
        """Set the attenuation to what the schedule says for `epoch`, counted from 0."""
        self.attenuate(self.attenuation_at(epoch))

    def attenuation_at(self, epoch: int) -> float:
        """Return the schedule's factor for `epoch`, counted from 0."""
        progress = min(max(epoch / self.epochs, 0.0), 1.0)
        if self.schedule == "exponential":
            return float(self.final**progress)
        if self.schedule == "linear":
            return 1.0 + (self.final - 1.0) * progress
        return 1.0


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}.")
