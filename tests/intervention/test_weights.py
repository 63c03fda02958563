from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import (
    BalancedWeight,
    ConstantWeight,
    StepWeight,
    WarmUpWeight,
    make_weight,
)


def at(weight, epoch=1, iteration=1, term=1.0, reference=1.0):
    return float(weight(epoch, iteration, torch.tensor(term), torch.tensor(reference)))


def test_constant_and_numbers():
    assert at(make_weight(0.3)) == 0.3
    assert make_weight(0).off and not make_weight(0.1).off
    weight = StepWeight(2.0)
    assert make_weight(weight) is weight


def test_step_is_after_epoch_20():
    weight = StepWeight(0.02)
    assert [at(weight, e) for e in (1, 20, 21, 50)] == pytest.approx([0.02, 0.02, 2.0, 2.0])
    assert [at(StepWeight(1.0, 0.1, 3), e) for e in (3, 4)] == pytest.approx([1.0, 0.1])


def test_warm_up():
    epochs = WarmUpWeight(2.0, 5)
    assert [at(epochs, e) for e in (1, 2, 6, 7)] == pytest.approx([0.0, 0.4, 2.0, 2.0])
    steps = WarmUpWeight(1.0, 10, "iteration", start=0.5)
    assert [at(steps, 1, i) for i in (1, 6, 11, 99)] == pytest.approx([0.5, 0.75, 1.0, 1.0])
    assert WarmUpWeight(0.0, 5).off and not epochs.off


def test_nesting():
    weight = WarmUpWeight(StepWeight(1.0, 10.0, 2), 4)
    assert [at(weight, e) for e in (1, 2, 3, 5)] == pytest.approx([0.0, 0.25, 5.0, 10.0])


def test_balanced_equals_slow_oracle():
    weight = BalancedWeight(ratio=0.2, momentum=0.7, maximum=100.0)
    terms, references = [4.0, -2.0, 1.0, 0.5], [0.8, 0.7, 0.5, 0.9]
    running_term = running_reference = None
    for term, reference in zip(terms, references, strict=True):
        if running_term is None:
            running_term, running_reference = abs(term), reference
        else:
            running_term = 0.7 * running_term + 0.3 * abs(term)
            running_reference = 0.7 * running_reference + 0.3 * reference
        got = at(weight, 1, 1, term, reference)
        assert got == pytest.approx(0.2 * running_reference / running_term, rel=1e-5)


def test_balanced_term_has_the_wanted_share():
    weight = BalancedWeight(ratio=0.1, maximum=10.0)
    for scale in (1e-1, 1.0, 1e3):
        weight.running = None
        assert at(weight, term=scale, reference=0.6) * scale == pytest.approx(0.06, rel=1e-5)


def test_balanced_is_clipped_and_survives_zero():
    weight = BalancedWeight(ratio=1.0, minimum=0.05, maximum=0.5)
    assert at(weight, term=0.0) == pytest.approx(0.5)
    weight.running = None
    assert at(weight, term=1e6) == pytest.approx(0.05)


def test_balanced_does_not_take_in_what_is_not_finite():
    weight = BalancedWeight(momentum=0.5)
    first = at(weight, term=2.0)
    assert at(weight, term=float("nan"), reference=float("inf")) == first
    weight = BalancedWeight(ratio=0.5, momentum=0.5)
    at(weight, term=float("inf"))
    assert at(weight, term=2.0) == pytest.approx(0.25)


def test_balanced_has_no_gradient():
    term = torch.tensor(2.0, requires_grad=True)
    weight = BalancedWeight()(1, 1, term, torch.tensor(1.0, requires_grad=True))
    assert not weight.requires_grad


def test_resume_is_bitwise_through_a_file(tmp_path):
    def run(weight, steps):
        generator = torch.Generator().manual_seed(0)
        values = torch.rand(20, 2, generator=generator)
        return [weight(1, i, *values[i]) for i in steps]

    whole = run(WarmUpWeight(StepWeight(BalancedWeight()), 3, "iteration"), range(20))
    first, second = (WarmUpWeight(StepWeight(BalancedWeight()), 3, "iteration") for _ in range(2))
    run(first, range(9))
    torch.save(first.state_dict(), tmp_path / "weight.pt")
    second.load_state_dict(torch.load(tmp_path / "weight.pt", weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(run(second, range(9, 20)), whole[9:], strict=True))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: ConstantWeight(-1), "value is -1"),
        (lambda: make_weight(float("nan")), "value is nan"),
        (lambda: WarmUpWeight(1.0, 0), "length is 0"),
        (lambda: WarmUpWeight(1.0, 5, "step"), "unit='step' is unknown"),
        (lambda: BalancedWeight(momentum=1.0), "momentum is 1.0"),
        (lambda: BalancedWeight(minimum=2.0), "above maximum"),
        (lambda: BalancedWeight()(1, 1), "needs the values"),
    ],
)
def test_wrong_arguments(make, part):
    with pytest.raises(ValueError, match=part):
        make()
