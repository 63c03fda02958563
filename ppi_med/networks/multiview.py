"""The network for geographic atrophy: one CNN over a volume's slices, weighted by attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit import is_scripting, is_tracing  # type: ignore[attr-defined]

from ppi_med.networks.attention import AttentionForm, DeltaSchedule, SliceAttention
from ppi_med.networks.backbones import create_backbone


def mixture_logit(slice_logits: Tensor, log_weights: Tensor) -> Tensor:
    r"""Return the logit of a weighted mean of probabilities (Appendix E.2).

    With p = sigmoid(z) and weights w that sum to 1, `logit(sum_i w_i p_i)` is

    .. math:: \log \sum_i w_i p_i - \log \sum_i w_i (1 - p_i)

    taken in log-space: finite for every finite input, even if p rounds to 0 or 1.

    The function can be overridden like torch's own: a `TorchFunctionMode` gets it as one call. A
    saliency map explains its attribute `saliency_surrogate` instead, `sum_i w_i z_i` with the
    weights as constant gates.

    Args:
        slice_logits: z, `(N, S)`.
        log_weights: log w, `(N, S)`.

    Returns:
        The logits `(N,)`.

    Examples:
        >>> half = torch.tensor([[0.5, 0.5]]).log()
        >>> mixture_logit(torch.tensor([[2.0, 2.0]]), half)
        tensor([2.])
        >>> mixture_logit(torch.tensor([[1000.0, -1000.0]]), half)
        tensor([0.])
    """
    # Nested, not joined by "and": TorchScript leaves out only a block behind this bare condition.
    if not is_scripting():  # noqa: SIM102
        if torch.overrides.has_torch_function((slice_logits, log_weights)):
            overridden: Tensor = torch.overrides.handle_torch_function(
                mixture_logit, (slice_logits, log_weights), slice_logits, log_weights
            )
            return overridden
    present = torch.logsumexp(log_weights + F.logsigmoid(slice_logits), dim=-1)
    absent = torch.logsumexp(log_weights + F.logsigmoid(-slice_logits), dim=-1)
    return present - absent


def _gated_sum(slice_logits: Tensor, log_weights: Tensor) -> Tensor:
    """Return `sum_i w_i z_i`, `(N,)`.

    The weights are not detached: for a map they are gates by the rule of products, but a loss on
    the map trains them.
    """
    return (log_weights.exp() * slice_logits).sum(-1)


cast(Any, mixture_logit).saliency_surrogate = _gated_sum


def relative_positions(
    num_slices: int, num_positions: int = 100, device: torch.device | None = None
) -> Tensor:
    """Map the slices of a volume to position ids by relative place.

    The volume is cut into `num_positions` parts of equal width, and slice i (from 0) takes the
    id of the part with its centre: `1 + floor((i + 1/2) / num_slices * num_positions)`.
    A volume of exactly `num_positions` slices gets 1, 2, 3, ...; a larger one repeats ids, a
    smaller one leaves some out.

    Args:
        num_slices: number of slices of the whole volume, not of a sample drawn from it.
        num_positions: number of ids.
        device: device of the result; default: the CPU.

    Returns:
        LongTensor `(num_slices,)` of ids in `1 .. num_positions`, ascending.

    Raises:
        ValueError: if either number is less than 1.

    Examples:
        >>> relative_positions(4)
        tensor([13, 38, 63, 88])
        >>> relative_positions(6, num_positions=3)
        tensor([1, 1, 2, 2, 3, 3])
    """
    if num_slices < 1 or num_positions < 1:
        raise ValueError(
            f"got {num_slices} slices and {num_positions} positions, expected 1 or more of both."
        )
    index = torch.arange(num_slices, device=device)
    doubled = (2 * index + 1) * num_positions
    return torch.div(doubled, 2 * num_slices, rounding_mode="floor") + 1


# With a bias of zero, in about every second random start the scores of all slices are negative;
# their ReLU then has no gradient, and the attention would never learn.
_FIRST_SCORE = 1.0


class MultiViewOutput(NamedTuple):
    """The parts of a volume's logit.

    Attributes:
        logit: logit of the volume, `(N, 1)`.
        slice_logits: z, one per slice, `(N, S)`.
        slice_weights: w, one per slice, summing to 1 over the slices, `(N, S)`.
    """

    logit: Tensor
    slice_logits: Tensor
    slice_weights: Tensor


class MultiViewClassifier(nn.Module):
    r"""Classifies a volume by its slices (Appendix E.2).

    Each slice passes through the same CNN to features f_i, then

    .. math::
        p_i = \sigma(FC_1(f_i)), \quad a_i = FC_2([f_i, e_i]), \quad
        p = \sum_i w_i p_i

    where e_i is a learned embedding of the slice's place in its volume, w_i the weights that
    `SliceAttention` makes of the scores a_i, and p the probability of the volume, given as
    its logit. A saliency map explains `sum_i w_i z_i`, z_i = FC_1(f_i), with the weights as
    gates: see `mixture_logit`.

    In training, all slices pass through the CNN at once (batch norm sees them together). In
    evaluation they pass `chunk_size` at a time; without gradients the memory is that of one chunk,
    the volume and the features. A program made by `torch.export` takes all at once.

    Args:
        backbone: name for `create_backbone`, or a module that maps `(B, C, H, W)` to
            `(B, num_features)` and has the attribute `num_features`.
        in_channels: channels of the volume; used if the backbone is given by name.
        weights: weights file for a backbone given by name.
        backbone_options: further arguments of `create_backbone`.
        num_positions: number of position ids.
        position_features: length of the position's embedding.
        attention: `"power"`, or `"softmax"` as printed (there delta has no effect).
        tau: temperature of the weights; small is sharp.
        delta: where delta starts; in the power form, large gives nearly equal weights.
        delta_schedule: how delta is attenuated: `"exponential"`, `"linear"`, `"constant"`.
        delta_epochs: number of epochs of that.
        delta_final: its final factor.
        delta_floor: least `ReLU(a) + delta` in the power form.
        chunk_size: slices at a time in evaluation; 0: all at once.

    Raises:
        ValueError: if an argument is outside its range.

    Examples:
        >>> network = MultiViewClassifier().eval()
        >>> volume = torch.zeros(2, 1, 10, 32, 32)
        >>> network(volume).shape
        torch.Size([2, 1])
        >>> torch.allclose(network.explain(volume).slice_weights.sum(1), torch.ones(2))
        True
    """

    def __init__(
        self,
        backbone: str | nn.Module = "small_cnn",
        *,
        in_channels: int = 1,
        weights: str | None = None,
        backbone_options: Mapping[str, Any] | None = None,
        num_positions: int = 100,
        position_features: int = 6,
        attention: AttentionForm = "power",
        tau: float = 0.2,
        delta: float = 10.0,
        delta_schedule: DeltaSchedule = "exponential",
        delta_epochs: int = 10,
        delta_final: float = 0.2,
        delta_floor: float = 1e-6,
        chunk_size: int = 16,
    ) -> None:
        super().__init__()
        for name, size, least in (
            ("num_positions", num_positions, 1),
            ("position_features", position_features, 1),
            ("chunk_size", chunk_size, 0),
        ):
            if size < least:
                raise ValueError(f"{name} is {size}, expected at least {least}.")
        if isinstance(backbone, str):
            backbone = create_backbone(
                backbone, in_channels=in_channels, weights=weights, **(backbone_options or {})
            )
        elif weights is not None or backbone_options:
            raise ValueError(
                "weights and backbone_options are for a backbone given by name, got a "
                f"{type(backbone).__name__}: prepare it before."
            )
        self.backbone = backbone
        num_features = _num_features(backbone)
        self.num_positions = num_positions
        self.chunk_size = chunk_size
        self.slice_head = nn.Linear(num_features, 1)
        self.position_embedding = nn.Embedding(num_positions, position_features)
        self.attention_head = nn.Linear(num_features + position_features, 1)
        nn.init.constant_(self.attention_head.bias, _FIRST_SCORE)
        self.attention = SliceAttention(
            attention, tau, delta, delta_schedule, delta_epochs, delta_final, delta_floor
        )

    def forward(self, image: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return the logit of each volume.

        Args:
            image: volumes `(N, C, S, H, W)` of S slices each.
            positions: ids `(N, S)` of the slices' places, `1 .. num_positions`. None: the
                slices are the whole volume in order, and get their ids by relative place.

        Returns:
            Logits `(N, 1)`.

        Raises:
            ValueError: if shapes or ids do not fit.
        """
        slice_logits, log_weights = self.slice_terms(image, positions)
        return mixture_logit(slice_logits, log_weights).unsqueeze(-1)

    @torch.jit.export
    def explain(
        self,
        image: Tensor,
        positions: Tensor | None = None,
    ) -> MultiViewOutput:
        """Return the logit together with the slices' logits and weights; see `forward`."""
        slice_logits, log_weights = self.slice_terms(image, positions)
        logit = mixture_logit(slice_logits, log_weights).unsqueeze(-1)
        return MultiViewOutput(logit, slice_logits, log_weights.exp())

    def slice_terms(
        self,
        image: Tensor,
        positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the slices' logits and log-weights, each `(N, S)`, in float32 at least."""
        if not is_scripting():
            _check_volume(image)
        batch, num_slices = image.shape[0], image.shape[2]
        if positions is None:
            relative = relative_positions(num_slices, self.num_positions, image.device)
            positions = relative.unsqueeze(0).expand(batch, num_slices)
        if not is_scripting():
            _check_positions(positions, batch, num_slices, self.num_positions)
        features = self._features(image.transpose(1, 2).flatten(0, 1))
        places = self.position_embedding(positions.long().flatten() - 1).to(features.dtype)
        slice_logits = self.slice_head(features).view(batch, num_slices)
        scores = self.attention_head(torch.cat([features, places], dim=1)).view(batch, num_slices)
        if scores.dtype == torch.float16 or scores.dtype == torch.bfloat16:
            # Too coarse for the power 1 / tau and for the log-space sum.
            slice_logits, scores = slice_logits.float(), scores.float()
        return slice_logits, self.attention(scores)

    def _features(self, slices: Tensor) -> Tensor:
        """Return the features `(B, F)` of slices `(B, C, H, W)`, in chunks in evaluation."""
        chunked = self.chunk_size > 0 and not self.training
        if not is_scripting():
            # A captured graph would fix the number of chunks, and so the size of volumes.
            chunked = chunked and not torch.compiler.is_compiling()
        size = self.chunk_size if chunked else slices.shape[0]
        return torch.cat([self.backbone(chunk) for chunk in slices.split(size)])

    def set_epoch(self, epoch: int) -> None:
        """Attenuate delta as the schedule says for `epoch`, counted from 0."""
        self.attention.set_epoch(epoch)

    def attenuate(self, factor: float) -> None:
        """Set delta to its trained value times `factor`, in [0, 1]."""
        self.attention.attenuate(factor)

    def slice_classifier(self) -> SliceClassifier:
        """Return the part for one slice; it shares this network's parameters."""
        return SliceClassifier(self.backbone, self.slice_head)


class SliceClassifier(nn.Module):
    """Gives the logit z of single slices `(B, C, H, W)`, as `(B, 1)`.

    In evaluation, the map of a volume is that of its slices, each times its weight. So it can be
    computed slice by slice if the recorded forward of the whole volume does not fit the memory.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.training = backbone.training  # the shared modules keep their own modes

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits `(B, 1)`."""
        logits: Tensor = self.head(self.backbone(image))
        return logits


def _num_features(backbone: nn.Module) -> int:
    number = getattr(backbone, "num_features", None)
    if not isinstance(number, int):
        raise ValueError(
            f"The backbone {type(backbone).__name__} has no attribute num_features: give the "
            "length of its output there, or build it by ppi_med.networks.create_backbone."
        )
    return number


def _check_volume(image: Tensor) -> None:
    if image.ndim != 5:
        raise ValueError(
            f"The image has shape {tuple(image.shape)}, expected volumes (N, C, S, H, W) of S "
            "slices: add the missing axis, or move the slices' axis to the third place."
        )


def _check_positions(positions: Tensor, batch: int, num_slices: int, num_positions: int) -> None:
    if is_tracing() or torch.compiler.is_compiling():
        return  # reading the values would break the graph
    if positions.is_floating_point() or tuple(positions.shape) != (batch, num_slices):
        raise ValueError(
            f"positions is {positions.dtype} of shape {tuple(positions.shape)}, expected one "
            f"integer id per slice, ({batch}, {num_slices})."
        )
    least, most = int(positions.min()), int(positions.max())
    if least < 1 or most > num_positions:
        raise ValueError(
            f"positions go from {least} to {most}, expected ids in 1 to {num_positions}: map "
            "slices to ids by ppi_med.networks.relative_positions."
        )


def ga_parameter_groups(
    network: nn.Module, cnn_lr: float = 5e-5, rest_lr: float = 5e-3, **options: Any
) -> list[dict[str, Any]]:
    """Return the two groups of Appendix E.3: the CNN, then everything else.

    Parameters that are frozen (`requires_grad=False`) are in neither. A group that would be
    empty is left out, so that a frozen CNN gives one group.

    Args:
        network: one with its CNN as `backbone`, such as `MultiViewClassifier`; it may be wrapped
            for parallel training.
        cnn_lr: learning rate of the CNN.
        rest_lr: learning rate of the embedding, the heads and delta.
        options: further settings of both groups, such as `weight_decay`.

    Returns:
        Groups for an optimiser, each with `params`, `lr` and `name` ("cnn", "rest").

    Raises:
        ValueError: if the network has no `backbone`, or nothing to train.

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
