from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ppi_med.intervention import (
    AdaptiveMask,
    BalancedWeight,
    BoxMask,
    ComplementMask,
    DivergenceError,
    DivergenceGuard,
    HardMask,
    PPITerms,
    RandomPlace,
    SaliencyToMap,
    SharedPlace,
    SoftMask,
    TopKMask,
    WarmUpWeight,
    draw_partners,
)

SMOOTH = SaliencyToMap(smooth_sigma=0.8)


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


def test_shared_place_is_one_mask_for_all_slices_of_all_volumes():
    network, image = make_network(3, 1), make_batch(4, 3)
    place = SharedPlace(axes=(0, 2))
    terms = PPITerms(pairing=place, fill="exchange", mask_prime=BoxMask())
    contrasts, _ = step(terms, network, image, torch.tensor([0, 1, 1, 0]))
    assert contrasts.parts["ad"].mask.shape == (1, 1, 1, 6, 4)
    assert contrasts.parts["con"].mask.shape == (4, 1, 5, 6, 4)
    assert contrasts.parts["ad"].image.shape == image.shape


def test_only_the_saliency_carries_the_gradient():
    image = make_batch(3, 2).requires_grad_()
    saliency = make_batch(3, 2, seed=1).requires_grad_()
    contrasts = PPITerms().contrast_images(image, saliency, torch.tensor([0, 1, 0]), 1)
    from_image, from_saliency = torch.autograd.grad(
        contrasts.batch.sum(), (image, saliency), allow_unused=True
    )
    assert from_image is None
    assert from_saliency.isfinite().all()


BATCHES_OF_ONE = ["any", "same_class", "other_class", "shared"]


@pytest.mark.parametrize("fill", ["zero", "mean", "blur", "exchange"])
@pytest.mark.parametrize("pairing", BATCHES_OF_ONE)
def test_batch_of_one_masks_a_random_place_of_the_same_area(pairing, fill):
    network, image = make_network(2, 1), make_batch(1, 2)
    terms = PPITerms(fill=fill, pairing=pairing)
    contrasts, result = step(terms, network, image, torch.tensor([1]))
    own, moved = (contrasts.parts[name].mask.flatten() for name in ("con", "ad"))
    assert torch.allclose(own.sort().values, moved.sort().values)
    assert not torch.equal(own, moved)
    assert (contrasts.parts["con"].image != image).any()
    assert result.total.isfinite()


def test_batch_of_one_uses_the_running_shared_place_once_there_is_one():
    network = make_network(2, 1)
    place = SharedPlace()
    terms = PPITerms(pairing=place)
    step(terms, network, make_batch(4, 2), torch.tensor([0, 1, 1, 0]))
    contrasts, _ = step(terms, network, make_batch(1, 2, seed=5), torch.tensor([1]))
    assert torch.equal(contrasts.parts["ad"].mask, SoftMask()(place.mean))


@pytest.mark.parametrize("pairing", BATCHES_OF_ONE)
def test_batch_of_one_class(pairing):
    network, image = make_network(2, 2), make_batch(4, 2)
    _, result = step(PPITerms(pairing=pairing), network, image, torch.ones(4, dtype=torch.int64))
    assert result.total.isfinite()


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


def test_the_shared_place_learns_in_every_step_of_alternating_contrasts():
    place = SharedPlace()
    terms = PPITerms(alternate=True, pairing=place)
    step(terms, make_network(2, 1), make_batch(3, 2), torch.tensor([0, 1, 1]))
    assert terms.current == ("ad",) and place.mean is not None


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


def test_samples_from_which_nothing_was_removed_are_left_out_of_l_con():
    network, image = make_network(2, 1), make_batch(3, 2)
    label = torch.tensor([1, 1, 1])
    saliency = make_batch(3, 2, seed=1)
    saliency[1] = 0
    contrasts, result = step(PPITerms(), network, image, label, saliency)
    assert contrasts.parts["con"].removed.tolist() == [1, 0, 1]
    p = torch.sigmoid(network(contrasts.parts["con"].image)[:, 0])
    assert torch.allclose(result.values["con"], -(torch.log(1 - p[0]) + torch.log(1 - p[2])) / 3)
    _, everyone = step(PPITerms(skip_empty=False), network, image, label, saliency)
    assert torch.allclose(everyone.values["con"], -torch.log(1 - p).mean())


