from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from ppi_med.intervention import (
    adversarial_loss,
    contrast_loss,
    log_odds,
    log_prob_not_y,
    log_prob_y,
    sparsity_loss,
)


def random_logits(*shape, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


def slow_p(row, y):
    """p_y of one row of logits; a row of one is a sigmoid logit."""
    if len(row) == 1:
        p = 1 / (1 + math.exp(-row[0]))
        return p if y == 1 else 1 - p
    return math.exp(row[y]) / sum(math.exp(z) for z in row)


CASES = [
    (random_logits(6), torch.tensor([0, 1, 1, 0, 1, 0])),
    (random_logits(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])),
    (random_logits(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])),
    (random_logits(6, 5), torch.tensor([4, 0, 2, 1, 3, 3])),
]


@pytest.mark.parametrize(("output", "label"), CASES, ids=["(N,)", "(N,1)", "(N,2)", "(N,5)"])
def test_equals_slow_oracle(output, label):
    rows = output.view(6, -1).tolist()
    p = [slow_p(row, y) for row, y in zip(rows, label.tolist(), strict=True)]
    assert log_prob_y(output, label).tolist() == pytest.approx([math.log(v) for v in p])
    assert log_prob_not_y(output, label).tolist() == pytest.approx([math.log(1 - v) for v in p])
    assert log_odds(output, label).tolist() == pytest.approx([math.log(v / (1 - v)) for v in p])
    bounded = -sum(math.log(1 - v) for v in p) / 6
    printed = sum(math.log(v) for v in p) / 6
    assert float(contrast_loss(output, label)) == pytest.approx(bounded)
    assert float(contrast_loss(output, label, "printed")) == pytest.approx(printed)
    assert float(adversarial_loss(output, label)) == pytest.approx(-printed)


def test_adversarial_loss_is_torchs_cross_entropy():
    for output, label in CASES[2:]:
        assert torch.allclose(
            adversarial_loss(output, label), functional.cross_entropy(output, label)
        )
    output, label = CASES[0]
    expected = functional.binary_cross_entropy_with_logits(output, label.double())
    assert torch.allclose(adversarial_loss(output, label), expected)


def test_single_logit_and_pair_agree():
    output, label = CASES[0]
    pair = torch.stack([torch.zeros_like(output), output], 1)
    for loss in (contrast_loss, adversarial_loss):
        assert torch.allclose(loss(output, label), loss(pair, label))


@pytest.mark.parametrize("form", ["bounded", "printed"])
@pytest.mark.parametrize(("output", "label"), CASES)
def test_gradient(output, label, form):
    output = output.clone().requires_grad_()
    weight = torch.tensor([1.0, 0.0, 1.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: contrast_loss(z, label, form, weight), output)
    assert torch.autograd.gradcheck(lambda z: adversarial_loss(z, label), output)


@pytest.mark.parametrize("size", [60.0, 1e4])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_safe_where_p_is_0_or_1(count, size):
    """log1p(-p) of a rounded p would be -inf or 0 here."""
    for sign in (1, -1):
        output = torch.zeros(1, count, requires_grad=True)
        output.data[0, -1] = sign * size
        label = torch.tensor([1 if count == 1 else count - 1])
        others = math.log(max(count - 1, 1))
        odds = sign * size - others
        p, not_p = log_prob_y(output, label).item(), log_prob_not_y(output, label).item()
        assert p == pytest.approx(min(odds, 0), rel=1e-6, abs=1e-6)
        assert not_p == pytest.approx(min(-odds, 0), rel=1e-6, abs=1e-6)
        for loss in (contrast_loss(output, label), adversarial_loss(output, label)):
            (gradient,) = torch.autograd.grad(loss, output)
            assert loss.isfinite() and gradient.isfinite().all()


def test_bounded_form_is_bounded_and_printed_form_is_not():
    label = torch.tensor([1])
    values = [torch.tensor([z]) for z in (10.0, 0.0, -10.0, -1e3, -1e6)]
    bounded = [float(contrast_loss(z, label)) for z in values]
    printed = [float(contrast_loss(z, label, "printed")) for z in values]
    assert all(v >= 0 for v in bounded)
    assert bounded[-1] == 0
    assert printed[-1] == -1e6
    assert all(a > b for a, b in zip(printed, printed[1:], strict=False))


def test_descent_of_the_printed_form_never_ends_but_of_the_bounded_does():
    sizes = {}
    for form in ("bounded", "printed"):
        logit = torch.zeros(1, requires_grad=True)
        for _ in range(500):
            loss = contrast_loss(logit, torch.tensor([1]), form)
            (gradient,) = torch.autograd.grad(loss, logit)
            logit.data -= 1.0 * gradient
        sizes[form] = (abs(logit.item()), gradient.item())
    assert sizes["printed"][0] > 400 and sizes["printed"][1] > 0.99
    assert sizes["bounded"][0] < 10 and sizes["bounded"][1] < 0.01


def test_weighted_mean_counts_all_samples():
    output, label = random_logits(4, 2), torch.tensor([0, 1, 1, 0])
    weight = torch.tensor([1.0, 0.0, 0.0, 1.0])
    each = -log_prob_not_y(output, label)
    assert torch.allclose(contrast_loss(output, label, weight=weight), (each[0] + each[3]) / 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    output, label = random_logits(8, 3, scale=8).to(dtype), torch.arange(8) % 3
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrast_loss(output, label)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, contrast_loss(output.double(), label).float())


@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (2, 1, 3, 4, 5), (2, 1, 7)])
def test_sparsity(shape):
    saliency = random_logits(*shape)
    sums = [sum(abs(v) for v in s.flatten().tolist()) for s in saliency]
    assert float(sparsity_loss(saliency)) == pytest.approx(sum(sums) / len(sums))
    per_element = sum(sums) / saliency.numel()
    assert float(sparsity_loss(saliency, per="element")) == pytest.approx(per_element)
    assert torch.autograd.gradcheck(sparsity_loss, saliency.requires_grad_())


def test_sparsity_in_half_precision_does_not_overflow():
    saliency = torch.ones(1, 1, 400, 400, dtype=torch.float16)
    assert float(sparsity_loss(saliency)) == 160000


def test_one_class_and_batch_of_one():
    for label in (torch.tensor([1, 1]), torch.tensor([0])):
        output = torch.zeros(len(label), 2)
        assert float(contrast_loss(output, label)) == pytest.approx(math.log(2))


def test_wrong_arguments():
    output, label = torch.zeros(2, 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="form='hinge' is unknown: use one of bounded, printed"):
        contrast_loss(output, label, "hinge")
    with pytest.raises(ValueError, match="sample weights have shape"):
        contrast_loss(output, label, weight=torch.ones(3))
    with pytest.raises(ValueError, match="for 2 samples"):
        adversarial_loss(output, torch.tensor([0]))
    with pytest.raises(ValueError, match="per='pixel' is unknown"):
        sparsity_loss(torch.ones(1, 1, 2), per="pixel")
