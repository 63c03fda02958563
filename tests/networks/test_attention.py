import math

import pytest
import torch

from ppi_med.networks import SliceAttention


def scores(n=4, s=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, s, generator=generator, dtype=torch.float64)


def attention(**options):
    return SliceAttention(**options).double()


def test_power_form_equals_its_definition():
    a = scores()
    net = attention(tau=0.3, delta=0.7)
    expected = torch.empty_like(a)
    for n in range(len(a)):
        powers = [(max(float(x), 0.0) + net.delta) ** (1 / 0.3) for x in a[n]]
        expected[n] = torch.tensor([p / sum(powers) for p in powers])
    torch.testing.assert_close(net(a).exp(), expected, rtol=1e-6, atol=0)


def test_softmax_form_equals_equation_12():
    a = scores()
    net = attention(form="softmax", tau=0.3, delta=0.7)
    expected = torch.softmax((a.clamp_min(0) + net.delta) / 0.3, dim=1)
    torch.testing.assert_close(net(a).exp(), expected, rtol=1e-12, atol=0)


def test_delta_cancels_as_printed():
    """Equation 12: no effect on the weights and no gradient, whatever delta is."""
    a = scores()
    weights = [attention(form="softmax", delta=delta)(a).exp() for delta in (0.01, 1.0, 50.0)]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(weights[0], weights[2], rtol=1e-12, atol=0)
    net = attention(form="softmax", delta=1.0)
    (gradient,) = torch.autograd.grad((net(a).exp() * scores(seed=1)).sum(), net.log_delta)
    assert abs(gradient) < 1e-14


def test_delta_has_effect_and_gradient_in_the_power_form():
    a = scores()
    net = attention(delta=1.0)
    (gradient,) = torch.autograd.grad((net(a).exp() * scores(seed=1)).sum(), net.log_delta)
    assert abs(gradient) > 1e-3


def test_weights_are_nearly_equal_at_high_delta_and_sharpen():
    a = scores()
    net = attention(tau=0.2, delta=1000.0)
    largest = []
    for factor in (1.0, 0.1, 1e-2, 1e-3, 1e-4, 0.0):
        net.attenuate(factor)
        largest.append(net(a).exp().max(1).values.mean().item())
    assert largest[0] == pytest.approx(0.1, rel=0.02)
    assert all(after > before for before, after in zip(largest, largest[1:], strict=False))
    assert largest[-1] > 0.7


@pytest.mark.parametrize("form", ["power", "softmax"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_where_no_score_is_positive(form, dtype):
    net = SliceAttention(form=form, tau=0.01).to(dtype)
    net.attenuate(0.0)
    a = torch.tensor([[-1.0, -2.0, 0.0], [-1.0, 1e4, 5.0]], dtype=dtype, requires_grad=True)
    log_weights = net(a)
    assert log_weights.isfinite().all()
    torch.testing.assert_close(log_weights[0].exp(), torch.full((3,), 1 / 3, dtype=dtype))
    gradients = torch.autograd.grad(log_weights[:, 0].sum(), (a, net.log_delta))
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("form", ["power", "softmax"])
def test_order_of_slices_does_not_matter(form):
    a = scores()
    order = torch.tensor([3, 1, 0, 2, 9, 8, 7, 6, 5, 4])
    net = attention(form=form)
    torch.testing.assert_close(net(a[:, order]), net(a)[:, order], rtol=1e-12, atol=0)


def test_gradcheck():
    a = scores(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(attention(tau=0.5, delta=0.5), (a,))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("exponential", [1.0, 0.1, 0.01, 0.01]),
        ("linear", [1.0, 0.505, 0.01, 0.01]),
        ("constant", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_schedule(schedule, expected):
    net = SliceAttention(delta=5.0, schedule=schedule, epochs=4, final=0.01)
    for epoch, factor in zip((0, 2, 4, 9), expected, strict=True):
        net.set_epoch(epoch)
        assert net.delta == pytest.approx(5.0 * factor, rel=1e-5)


def test_attenuation_is_saved_with_the_network_and_trained_delta_is_kept_apart():
    net = SliceAttention(delta=5.0)
    net.attenuate(0.25)
    other = SliceAttention(delta=1.0)
    other.load_state_dict(net.state_dict())
    assert other.delta == pytest.approx(1.25)
    assert other.log_delta.item() == pytest.approx(math.log(5.0))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"form": "sum"}, "attention"),
        ({"schedule": "cosine"}, "delta_schedule"),
        ({"tau": 0.0}, "tau"),
        ({"delta": -1.0}, "delta"),
        ({"delta": float("nan")}, "delta"),
        ({"floor": 0.0}, "delta_floor"),
        ({"final": 0.0}, "delta_final"),
        ({"epochs": 0}, "delta_epochs"),
    ],
)
def test_bad_arguments_are_named(options, name):
    with pytest.raises(ValueError, match=f"^{name} is "):
        SliceAttention(**options)


def test_bad_attenuation():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        SliceAttention().attenuate(1.5)