def test_zero_saliency_is_harmless():
    network, image = make_network(2, 1), make_batch(3, 2)
    saliency = torch.zeros_like(image, requires_grad=True)
    for pairing in BATCHES_OF_ONE:
        for mask in (SoftMask(), AdaptiveMask(), HardMask(), BoxMask()):
            terms = PPITerms(mask=mask, pairing=pairing, to_map=SMOOTH, reg_weight=1.0)
            contrasts, result = step(terms, network, image, torch.tensor([0, 1, 1]), saliency)
            assert torch.equal(contrasts.batch, torch.cat([image, image]))
            assert result.values["con"] == 0
            (gradient,) = torch.autograd.grad(result.total, saliency)
            assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    network, image = make_network(2, 2), make_batch(4, 2)
    label = torch.tensor([0, 1, 1, 0])
    saliency = saliency_of(network, image, label).detach()
    terms, reference = PPITerms(), PPITerms()
    contrasts = terms.contrast_images(image.to(dtype), saliency.to(dtype), label, 2)
    assert contrasts.batch.dtype == dtype
    outputs = network(contrasts.batch.double()).to(dtype)
    result = terms.losses(contrasts, outputs, torch.tensor(0.7), 1, 1)
    assert result.total.dtype == torch.float32
    _, expected = step(reference, network, image, label, saliency)
    assert float(result.total.detach()) == pytest.approx(float(expected.total.detach()), rel=0.02)


def test_meta_tensors_are_taken_as_plain_ones():
    from monai.data import MetaTensor

    network, image = make_network(2, 1), make_batch(4, 2)
    label = torch.tensor([0, 1, 1, 0])
    saliency = saliency_of(network, image, label)
    terms = PPITerms(fill="exchange", pairing="same_class")
    meta = terms.contrast_images(MetaTensor(image), MetaTensor(saliency), MetaTensor(label), 1)
    assert type(meta.batch) is torch.Tensor
    plain = PPITerms(fill="exchange", pairing="same_class")
    assert torch.equal(meta.batch, plain.contrast_images(image, saliency, label, 1).batch)


def make_stateful():
    return PPITerms(
        mask=RandomPlace(SoftMask(), seed=1),
        mask_prime=AdaptiveMask(),
        fill="exchange",
        pairing="shared",
        alternate=True,
        con_weight=WarmUpWeight(BalancedWeight(), 5, "iteration"),
        ad_weight=BalancedWeight(1.0),
        seed=4,
    )


def test_resume_is_bitwise_through_a_file(tmp_path):
    network = make_network(2, 1)

    def run(terms, steps):
        results = []
        for i in steps:
            label = torch.tensor([0, 1, 1, 0])
            cls_loss = 0.5 + 0.01 * i
            _, result = step(terms, network, make_batch(4, 2, i), label, None, cls_loss, 1, i)
            results.append(result.total.detach())
        return results

    whole = run(make_stateful(), range(1, 9))
    first, second = make_stateful(), make_stateful()
    run(first, range(1, 6))
    torch.save(first.state_dict(), tmp_path / "terms.pt")
    second.load_state_dict(torch.load(tmp_path / "terms.pt", weights_only=True))
    for a, b in zip(run(second, range(6, 9)), whole[5:], strict=True):
        assert torch.equal(a, b)
    fresh = run(make_stateful(), range(6, 9))
    assert not all(torch.equal(a, b) for a, b in zip(fresh, whole[5:], strict=True))


def test_state_of_another_pairing_is_refused():
    with pytest.raises(ValueError, match="resume with the `pairing` of the saved run"):
        PPITerms().load_state_dict(PPITerms(pairing="shared").state_dict())


def test_reseed():
    image, label = make_batch(8, 2), torch.arange(8) % 2
    one, two, three = PPITerms(seed=1), PPITerms(seed=2), PPITerms(seed=2)
    two.reseed(1)
    batches = [t.contrast_images(image, image, label, 1).batch for t in (one, two, three)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_printed_form_is_reported_when_it_diverges():
    """Descent on L_con as printed runs away and is stopped by name; bounded it settles."""

    def descend(form):
        network, image = make_network(2, 1), make_batch(4, 2)
        label = torch.tensor([0, 1, 1, 0])
        optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
        terms = PPITerms(con_form=form, con_weight=1.0, contrasts=("con",), mask=BoxMask())
        for i in range(1, 200):
            _, result = step(terms, network, image, label, iteration=i)
            optimiser.zero_grad()
            result.total.backward()
            optimiser.step()
        return result

    with pytest.raises(DivergenceError, match="^L_con is .*bounded"):
        descend("printed")
    assert 0 <= float(descend("bounded").values["con"]) < math.log(2)


def test_a_broken_network_is_named():
    network, image = make_network(2, 1), make_batch(2, 2)
    network[-1].bias.data.fill_(float("nan"))
    label = torch.tensor([0, 1])
    with pytest.raises(DivergenceError, match="^L_con is nan at epoch 1, iteration 1"):
        step(PPITerms(), network, image, label, image)
    with pytest.raises(DivergenceError, match="^L_cls is nan"):
        step(PPITerms(), network, image, label, image, cls_loss=float("nan"))
    silent = PPITerms(guard=DivergenceGuard(every=0))
    assert step(silent, network, image, label, image)[1].total.isnan()


def test_result_tells_weights_and_removed_share():
    network, image = make_network(2, 1), make_batch(4, 2)
    terms = PPITerms(con_weight=WarmUpWeight(0.4, 4), ad_weight=2.0)
    contrasts, result = step(terms, network, image, torch.tensor([0, 1, 1, 0]), epoch=2)
    assert result.weights == {"con": 0.1, "ad": 2.0, "reg": 0.0}
    assert result.removed["ad"] == contrasts.parts["ad"].mask.mean()
    assert not any(v.requires_grad for v in (*result.values.values(), *result.removed.values()))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"pairing": "opposite"}, "pairing='opposite' is unknown: use one of any, same_class"),
        ({"fill": "noise"}, "fill='noise'"),
        ({"fill_pairing": "shared"}, "fill_pairing='shared'"),
        ({"contrasts": ("con", "reg")}, "contrasts='reg'"),
        ({"con_form": "hinge"}, "con_form='hinge'"),
        ({"reg_on": "image"}, "reg_on='image'"),
        ({"ad_weight": -1.0}, "value is -1"),
    ],
)
def test_wrong_arguments(arguments, part):
    with pytest.raises(ValueError, match=part):
        PPITerms(**arguments)


