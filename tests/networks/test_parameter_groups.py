import pytest
import torch
from torch import nn

from ppi_med.networks import MultiViewClassifier, ga_parameter_groups


def network():
    torch.manual_seed(0)
    return MultiViewClassifier(backbone_options={"widths": (2, 3)})


def test_groups_are_the_cnn_and_everything_else():
    net = network()
    cnn, rest = ga_parameter_groups(net)
    assert (cnn["name"], cnn["lr"], rest["name"], rest["lr"]) == ("cnn", 5e-5, "rest", 5e-3)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert all(names[id(p)].startswith("backbone.") for p in cnn["params"])
    assert {names[id(p)].split(".")[0] for p in rest["params"]} == {
        "slice_head",
        "position_embedding",
        "attention_head",
        "attention",
    }
    together = [id(p) for group in (cnn, rest) for p in group["params"]]
    assert sorted(together) == sorted(names)


def test_each_group_learns_at_its_rate():
    """A step of plain gradient descent moves each parameter by its group's rate."""
    net = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(ga_parameter_groups(net, cnn_lr=0.25, rest_lr=0.5))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, parameter in net.named_parameters():
        step = 0.25 if name.startswith("backbone.") else 0.5
        torch.testing.assert_close(before[name] - parameter, torch.full_like(parameter, step))


def test_frozen_parameters_are_left_out():
    net = network()
    net.backbone.requires_grad_(False)
    (only,) = ga_parameter_groups(net)
    assert only["name"] == "rest"
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter with requires_grad"):
        ga_parameter_groups(net)


def test_options_reach_both_groups():
    optimizer = torch.optim.Adam(ga_parameter_groups(network(), weight_decay=0.1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1]


def test_wrapped_for_parallel_training():
    net = network()
    wrapped = ga_parameter_groups(nn.DataParallel(net))
    assert [len(group["params"]) for group in wrapped] == [
        len(group["params"]) for group in ga_parameter_groups(net)
    ]


def test_network_without_a_cnn():
    with pytest.raises(ValueError, match="Linear has no module 'backbone'"):
        ga_parameter_groups(nn.Linear(1, 1))
