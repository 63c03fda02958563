import copy

import pytest
import torch
from torch import nn

from ppi_med.networks import MultiViewClassifier, mixture_logit, relative_positions

from .test_mixture import Surrogate


def network(seed=0, **options):
    torch.manual_seed(seed)
    options = {"backbone_options": {"widths": (4, 6)}, **options}
    net = MultiViewClassifier(**options).double()
    for module in net.modules():  # running statistics unlike those of a fresh batch norm
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net.eval()


def volume(n=2, s=7, size=16, seed=1):
    return torch.randn(
        n, 1, s, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def sampled_positions(n=2, s=7, seed=2):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(100, generator=generator)[:s].sort().values + 1 for _ in range(n)]
    return torch.stack(rows)


def slow_logit(net, image, positions):
    """Appendix E.2 slice by slice, with plain numbers for the weights and the mean."""
    result = []
    for sample, places in zip(image, positions, strict=True):
        p, powers = [], []
        for index, place in enumerate(places.tolist()):
            f = net.backbone(sample[:, index].unsqueeze(0))[0]
            e = net.position_embedding.weight[place - 1]
            p.append(torch.sigmoid(net.slice_head.weight[0] @ f + net.slice_head.bias[0]))
            a = net.attention_head.weight[0] @ torch.cat([f, e]) + net.attention_head.bias[0]
            base = torch.relu(a) + net.attention.log_delta.exp() * net.attention.attenuation
            if net.attention.form == "power":
                powers.append(base ** (1 / net.attention.tau))
            else:
                powers.append(torch.exp(base / net.attention.tau))
        mean = sum(w * q for w, q in zip(powers, p, strict=True)) / sum(powers)
        result.append(torch.log(mean / (1 - mean)))
    return torch.stack(result).unsqueeze(1)


@pytest.mark.parametrize("form", ["power", "softmax"])
@pytest.mark.parametrize("factor", [1.0, 0.05])
def test_forward_equals_slow_oracle(form, factor):
    net = network(attention=form)
    net.attenuate(factor)
    image, positions = volume(), sampled_positions()
    logit = net(image, positions)
    assert logit.shape == (2, 1)
    torch.testing.assert_close(logit, slow_logit(net, image, positions), rtol=1e-10, atol=1e-12)


def test_explain_gives_the_parts_of_the_logit():
    net = network()
    image, positions = volume(), sampled_positions()
    output = net.explain(image, positions)
    assert torch.equal(output.logit, net(image, positions))
    torch.testing.assert_close(output.slice_weights.sum(1), torch.ones(2, dtype=torch.float64))
    p = (output.slice_weights * output.slice_logits.sigmoid()).sum(1, keepdim=True)
    torch.testing.assert_close(output.logit.sigmoid(), p, rtol=1e-12, atol=0)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 14, 100])
def test_chunk_size_does_not_change_the_result(chunk_size):
    net, image, positions = network(chunk_size=0), volume(), sampled_positions()
    whole = net.explain(image, positions)
    net.chunk_size = chunk_size
    for part, expected in zip(net.explain(image, positions), whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)


