"""The GA network's map under WBP: the weights are gates, and a loss on the map trains them."""

from __future__ import annotations

import torch
from torch import Tensor

from ppi_med.networks import MultiViewClassifier
from ppi_med.saliency import WBP, wbp_completeness


def network() -> MultiViewClassifier:
    torch.manual_seed(0)
    net = MultiViewClassifier("small_cnn", backbone_options={"widths": (3, 4)}, delta=1.0, tau=0.5)
    return net.double()


def volume() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 1, 5, 12, 12, generator=generator, dtype=torch.float64)


def test_map_explains_the_gated_sum() -> None:
    net, image = network().eval(), volume().requires_grad_()
    output = net.explain(image)
    gated = (output.slice_weights.detach() * output.slice_logits).sum()
    (gradient,) = torch.autograd.grad(gated, image)
    torch.testing.assert_close(WBP()(net, image, 1), gradient * image.detach())


def test_completeness_is_that_of_the_gated_sum() -> None:
    net, image = network().eval(), volume()
    parts = wbp_completeness(net, image, lambda logit: logit[:, 0])
    output = net.explain(image)
    gated = float((output.slice_weights * output.slice_logits).sum().detach())
    assert abs(parts.relevance + parts.constants - gated) <= 1e-8 * abs(gated)


def test_a_loss_on_the_map_trains_the_attention_as_finite_differences_say() -> None:
    net, image = network().train(), volume()
    weight = net.attention_head.weight
    mask = torch.randn(image.shape, generator=torch.Generator().manual_seed(2)).double()

    def loss() -> Tensor:
        return (WBP()(net, image, 1, create_graph=True) * mask).sum()

    (gradient,) = torch.autograd.grad(loss(), weight)
    assert float(gradient.abs().max()) > 0
    for index in range(weight.numel()):
        difference = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight.view(-1)[index] += step
            difference.append(float(loss().detach()))
            with torch.no_grad():
                weight.view(-1)[index] -= step
        numeric = (difference[0] - difference[1]) / 2e-5
        exact = float(gradient.view(-1)[index])
        assert abs(exact - numeric) <= 1e-5 * max(abs(numeric), 1e-3)