def test_wrong_shapes():
    image, label = make_batch(3, 2), torch.tensor([0, 1, 1])
    terms = PPITerms()
    with pytest.raises(ValueError, match=r"saliency has shape \(2, 2, 5, 6\)"):
        terms.contrast_images(image, image[:2], label, 1)
    with pytest.raises(ValueError, match="one label for each"):
        terms.contrast_images(image, image, label[:2], 1)
    contrasts = terms.contrast_images(image, image, label, 1)
    with pytest.raises(ValueError, match="got 3 outputs for 2 x 3 altered images"):
        terms.losses(contrasts, torch.zeros(3, 1), torch.tensor(0.7), 1, 1)
    with pytest.raises(ValueError, match="outputs are missing"):
        terms.losses(contrasts, None, torch.tensor(0.7), 1, 1)


def test_the_shared_place_is_left_out_of_the_mask_of_x_star():
    torch.manual_seed(0)
    image, saliency = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    label = torch.tensor([0, 1, 1, 0])
    shared = dict(mask=AdaptiveMask(k=0.5), mask_prime=TopKMask(5), pairing="shared", seed=3)
    whole = PPITerms(**shared).contrast_images(image, saliency, label, 1)
    spared = PPITerms(**shared, spare_shared=True).contrast_images(image, saliency, label, 1)
    place = whole.parts["ad"].mask
    assert torch.equal(spared.parts["ad"].mask, place)
    assert (whole.parts["con"].mask * place).sum() > 0
    assert torch.equal(spared.parts["con"].mask, whole.parts["con"].mask * (1 - place))


@pytest.mark.parametrize("options", [{}, {"pairing": "shared", "contrasts": ("con",)}])
def test_nothing_can_be_left_out_without_a_shared_place(options):
    with pytest.raises(ValueError, match="spare_shared needs"):
        PPITerms(spare_shared=True, **options)


def test_context_is_exchanged_around_what_the_own_map_shows():
    """x' = T(s_i) x_i + (1 - T(s_i)) x_j, written out sample by sample."""
    network, image = make_network(2, 1), make_batch(4, 2)
    label = torch.tensor([0, 1, 1, 0])
    keep = TopKMask(fraction=0.4)
    terms = PPITerms(
        mask_prime=ComplementMask(keep),
        pairing="own",
        fill="exchange",
        fill_pairing="other_class",
        contrasts=("ad",),
        to_map=SMOOTH,
        seed=5,
    )
    assert terms.needs_map_gradient is False
    saliency = saliency_of(network, image, label).detach()
    contrasts, result = step(terms, network, image, label, saliency)
    shown = keep(SMOOTH(saliency))
    partner = draw_partners("other_class", 4, torch.Generator().manual_seed(5), label)
    for i in range(4):
        expected = shown[i] * image[i] + (1 - shown[i]) * image[partner[i]]
        assert torch.allclose(contrasts.parts["ad"].image[i], expected.to(image.dtype), atol=1e-7)
    signs = 2.0 * label - 1
    logits = network(contrasts.parts["ad"].image)[:, 0]
    assert torch.allclose(result.values["ad"], nn.functional.softplus(-signs * logits).mean())


def test_an_own_mask_needs_one_of_its_own_kind():
    with pytest.raises(ValueError, match="needs a mask_prime"):
        PPITerms(pairing="own")
