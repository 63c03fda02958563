"""The terms of PPI against a slow oracle: images, losses, gradients, schedules."""

from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import (
    AdaptiveMask,
    BoxMask,
    HardMask,
    PPITerms,
    RandomPlace,
    SaliencyToMap,
    SharedPlace,
    SoftMask,
    WarmUpWeight,
    draw_partners,
)
from tests.intervention.stepping import SMOOTH, make_batch, make_network, saliency_of, step


def slow_ppi(network, image, label, seed, fill, pairing):
    """PPI as in the design, one sample at a time, with SoftMask() and the draws' stated order."""
    generator = torch.Generator().manual_seed(seed)
    size = len(image)
    content = draw_partners("any", size, generator) if fill == "exchange" else None
    maps, saliencies = [], []
    for x, y in zip(image, label, strict=True):
        saliencies.append(saliency_of(network, x[None], y[None])[0])
        maps.append(SMOOTH(saliencies[-1][None])[0])
    own = [torch.sigmoid(100 * (m - 0.25)) for m in maps]
    if pairing == "shared":
        prime = [torch.sigmoid(100 * (sum(maps).detach() / size - 0.25))] * size
    else:
        partner = draw_partners(pairing, size, generator, label)
        prime = [own[int(j)] for j in partner]
    con = ad = reg = 0.0
    for i, (x, y) in enumerate(zip(image, label, strict=True)):
        other = image[content[i]] if fill == "exchange" else torch.zeros_like(x)
        p = []
        for mask in (own[i], prime[i]):
            z = network((x * (1 - mask) + other * mask)[None])[0]
            if len(z) == 1:
                p.append(torch.sigmoid(z[0] if y == 1 else -z[0]))
            else:
                p.append(torch.exp(z[y]) / torch.exp(z).sum())
        con = con - torch.log(1 - p[0]) / size
        ad = ad - torch.log(p[1]) / size
        reg = reg + saliencies[i].abs().sum() / size
    return {"con": con, "ad": ad, "reg": reg}


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("logits", [1, 2, 3])
@pytest.mark.parametrize(
    ("fill", "pairing"),
    [("zero", "any"), ("zero", "same_class"), ("exchange", "other_class"), ("exchange", "shared")],
)
def test_equals_one_sample_at_a_time_with_gradients(fill, pairing, logits, spatial):
    network, image = make_network(spatial, logits), make_batch(5, spatial)
    label = torch.arange(5) % max(logits, 2)
    terms = PPITerms(
        to_map=SMOOTH, fill=fill, pairing=pairing, con_weight=0.1, reg_weight=0.01, seed=3
    )
    _, result = step(terms, network, image, label)
    slow = slow_ppi(network, image, label, 3, fill, pairing)
    for name, value in slow.items():
        assert torch.allclose(result.values[name], value, rtol=1e-9), name
    expected = 0.1 * slow["con"] + slow["ad"] + 0.01 * slow["reg"]
    assert torch.allclose(result.total, expected, rtol=1e-9)
    parameters = list(network.parameters())
    ours = torch.autograd.grad(result.total, parameters)
    theirs = torch.autograd.grad(expected, parameters)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-10)


