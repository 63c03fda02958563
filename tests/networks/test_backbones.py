import subprocess
import sys

import pytest
import torch
from torch import nn

from ppi_med.networks import (
    AdaptedNetwork,
    Backbone,
    EfficientNetLite0,
    SmallCNN,
    create_backbone,
    create_classifier,
)

# name, image size, features, further arguments
FAST = [
    ("small_cnn", 32, 64, {}),
    ("efficientnet_lite0", 33, 1280, {}),
    ("resnet18", 32, 512, {}),
    ("torchvision:resnet18", 32, 512, {}),
    ("squeezenet1_1", 32, 512, {}),
    ("mobilenet_v3_small", 32, 1024, {}),
    ("efficientnet_b0", 32, 1280, {}),
    ("monai:EfficientNetBN", 32, 1280, {}),
    ("monai:resnet18", 32, 512, {}),
    ("monai:ViT", 32, 768, {"img_size": 32, "num_layers": 1}),
]
SLOW = [
    ("vit_b_16", 32, 768, {"image_size": 32}),
    ("inception_v3", 75, 2048, {}),
    ("googlenet", 64, 1024, {}),
    ("vgg11", 32, 4096, {}),
    ("alexnet", 64, 4096, {}),
    ("densenet121", 32, 1024, {}),
    ("convnext_tiny", 32, 768, {}),
    ("swin_t", 32, 768, {}),
    ("mobilenet_v2", 32, 1280, {}),
    ("shufflenet_v2_x0_5", 32, 1024, {}),
    ("mnasnet0_5", 32, 1280, {}),
    ("regnet_y_400mf", 32, 440, {}),
    ("maxvit_t", 224, 512, {}),
    ("monai:DenseNet121", 32, 1024, {}),
    ("monai:SEResNet50", 32, 2048, {}),
    ("monai:SEResNext50", 32, 2048, {}),
    ("monai:SENet154", 32, 2048, {}),
    ("monai:ViT", 32, 768, {"img_size": 32}),
]
CASES = [pytest.param(*case, id=case[0]) for case in FAST] + [
    pytest.param(*case, id=f"{case[0]}-slow", marks=pytest.mark.slow) for case in SLOW
]


def image(channels=1, size=32, n=2, spatial_dims=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, *[size] * spatial_dims, generator=generator)


@pytest.mark.parametrize(("name", "size", "features", "options"), CASES)
def test_backbone_and_classifier_by_name(name, size, features, options):
    torch.manual_seed(0)
    backbone = create_backbone(name, **options)
    assert isinstance(backbone, Backbone) and backbone.training
    assert backbone.num_features == features
    output = backbone(image(size=size))
    assert output.shape == (2, features)
    (output * torch.randn_like(output)).sum().backward()  # a plain sum is constant after LayerNorm
    first = next(p for p in backbone.parameters() if p.ndim == 4)
    assert first.grad is not None and first.grad.abs().max() > 0
    assert create_classifier(name, 3, **options)(image(size=size)).shape == (2, 3)


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "monai:resnet18", "squeezenet1_1"])
def test_features_are_the_input_of_the_last_layer(name):
    """The classifier's logits are its last layer on the backbone's features."""
    torch.manual_seed(0)
    classifier = create_classifier(name, 4).eval()
    network = classifier.body if isinstance(classifier, AdaptedNetwork) else classifier
    kind = nn.Conv2d if name == "squeezenet1_1" else nn.Linear
    head = [module for module in network.modules() if isinstance(module, kind)][-1]
    seen = []
    head.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    backbone = create_backbone(name).eval()
    state = classifier.state_dict()
    if not isinstance(classifier, AdaptedNetwork):
        state = {f"body.{k}": v for k, v in state.items()}
    missing, _ = backbone.load_state_dict(state, strict=False)
    assert not missing
    classifier(image(size=64))
    expected = seen[0]
    if expected.ndim == 4:
        expected = expected.mean((2, 3))
    torch.testing.assert_close(backbone(image(size=64)), expected)


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_small_cnn_in_all_dimensions(spatial_dims):
    backbone = create_backbone("small_cnn", spatial_dims=spatial_dims, widths=(4, 8))
    assert backbone(image(size=8, spatial_dims=spatial_dims)).shape == (2, 8)


@pytest.mark.parametrize("downsampling", ["max", "stride"])
def test_small_cnn_is_what_it_says(downsampling):
    net = SmallCNN(2, widths=(4, 8, 16), downsampling=downsampling).eval()
    kinds = [type(m).__name__ for m in net.features.modules() if not list(m.children())]
    stage = ["Conv2d", "BatchNorm2d", "ReLU"] + ["MaxPool2d"] * (downsampling == "max")
    assert kinds == stage * 3
    assert net.features(image(size=32)).shape == (2, 16, 4, 4)


