"""Weight Back Propagation (Table 1 of arXiv 2012.03369)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppi_med.saliency.base import Network, Recording, SaliencyMethod, leaf_image, usable
from ppi_med.saliency.engine.forward import RecordedForward
from ppi_med.saliency.engine.isolation import isolated
from ppi_med.saliency.engine.norm_derivatives import norm_derivatives
from ppi_med.saliency.engine.rules import FOREIGN_RULES, WBP_RULES
from ppi_med.saliency.target import Target, target_scores

# Weights of single pixels are too small for float16, so they are scaled up, like a loss.
_FLOAT16_SCALE = 2.0**10


class RuleRecording(Recording):
    """A forward recorded under relevance rules; maps are `image * W` with W passed back.

    A `backward` of the output trains the network like that of an ordinary forward, but stops before
    `image`: its gradient costs a transposed convolution, and only a map needs it.
    """

    def __init__(self, image: Tensor, output: Any, forward: RecordedForward) -> None:
        super().__init__(image, output)
        self.forward = forward

    def saliency(
        self, target: Target, *, create_graph: bool = False, retain_graph: bool = True
    ) -> Tensor:
        """Return s = W_0 * x, the relevance of every pixel for `target`.

        Raises:
            ValueError: if the target does not fit the output.
            IndexError: if a class index is outside the output.
            UnsupportedOperationError: if relevance reaches an operation without a rule.
        """
        (weights,) = self.pass_back(
            self.scores(target),
            (self.image,),
            create_graph=create_graph,
            retain_graph=retain_graph or create_graph,
        )
        return weights * self.image.detach()

    def scores(self, target: Target) -> Tensor:
        """Return the scores `(N,)` of `target`; a callable runs under the rules."""
        with torch.inference_mode(False), torch.enable_grad():
            if isinstance(target, Tensor):
                return target_scores(self.output, usable(target))
            if not callable(target):
                return target_scores(self.output, target)
            with norm_derivatives(), self.forward:
                scores = target_scores(self.output, target)
        if len(scores) != len(self.image):
            raise ValueError(
                f"a target callable returned {len(scores)} scores for {len(self.image)} images: "
                "return one score per image"
            )
        return scores

    def pass_back(
        self,
        scores: Tensor,
        inputs: tuple[Tensor, ...],
        *,
        create_graph: bool = False,
        retain_graph: bool = False,
    ) -> tuple[Tensor, ...]:
        """Return the weights W of `inputs` for the sum of the scores."""
        if not scores.requires_grad:
            return tuple(torch.zeros_like(value) for value in inputs)

        def passed(scale: float, retain: bool) -> tuple[Tensor, ...]:
            with torch.inference_mode(False), torch.enable_grad(), self.forward.switch:
                total = scores.sum() if scale == 1 else scores.float().sum() * scale
                found = torch.autograd.grad(
                    total, inputs, create_graph=create_graph, retain_graph=retain, allow_unused=True
                )
            weights = (
                torch.zeros_like(value) if weight is None else weight
                for value, weight in zip(inputs, found, strict=True)
            )
            return tuple(weight if scale == 1 else weight / scale for weight in weights)

        if not self.forward.in_float16:
            return passed(1.0, retain_graph)
        weights = passed(_FLOAT16_SCALE, True)
        if all(bool(weight.isfinite().all()) for weight in weights):
            return weights
        return passed(1.0, retain_graph)


class WBP(SaliencyMethod):
    r"""Weight Back Propagation (Table 1): the image times the weights passed back to it.

    .. math:: s = x \odot W_0, \quad W_{l-1} = \mathrm{rule}_l(W_l), \quad W_L = e_{target}

    Each layer passes the weights back by its rule: linear layers and convolutions by their
    transpose, an activation f by :math:`h(x) = (f(x) - f(0)) / x`, max pooling to the maximum's
    place, BatchNorm by :math:`\gamma / \sigma` with the statistics as constants. In LayerNorm,
    GroupNorm and InstanceNorm :math:`1 / \sigma` is a constant and subtracting the mean is linear;
    a sigmoid gate or a softmax attention is a constant factor of what it multiplies.

    On networks of linear layers, convolutions, ReLU, LeakyReLU, pooling and BatchNorm in evaluation
    mode this equals gradient x input; elsewhere it does not. The map and the part of all constants
    (biases, f(0), shifts) add up to the logit: see `wbp_completeness`.

    Half precision: if the forward runs in float16, the weights are passed back 1024 times larger
    and divided at the end, unless they overflow.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
        >>> image = torch.ones(3, 1, 2, 2)
        >>> s = WBP()(network, image, target=1)
        >>> s.shape
        torch.Size([3, 1, 2, 2])
        >>> torch.allclose(s.sum((1, 2, 3)), network(image)[:, 1])
        True
        >>> WBP()(torch.nn.Flatten(), torch.rand(1, 1, 2, 2), lambda y: y.log_softmax(1)[:, 0])
        Traceback (most recent call last):
        ...
        ppi_med.saliency.engine.primitives.UnsupportedOperationError: no relevance rule for ...
    """

    def record(self, network: Network, image: Tensor, *args: Any, **kwargs: Any) -> RuleRecording:
        """Run `network(image, *args, **kwargs)` once under the rules.

        Args:
            network: a module, or any callable on the image.
            image: `(N, C, *spatial)`, floating point.
            args: further arguments of the network.
            kwargs: further keyword arguments of the network.

        Returns:
            The recording; `recording.output` has the gradients of an ordinary forward.

        Raises:
            ValueError: if `image` is not a floating point batch.
            UnsupportedOperationError: if the network checkpoints its activations. An operation
                without a rule raises it later, when relevance reaches it.
        """
        return recorded(network, image, args, kwargs)

    def __call__(
        self, network: Network, image: Tensor, target: Target, *, create_graph: bool = False
    ) -> Tensor:
        """Return the map of `target`, see `SaliencyMethod.__call__`."""
        with isolated(network, image.device):
            recording = recorded(network, image, (), {}, for_training=create_graph)
            return recording.saliency(target, create_graph=create_graph, retain_graph=create_graph)


def recorded(
    network: Network,
    image: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    for_training: bool = True,
    collect_constants: bool = False,
) -> RuleRecording:
    """Run `network(image, *args, **kwargs)` once under WBP's rules.

    For the options see `RecordedForward`.
    """
    leaf = leaf_image(image)
    forward = RecordedForward(
        WBP_RULES,
        network,
        foreign=FOREIGN_RULES,
        collect_constants=collect_constants,
        for_training=for_training,
    )
    return RuleRecording(leaf, forward.run(leaf, *args, **kwargs), forward)