def test_parameter_gradients_equal_central_differences():
    network, image = make_network(2, 2), make_batch(4, 2)
    label = torch.tensor([0, 1, 1, 0])

    def total():
        mask = AdaptiveMask(0.5, 4.0, "std")
        terms = PPITerms(mask=mask, to_map=SMOOTH, fill="exchange", reg_weight=0.01, seed=1)
        return step(terms, network, image, label)[1].total

    weight = network[0].weight
    (gradient,) = torch.autograd.grad(total(), weight)
    for index in [(0, 0, 0, 0), (1, 1, 2, 0), (3, 0, 1, 1)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * 1e-5
            values.append(total().item())
            with torch.no_grad():
                weight[index] -= sign * 1e-5
        difference = (values[0] - values[1]) / 2e-5
        assert gradient[index].item() == pytest.approx(difference, rel=1e-5)


def test_defaults_are_the_printed_images():
    network, image = make_network(2, 1), make_batch(4, 2)
    label = torch.tensor([0, 1, 1, 0])
    contrasts, _ = step(PPITerms(), network, image, label)
    mask = SoftMask()(SaliencyToMap()(saliency_of(network, image, label)))
    x_star, x_prime = contrasts.batch.split(4)
    assert torch.allclose(x_star, image - mask * image)
    partner = draw_partners("any", 4, torch.Generator().manual_seed(0))
    assert torch.allclose(x_prime, image - mask[partner] * image)


def test_only_the_saliency_carries_the_gradient():
    image = make_batch(3, 2).requires_grad_()
    saliency = make_batch(3, 2, seed=1).requires_grad_()
    contrasts = PPITerms().contrast_images(image, saliency, torch.tensor([0, 1, 0]), 1)
    from_image, from_saliency = torch.autograd.grad(
        contrasts.batch.sum(), (image, saliency), allow_unused=True
    )
    assert from_image is None
    assert from_saliency.isfinite().all()


@pytest.mark.parametrize(
    "label",
    [torch.tensor([0.0, 1.0, 1.0]), torch.tensor([[0], [1], [1]]), torch.eye(2)[[0, 1, 1]]],
)
def test_all_forms_of_labels_give_the_same(label):
    network, image = make_network(2, 2), make_batch(3, 2)
    saliency = saliency_of(network, image, torch.tensor([0, 1, 1]))
    _, expected = step(PPITerms(), network, image, torch.tensor([0, 1, 1]), saliency)
    _, result = step(PPITerms(), network, image, label, saliency)
    assert torch.equal(result.total, expected.total)


def test_alternating_contrasts():
    network, image = make_network(2, 1), make_batch(3, 2)
    label = torch.tensor([0, 1, 1])
    terms = PPITerms(alternate=True, contrasts=("ad", "con"))
    seen = []
    for _ in range(4):
        announced = terms.current
        contrasts, result = step(terms, network, image, label)
        assert tuple(contrasts.parts) == announced
        assert contrasts.batch.shape == image.shape
        assert set(result.values) == {*announced, "reg"}
        seen += announced
    assert seen == ["ad", "con", "ad", "con"]


def test_sparsity_alone():
    network, image = make_network(2, 1), make_batch(3, 2)
    label = torch.tensor([0, 1, 1])
    terms = PPITerms(contrasts=(), reg_weight=0.5)
    contrasts, result = step(terms, network, image, label)
    expected = 0.5 * saliency_of(network, image, label).abs().sum() / 3
    assert torch.allclose(result.total, expected)
    with pytest.raises(ValueError, match="no contrast"):
        _ = contrasts.batch


def test_sparsity_forms():
    network, image = make_network(2, 1), make_batch(3, 2)
    label = torch.tensor([0, 1, 1])
    saliency = saliency_of(network, image, label)
    for kind, per, expected in [
        ("saliency", "element", saliency.abs().mean()),
        ("map", "image", SaliencyToMap()(saliency).sum() / 3),
    ]:
        _, result = step(PPITerms(reg_on=kind, reg_per=per), network, image, label)
        assert torch.allclose(result.values["reg"], expected)


def test_sparsity_with_a_weight_needs_a_graph():
    network, image = make_network(2, 1), make_batch(2, 2)
    with pytest.raises(ValueError, match="create_graph=True or set reg_weight=0"):
        step(PPITerms(reg_weight=1.0), network, image, torch.tensor([0, 1]), image)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, True),
        ({"mask": BoxMask()}, False),
        ({"mask": RandomPlace(HardMask())}, False),
        ({"mask": BoxMask(), "reg_weight": 0.1}, True),
        ({"contrasts": ("ad",), "pairing": "shared"}, False),
        ({"contrasts": ("ad",), "pairing": SharedPlace(detach=False)}, True),
        ({"contrasts": ("ad",)}, True),
        ({"contrasts": ("ad",), "detach_prime": True}, False),
        ({"contrasts": ()}, False),
    ],
)
def test_needs_map_gradient(arguments, expected):
    """Where it is said not to be needed, the gradient is the same without the map's graph."""
    terms = PPITerms(**arguments)
    assert terms.needs_map_gradient is expected
    network, image = make_network(2, 1), make_batch(4, 2)
    label = torch.tensor([0, 1, 1, 0])
    if terms.contrasts and not expected:
        saliency = saliency_of(network, image, label)
        contrasts = terms.contrast_images(image, saliency, label, 1)
        assert not contrasts.batch.requires_grad


def test_result_tells_weights_and_removed_share():
    network, image = make_network(2, 1), make_batch(4, 2)
    terms = PPITerms(con_weight=WarmUpWeight(0.4, 4), ad_weight=2.0)
    contrasts, result = step(terms, network, image, torch.tensor([0, 1, 1, 0]), epoch=2)
    assert result.weights == {"con": 0.1, "ad": 2.0, "reg": 0.0}
    assert result.removed["ad"] == contrasts.parts["ad"].mask.mean()
    assert not any(v.requires_grad for v in (*result.values.values(), *result.removed.values()))