def test_chunks_carry_the_gradient():
    net, positions = network(chunk_size=0), sampled_positions()
    gradients = []
    for chunk_size in (0, 3):
        net.chunk_size = chunk_size
        image = volume().requires_grad_()
        parameters = list(net.parameters())
        logit = net(image, positions)
        gradients.append(torch.autograd.grad(logit.sum(), [image, *parameters]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_training_is_never_chunked():
    """Batch statistics are those of all slices together."""
    sizes = []
    net = network(chunk_size=3)
    net.backbone.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    net.train()(volume())
    net.eval()(volume())
    assert sizes == [14, 3, 3, 3, 3, 2]


def test_slices_can_come_in_any_order_with_their_ids():
    net, image, positions = network(), volume(), sampled_positions()
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    torch.testing.assert_close(
        net(image[:, :, order], positions[:, order]), net(image, positions), rtol=1e-12, atol=0
    )
    weights = net.explain(image, positions).slice_weights
    shuffled = net.explain(image[:, :, order], positions[:, order]).slice_weights
    torch.testing.assert_close(shuffled, weights[:, order], rtol=1e-12, atol=0)


def test_positions_matter_and_samples_do_not_mix():
    net, image, positions = network(), volume(), sampled_positions()
    both = net(image, positions)
    assert not torch.allclose(both, net(image, 101 - positions))
    for index in range(2):
        alone = net(image[index : index + 1], positions[index : index + 1])
        torch.testing.assert_close(alone, both[index : index + 1], rtol=1e-12, atol=0)


@pytest.mark.parametrize("slices", [1, 5, 100, 103])
def test_no_positions_means_the_whole_volume(slices):
    net, image = network(), volume(1, slices, 8)
    expected = net(image, relative_positions(slices).unsqueeze(0))
    assert torch.equal(net(image), expected)


def test_gradcheck_in_training_mode():
    net = network(backbone_options={"widths": (2,)}).train()
    image = volume(2, 3, 4).requires_grad_()
    positions = sampled_positions(2, 3)
    names = ["slice_head.weight", "attention_head.weight", "attention.log_delta"]
    parameters = [net.get_parameter(name) for name in names]

    def function(image, *values):
        buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
        state = {**dict(zip(names, values, strict=True)), **buffers}
        return torch.func.functional_call(net, state, (image, positions))

    assert torch.autograd.gradcheck(function, (image, *parameters))


def test_every_parameter_learns_in_the_power_form():
    net = network().train()
    loss = nn.functional.binary_cross_entropy_with_logits(
        net(volume(), sampled_positions())[:, 0], torch.tensor([0.0, 1.0], dtype=torch.float64)
    )
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("seed", range(5))
def test_attention_can_learn_from_every_start(seed):
    """Scores start on the side of ReLU that has a gradient."""
    net = network(seed)
    image = volume(4, 10, 16, seed).requires_grad_()
    weights = net.explain(image).slice_weights
    (gradient,) = torch.autograd.grad(weights[:, 0].sum(), net.attention_head.weight)
    assert gradient.abs().max() > 0


def test_state_dict_round_trip():
    net, image = network(0), volume()
    net.attenuate(0.3)
    other = network(1)
    assert not torch.equal(net(image), other(image))
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    assert torch.equal(net(image), other(image))


def test_map_explains_the_gated_sum_of_slice_logits():
    """Under a mode that takes the surrogate, the gradient is sum_i w_i dz_i/dx, w constant."""
    net, positions = network(chunk_size=3), sampled_positions()
    image = volume().requires_grad_()
    with Surrogate() as mode:
        logit = net(image, positions)
    assert mode.seen == [mixture_logit]
    torch.testing.assert_close(logit, net(image, positions), rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(logit.sum(), image)
    output = net.explain(image, positions)
    gated = (output.slice_weights.detach() * output.slice_logits).sum()
    (expected,) = torch.autograd.grad(gated, image)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


def test_map_of_a_volume_is_that_of_its_slices_times_their_weights():
    net, positions = network(), sampled_positions()
    image = volume().requires_grad_()
    with Surrogate():
        logit = net(image, positions)
    (whole,) = torch.autograd.grad(logit.sum(), image)
    weights = net.explain(image, positions).slice_weights.detach()
    single = net.slice_classifier()
    for n in range(2):
        for s in range(7):
            view = image[n, :, s].detach().unsqueeze(0).requires_grad_()
            (gradient,) = torch.autograd.grad(single(view).sum(), view)
            torch.testing.assert_close(gradient[0] * weights[n, s], whole[n, :, s])


def test_slice_classifier_shares_parameters_and_leaves_modes():
    net = network().train()
    net.backbone.eval()
    single = net.slice_classifier()
    assert not single.training and net.training
    assert {id(p) for p in single.parameters()} <= {id(p) for p in net.parameters()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_weighs_in_float32(dtype):
    net = network().float()
    image = volume().float()
    with torch.autocast("cpu", dtype=dtype):
        output = net.explain(image)
    assert {part.dtype for part in output} == {torch.float32}
    torch.testing.assert_close(output.logit, net(image), rtol=0.05, atol=0.05)


def test_meta_tensor_volume():
    from monai.data import MetaTensor

    net, image = network(), volume()
    logit = net(MetaTensor(image), MetaTensor(sampled_positions()))
    assert torch.equal(torch.as_tensor(logit), net(image, sampled_positions()))


def test_several_channels_and_own_backbone():
    class Mean(nn.Module):
        num_features = 3

        def forward(self, image):
            return image.mean((2, 3))

    net = MultiViewClassifier(Mean())
    assert net(torch.randn(2, 3, 4, 8, 8)).shape == (2, 1)
    net = MultiViewClassifier(in_channels=2)
    assert net(torch.randn(2, 2, 4, 16, 16)).shape == (2, 1)


def test_wrong_shapes_and_ids_are_named():
    net, image = network(), volume()
    with pytest.raises(ValueError, match=r"\(2, 7, 16, 16\), expected volumes \(N, C, S, H, W\)"):
        net(image[:, 0])
    with pytest.raises(ValueError, match=r"expected one integer id per slice, \(2, 7\)"):
        net(image, sampled_positions(2, 6))
    with pytest.raises(ValueError, match="integer"):
        net(image, sampled_positions().double())
    with pytest.raises(ValueError, match=r"positions go from 0 to 6, expected ids in 1 to 100"):
        net(image, torch.arange(7).repeat(2, 1))
    with pytest.raises(ValueError, match="from 95 to 101"):
        net(image, torch.arange(95, 102).repeat(2, 1))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="chunk_size is -1"):
        MultiViewClassifier(chunk_size=-1)
    with pytest.raises(ValueError, match="num_positions is 0"):
        MultiViewClassifier(num_positions=0)
    with pytest.raises(ValueError, match="no attribute num_features"):
        MultiViewClassifier(nn.Identity())
    with pytest.raises(ValueError, match="for a backbone given by name"):
        MultiViewClassifier(nn.Identity(), weights="file.pt")
