"""The ways in which a trained network leaves Python: TorchScript, torch.export, pickling."""

import io

import pytest
import torch

from ppi_med.networks import MultiViewClassifier


@pytest.fixture
def net():
    torch.manual_seed(0)
    return MultiViewClassifier().eval()


@pytest.fixture
def volume():
    return torch.randn(2, 1, 20, 32, 32, generator=torch.Generator().manual_seed(1))


def test_monai_converts_the_default_network(net, volume, tmp_path):
    """What `monai.bundle ckpt_export` calls first."""
    from monai.networks.utils import convert_to_torchscript

    file = tmp_path / "network.ts"
    convert_to_torchscript(
        net, str(file), verify=True, inputs=[volume], device=torch.device("cpu"), rtol=1e-5
    )
    loaded = torch.jit.load(str(file))
    shorter = volume[:, :, :7]
    positions = torch.arange(40, 47).repeat(2, 1)
    torch.testing.assert_close(loaded(shorter, positions), net(shorter, positions))


def test_script_explains_too(net, volume):
    scripted = torch.jit.script(net)
    for part, expected in zip(scripted.explain(volume), net.explain(volume), strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "monai:DenseNet121"])
def test_other_backbones_script(name, volume):
    torch.manual_seed(0)
    net = MultiViewClassifier(name).eval()
    torch.testing.assert_close(torch.jit.script(net)(volume), net(volume), rtol=1e-4, atol=1e-5)


def test_trace(net, volume):
    from monai.networks.utils import convert_to_torchscript

    traced = convert_to_torchscript(net, use_trace=True, inputs=[volume])
    torch.testing.assert_close(traced(volume * 2), net(volume * 2))


def test_torch_export(net, volume):
    """The format in which MLflow saves models; any number of volumes and slices."""
    batch, slices = torch.export.Dim("batch"), torch.export.Dim("slices")
    program = torch.export.export(net, (volume,), dynamic_shapes=({0: batch, 2: slices},))
    more = torch.cat([volume, volume + 1, volume])[:, :, :9]
    torch.testing.assert_close(program.module()(more), net(more))


def test_pickle(net, volume):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(volume), net(volume))


def test_json_configuration_builds_it(volume):
    from monai.bundle import ConfigParser

    parser = ConfigParser(
        {
            "network_def": {
                "_target_": "ppi_med.networks.MultiViewClassifier",
                "backbone": "small_cnn",
                "backbone_options": {"widths": [8, 16], "downsampling": "stride"},
                "chunk_size": 4,
            },
            "params": {
                "_target_": "ppi_med.networks.ga_parameter_groups",
                "network": "@network_def",
            },
            "optimizer": {"_target_": "torch.optim.Adam", "params": "@params"},
            "scheduler": {
                "_target_": "ppi_med.training.schedules.step_schedule",
                "optimizer": "@optimizer",
                "step_size": 10,
                "gamma": [0.5, 0.2],
            },
            "schedule": {
                "_target_": "ppi_med.handlers.attention_schedule.AttentionSchedule",
                "network": "@network_def",
            },
        }
    )
    net = parser.get_parsed_content("network_def")
    assert net(volume).shape == (2, 1)
    assert parser.get_parsed_content("scheduler").get_last_lr() == [5e-5, 5e-3]
    assert parser.get_parsed_content("schedule") is not None
    optimizer = parser.get_parsed_content("optimizer")
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(net.parameters())
    )
