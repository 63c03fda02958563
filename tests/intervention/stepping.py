"""One step of the PPI terms on a small network in float64."""

from __future__ import annotations

import torch
from torch import nn

from ppi_med.intervention import SaliencyToMap

SMOOTH = SaliencyToMap(smooth_sigma=0.8)
BATCHES_OF_ONE = ["any", "same_class", "other_class", "shared"]


def make_network(spatial, logits, seed=0):
    torch.manual_seed(seed)
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[spatial]
    pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[spatial]
    layers = conv(2, 4, 3, padding=1), nn.Softplus(), pool(1), nn.Flatten(), nn.Linear(4, logits)
    return nn.Sequential(*layers).double()


def make_batch(size, spatial, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (size, 2, 5, 6, 4)[: 2 + spatial]
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def saliency_of(network, image, label):
    """Gradient x input of the label's score, with its graph."""
    image = image.clone().requires_grad_()
    output = network(image)
    if output.shape[1] == 1:
        score = output[:, 0] * (2 * label - 1)
    else:
        score = output.gather(1, label[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(score.sum(), image, create_graph=True)
    return gradient * image


def step(terms, network, image, label, saliency=None, cls_loss=0.7, epoch=1, iteration=1):
    logits = network[-1].out_features
    saliency = saliency_of(network, image, label) if saliency is None else saliency
    contrasts = terms.contrast_images(image, saliency, label, logits)
    outputs = network(contrasts.batch) if contrasts.parts else None
    loss = torch.tensor(cls_loss, dtype=torch.float64)
    return contrasts, terms.losses(contrasts, outputs, loss, epoch, iteration)
