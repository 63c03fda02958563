import pytest
import torch
from torch.overrides import TorchFunctionMode, has_torch_function

from ppi_med.networks import mixture_logit


def random_terms(n=5, s=7, scale=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, s, generator=generator, dtype=torch.float64) * scale
    log_w = torch.randn(n, s, generator=generator, dtype=torch.float64).log_softmax(-1)
    return z, log_w


def test_equals_the_plain_formula_where_that_is_safe():
    z, log_w = random_terms()
    p = (log_w.exp() * z.sigmoid()).sum(-1)
    torch.testing.assert_close(mixture_logit(z, log_w), (p / (1 - p)).log(), rtol=1e-10, atol=0)


def test_equal_slices_give_their_own_logit():
    _, log_w = random_terms()
    z = torch.linspace(-600, 600, 5, dtype=torch.float64)[:, None].expand(5, 7)
    torch.testing.assert_close(mixture_logit(z, log_w), z[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_finite_with_finite_gradients_in_extreme_ranges(dtype, size):
    z = torch.tensor([[size, -size, 0.0], [size] * 3, [-size] * 3], dtype=dtype)
    log_w = torch.tensor([[-1e4, 0.0, -50.0]], dtype=dtype).log_softmax(-1).repeat(3, 1)
    z.requires_grad_()
    log_w.requires_grad_()
    logit = mixture_logit(z, log_w)
    assert logit.isfinite().all()
    for gradient in torch.autograd.grad(logit.sum(), (z, log_w)):
        assert gradient.isfinite().all()


def test_logit_that_a_probability_cannot_hold():
    """sigmoid(40) is 1 in float32, and its logit infinite; the log-space form keeps 40."""
    z = torch.full((1, 4), 40.0)
    log_w = torch.full((1, 4), 0.25).log()
    assert (log_w.exp() * z.sigmoid()).sum() == 1
    assert mixture_logit(z, log_w).item() == pytest.approx(40.0, rel=1e-6)


def test_gradient_and_second_gradient():
    z, log_w = random_terms(2, 3)
    z.requires_grad_()
    log_w.requires_grad_()
    assert torch.autograd.gradcheck(mixture_logit, (z, log_w))
    assert torch.autograd.gradgradcheck(mixture_logit, (z, log_w))


def test_bare_mode_makes_plain_tensors_overridable():
    """What the override rests on in torch itself."""

    class Bare(TorchFunctionMode):
        pass

    plain = torch.ones(2)
    assert not has_torch_function((plain,))
    with Bare():
        assert has_torch_function((plain,))
    assert not has_torch_function((plain,))


class Surrogate(TorchFunctionMode):
    """The value of each function; the gradient of its surrogate where it has one."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        value = func(*args, **(kwargs or {}))
        surrogate = getattr(func, "saliency_surrogate", None)
        if surrogate is None:
            return value
        self.seen.append(func)
        # To a map the weights are gates: the engine's rule of products, here in one line.
        replaced = surrogate(args[0], args[1].detach())
        return value.detach() + replaced - replaced.detach()


def test_mode_sees_the_function_whole_and_its_surrogate_gates_the_logits():
    z, log_w = random_terms()
    z.requires_grad_()
    log_w.requires_grad_()
    with Surrogate() as mode:
        logit = mixture_logit(z, log_w)
    assert mode.seen == [mixture_logit]
    torch.testing.assert_close(logit, mixture_logit(z, log_w), rtol=1e-14, atol=1e-14)
    by_z, by_w = torch.autograd.grad(logit.sum(), (z, log_w), allow_unused=True)
    torch.testing.assert_close(by_z, log_w.exp(), rtol=1e-14, atol=0)
    assert by_w is None
    torch.testing.assert_close(
        mixture_logit.saliency_surrogate(z, log_w), (log_w.exp() * z).sum(-1)
    )


def test_tensor_subclass_passes_through():
    from monai.data import MetaTensor

    z, log_w = random_terms()
    logit = mixture_logit(MetaTensor(z), log_w)
    assert isinstance(logit, MetaTensor)
    assert torch.equal(logit.as_tensor(), mixture_logit(z, log_w))


def test_scripts():
    z, log_w = random_terms()
    assert torch.equal(torch.jit.script(mixture_logit)(z, log_w), mixture_logit(z, log_w))