def test_small_cnn_names_bad_arguments():
    with pytest.raises(ValueError, match="spatial_dims is 4"):
        SmallCNN(2, spatial_dims=4)
    with pytest.raises(ValueError, match=r"widths is \(\)"):
        SmallCNN(2, widths=())
    with pytest.raises(ValueError, match="downsampling is 'mean'"):
        SmallCNN(2, downsampling="mean")
    with pytest.raises(ValueError, match="kernel_size is 4"):
        SmallCNN(2, kernel_size=4)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_monai_in_two_and_three_dimensions(spatial_dims):
    backbone = create_backbone("monai:resnet10", spatial_dims=spatial_dims, in_channels=2)
    assert backbone(image(2, 32, spatial_dims=spatial_dims)).shape == (2, 512)


def test_repeating_the_channel_and_summing_the_weights_agree():
    outputs = []
    for mode in ("repeat", "sum"):
        torch.manual_seed(0)
        outputs.append(create_backbone("resnet18", channel_mode=mode).eval()(image()))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


def test_colour_takes_the_network_as_it_is():
    from torchvision.models import ResNet

    network = create_classifier("resnet18", 2, in_channels=3)
    assert type(network) is ResNet
    assert network(image(3)).shape == (2, 2)


def test_other_channel_counts_start_the_first_layer_afresh():
    backbone = create_backbone("resnet18", in_channels=5, channel_mode="new")
    assert backbone(image(5)).shape == (2, 512)
    assert backbone.body.conv1.weight.std() > 0
    with pytest.raises(ValueError, match=r"images of 5: take channel_mode 'new'"):
        create_backbone("resnet18", in_channels=5)
    with pytest.raises(ValueError, match="channel_mode is 'mean'"):
        create_backbone("resnet18", channel_mode="mean")


def test_inception_gives_one_tensor_unless_asked_otherwise():
    assert isinstance(create_classifier("googlenet", 2).train()(image(size=64)), torch.Tensor)
    network = create_classifier("googlenet", 2, aux_logits=True).train()
    assert network(image(size=64)).logits.shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet81", r"no network 'resnet81': did you mean .*resnet18"),
        ("small-cnn", "did you mean small_cnn"),
        ("monai:DenseNet12", "did you mean monai:DenseNet121"),
        ("monai:UNet", "no network 'monai:UNet'"),
        ("torchvision:fcn_resnet50", "no network 'fcn_resnet50'"),
    ],
)
def test_unknown_names_get_near_ones(name, match):
    with pytest.raises(ValueError, match=match):
        create_backbone(name)


def test_nothing_is_downloaded():
    with pytest.raises(ValueError, match="would download"):
        create_backbone("monai:EfficientNetBN", pretrained=True)


def test_dimensions_that_a_network_does_not_have():
    with pytest.raises(ValueError, match="'resnet18' takes two-dimensional images"):
        create_backbone("resnet18", spatial_dims=3)
    with pytest.raises(ValueError, match="'efficientnet_lite0' takes two-dimensional"):
        create_backbone("efficientnet_lite0", spatial_dims=3)


def test_missing_torchvision_names_the_extra(monkeypatch):
    monkeypatch.setattr("ppi_med.networks.architectures.ensure_torchvision", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'ppi_med\[torchvision\]'"):
        create_backbone("resnet18")
    assert create_backbone("small_cnn").num_features == 64


def test_importing_networks_loads_neither_torchvision_nor_monai():
    code = "import sys, ppi_med.networks; print({'torchvision', 'monai'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_efficientnet_lite0_pads_like_tensorflow():
    """Against padding by hand: output ceil(n / stride), the odd pixel right and below."""
    from ppi_med.networks.efficientnet_lite import SamePadConv2d

    for size, kernel, stride in [(32, 3, 2), (33, 3, 2), (8, 5, 2), (7, 5, 1), (9, 1, 1)]:
        conv = SamePadConv2d(1, 1, kernel, stride=stride, bias=False)
        output = conv(image(1, size))
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padded = torch.zeros(2, 1, size + total, size + total)
        start = total // 2
        padded[:, :, start : start + size, start : start + size] = image(1, size)
        expected = nn.functional.conv2d(padded, conv.weight, stride=stride)
        assert output.shape[-1] == -(-size // stride)
        torch.testing.assert_close(output, expected)


def test_efficientnet_lite0_size():
    assert sum(p.numel() for p in EfficientNetLite0(1000).parameters()) == 4_652_008


def test_head_is_not_mistaken():
    from ppi_med.networks.backbones import find_head

    with pytest.raises(ValueError, match=r"no last layer with 5 outputs \(found head with 2\)"):
        find_head(SmallCNN(2), 5)
    with pytest.raises(ValueError, match="found none"):
        find_head(nn.ReLU(), 5)
