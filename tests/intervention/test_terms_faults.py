"""The terms where something is odd: no saliency, half precision, divergence, wrong arguments."""

from __future__ import annotations

import math

import pytest
import torch

from ppi_med.intervention import (
    AdaptiveMask,
    BoxMask,
    DivergenceError,
    DivergenceGuard,
    HardMask,
    PPITerms,
    SoftMask,
)
from tests.intervention.stepping import (
    BATCHES_OF_ONE,
    SMOOTH,
    make_batch,
    make_network,
    saliency_of,
    step,
)


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
