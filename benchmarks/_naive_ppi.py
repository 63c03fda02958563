"""PPI as one would write it first: each kind of image in a forward of its own.

The reference for `ppi_step.py`, in its values and in its time. Masks, altered images and losses are
written out here (soft mask of Appendix B, zero fill, the map of another sample for x'); only the
map itself is `ppi_med`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppi_med.saliency import WBP, primary_logits
from ppi_med.training.modes import running_statistics_kept

SIGMA, OMEGA = 0.25, 100.0
CON_WEIGHT, AD_WEIGHT = 0.1, 1.0

Loss = Callable[[object, Tensor], Tensor]


@dataclass(frozen=True)
class NaivePPI:
    """The loss of one PPI step.

    Attributes:
        differentiable: whether the losses train through the map.
        joined: pass x* and x' in one batch, which BatchNorm in training sees as one; False passes
            them in two forwards.
        alone: what passes one sample at a time: nothing, the map, or everything.
    """

    differentiable: bool = True
    joined: bool = False
    alone: str = "nothing"

    def loss(
        self, network: nn.Module, cls_loss: Loss, image: Tensor, label: Tensor, partner: Tensor
    ) -> Tensor:
        """Return L_cls + 0.1 L_con + L_ad.

        Args:
            network: gives logits `(N, 1)` or `(N, 2)`.
            cls_loss: of the network's output and the label.
            image: `(N, C, *spatial)`.
            label: `(N,)` or `(N, 1)`, 0 or 1.
            partner: `(N,)`, whose map masks x'.
        """
        size = 1 if self.alone == "everything" else len(image)
        parts = [
            cls_loss(network(some), its) * (len(some) / len(image))
            for some, its in zip(image.split(size), label.split(size), strict=True)
        ]
        mask = soft_mask(self.maps(network, image, label.flatten().long()))
        star, prime = image - mask * image, image - mask[partner] * image
        signs = 2 * label.flatten() - 1
        reached = (mask.detach().flatten(1).amax(1) >= 0.5).to(image.dtype)
        with running_statistics_kept(network):
            if self.joined:
                of_star, of_prime = log_odds(network, [torch.cat([star, prime])]).chunk(2)
            else:
                of_star = log_odds(network, star.split(size))
                of_prime = log_odds(network, prime.split(size))
        con = (softplus(signs * of_star) * reached).mean()
        ad = softplus(-signs * of_prime).mean()
        return torch.stack(parts).sum() + CON_WEIGHT * con + AD_WEIGHT * ad

    def maps(self, network: nn.Module, image: Tensor, classes: Tensor) -> Tensor:
        """Return the map of each image's own class, in forwards of their own."""
        size = len(image) if self.alone == "nothing" else 1
        method = WBP()
        return torch.cat(
            [
                method(network, some, its, create_graph=self.differentiable)
                for some, its in zip(image.split(size), classes.split(size), strict=True)
            ]
        )


def soft_mask(saliency: Tensor) -> Tensor:
    """T(s) = 1 / (1 + exp(-omega (s - sigma))) on the map divided by each image's maximum."""
    strength = saliency.abs().sum(1, keepdim=True)
    peak = strength.flatten(1).amax(1).view(-1, *[1] * (strength.ndim - 1))
    return torch.sigmoid(OMEGA * (strength / peak - SIGMA))


def log_odds(network: nn.Module, batches: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return the log odds of class 1 of all images, `(N,)`."""
    logits = torch.cat([primary_logits(network(batch)) for batch in batches])
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
