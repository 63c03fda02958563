"""Tensor networks against dense contractions: the whole weight tensor, entry by entry."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from ppi_med.networks import LoTeNet
from ppi_med.networks.lotenet import PatchLayer
from ppi_med.networks.mps import MatrixProductState, contract_chain, local_map, pair_product
from ppi_med.saliency import (
    LRP,
    WBP,
    GradCAM,
    Gradient,
    GradientTimesInput,
    IntegratedGradients,
    Occlusion,
    SmoothGrad,
    wbp_completeness,
)


def dense_weights(chain: MatrixProductState, copy: int) -> Tensor:
    """Return the whole tensor ``(d, ..., d, L)`` of a chain, with one axis a site."""
    dense = chain.first[copy]
    for site in range(chain.site_tensors.shape[1]):
        if site == chain.middle:
            dense = torch.einsum("...i,lij->...lj", dense, chain.output_tensor[copy])
        dense = torch.einsum("...i,dij->...dj", dense, chain.site_tensors[copy, site])
    return (dense @ chain.last[copy]).movedim(chain.middle, -1)


def dense_output(chain: MatrixProductState, copy: int, features: Tensor) -> Tensor:
    """Return the outputs ``(L,)`` for features ``(S, d)``: the dense tensor, site after site."""
    weights = dense_weights(chain, copy)
    for site in features:
        weights = torch.tensordot(site, weights, dims=([0], [0]))
    return weights


def shaken(network: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.double()


@pytest.mark.parametrize("sites", [1, 2, 5, 7])
def test_a_chain_equals_its_dense_tensor(sites: int) -> None:
    chain = shaken(MatrixProductState(sites, 2, 3, 4, copies=2))
    assert isinstance(chain, MatrixProductState)
    features = torch.randn(3, 2, sites, 2).double()
    found = chain(features)
    for n, copy in product(range(3), range(2)):
        wanted = dense_output(chain, copy, features[n, copy])
        assert torch.allclose(found[n, copy], wanted, atol=1e-12)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 6, 13])
def test_pairs_equal_one_after_the_other(length: int) -> None:
    torch.manual_seed(length)
    matrices = torch.randn(4, length, 3, 3).double()
    wanted = torch.eye(3).double().expand(4, 3, 3)
    for site in range(length):
        wanted = wanted @ matrices[:, site]
    assert torch.allclose(contract_chain(matrices), wanted, atol=1e-12)


def slow_patch_layer(layer: PatchLayer, image: Tensor) -> Tensor:
    """The same layer in evaluation mode, patch by patch, densely."""
    p, columns = layer.patch, image.shape[2] // layer.patch
    rows = image.shape[1] // p
    found = torch.zeros(layer.norm.num_features, rows, columns, dtype=image.dtype)
    for r, c in product(range(rows), range(columns)):
        pixels = [image[:, r * p + i, c * p + j] for i in range(p) for j in range(p)]
        features = torch.stack([local_map(pixel) for pixel in pixels])
        found[:, r, c] = dense_output(layer.chains, r * columns + c, features)
    norm = layer.norm
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (found - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[
        :, None, None
    ]


def test_lotenet_equals_its_dense_contraction() -> None:
    # 7 x 6 is padded to 8 x 8: squeezed to 4 x 4, one layer to 2 x 2, a last chain of 4 sites.
    network = shaken(LoTeNet(1, 3, (7, 6), squeeze=2, layers=1, bond_dim=2))
    network(torch.rand(5, 1, 7, 6).double())
    network.eval()
    image = torch.rand(2, 1, 7, 6).double()
    padded = torch.zeros(2, 1, 8, 8).double()
    padded[:, :, 0:7, 1:7] = image
    for n in range(2):
        squares = [padded[n, 0, i::2, j::2] for i in range(2) for j in range(2)]
        places = slow_patch_layer(network.layers[0], torch.stack(squares))  # type: ignore[arg-type, index]
        features = torch.stack([local_map(places[:, r, c]) for r in range(2) for c in range(2)])
        wanted = dense_output(network.chain, 0, features)  # type: ignore[arg-type]
        assert torch.allclose(network(image)[n], wanted, atol=1e-10)


def test_long_chains_neither_vanish_nor_explode() -> None:
    torch.manual_seed(0)
    logits = LoTeNet(1, 2, 64, layers=3)(torch.rand(4, 1, 64, 64))
    assert logits.isfinite().all()
    assert 1e-3 < logits.detach().abs().max() < 100


def test_it_learns_a_small_task() -> None:
    torch.manual_seed(0)
    image = torch.rand(64, 1, 8, 8)
    label = (image[:, 0, :4].mean((1, 2)) > image[:, 0, 4:].mean((1, 2))).long()
    network = LoTeNet(1, 2, 8, layers=1, bond_dim=4)
    optimiser = torch.optim.Adam(network.parameters(), 2e-2)
    for _ in range(120):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(image), label)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.3


def small() -> tuple[nn.Module, Tensor]:
    image = torch.rand(4, 1, 8, 8).double()
    network = shaken(LoTeNet(1, 3, 8, layers=1, bond_dim=3))
    network(image)
    return network.eval(), image


def test_wbp_accounts_for_the_logit() -> None:
    network, image = small()
    found = wbp_completeness(network, image, 1)
    assert found.score == pytest.approx(found.relevance + found.constants, rel=1e-9)
    assert found.relevance != 0


@pytest.mark.parametrize("size", [(8, 8), (3, 5)])
def test_wbp_gives_each_site_the_same_share(size: tuple[int, int]) -> None:
    """A single chain over all pixels: linear in each, so that each has one share of the whole."""
    sites = size[0] * size[1]
    chain = shaken(MatrixProductState(sites, 2, 3, 2))

    class Pixels(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            pixels = local_map(image.flatten(2).transpose(1, 2))
            return torch.as_tensor(chain(pixels[:, None])[:, 0])

    image = torch.rand(2, 1, *size).double()
    share = GradientTimesInput()(Pixels(), image, 1) / sites
    assert torch.allclose(WBP()(Pixels(), image, 1), share, atol=1e-12)


def test_a_recorded_forward_trains_as_an_ordinary_one() -> None:
    network, image = small()
    recorded = WBP().record(network, image).output.sum()
    plain = network(image).sum()
    weights = list(network.parameters())
    for one, other in zip(
        torch.autograd.grad(recorded, weights), torch.autograd.grad(plain, weights), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-10)


def test_a_loss_on_the_map_trains() -> None:
    network, image = small()
    WBP()(network, image, 1, create_graph=True).square().sum().backward()
    chain = network.chain
    assert isinstance(chain, MatrixProductState)
    assert chain.site_tensors.grad is not None
    assert bool((chain.site_tensors.grad != 0).any())


@pytest.mark.parametrize(
    "method",
    [
        Gradient(),
        GradientTimesInput(),
        IntegratedGradients(2),
        SmoothGrad(Gradient(), samples=2),
        LRP(),
        Occlusion(window=4, stride=4),
    ],
    ids=lambda method: type(method).__name__,
)
def test_other_maps_are_there(method: object) -> None:
    network, image = small()
    found = method(network, image, 1)  # type: ignore[operator]
    assert found.shape == image.shape
    assert found.isfinite().all() and bool((found != 0).any())


def test_gradcam_needs_a_named_layer() -> None:
    network, image = small()
    with pytest.raises(ValueError, match="no convolution"):
        GradCAM()(network, image, 1)


def test_wbp_names_the_trigonometric_map() -> None:
    network = LoTeNet(1, 2, 8, layers=1, feature_map="trigonometric")
    with pytest.raises(RuntimeError, match="no relevance rule for the operation '(sin|cos)'"):
        WBP()(network, torch.rand(2, 1, 8, 8), 0)


def test_the_surrogate_is_the_product_itself() -> None:
    left, right = torch.rand(3, 2, 4), torch.rand(3, 4, 5)
    shared = pair_product.saliency_surrogate  # type: ignore[attr-defined]
    assert torch.allclose(shared(left, right, torch.tensor(0.3)), left @ right)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LoTeNet(1, 2, 7, layers=3), "take fewer layers"),
        (lambda: LoTeNet(1, 2, 8, patch=0), "expected 1 or more"),
        (lambda: LoTeNet(1, 2, (8, 8, 8)), "expected a number or"),  # type: ignore[arg-type]
        (lambda: LoTeNet(1, 2, 8, feature_map="cubic"), "expected one of linear"),  # type: ignore[arg-type]
        (lambda: LoTeNet(1, 2, 8, bond_dim=0), "bond_dim is 0"),
        (lambda: LoTeNet(1, 2, 8, layers=1)(torch.rand(2, 1, 8, 9)), "resize or crop"),
    ],
)
def test_wrong_arguments_are_answered(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()  # type: ignore[operator]
