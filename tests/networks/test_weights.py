from pathlib import Path

import pytest
import torch

from ppi_med.networks import SmallCNN, create_backbone, create_classifier
from ppi_med.networks.weights import read_state_dict


def image(channels=1, size=32, n=2, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def trained(num_classes=2, in_channels=1, seed=3, **options):
    torch.manual_seed(seed)
    return SmallCNN(num_classes, in_channels, **options).eval()


def saved(tmp_path: Path, content, name="weights.pt") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def test_classifier_with_its_own_head(tmp_path):
    net = trained()
    file = saved(tmp_path, net.state_dict())
    loaded = create_classifier("small_cnn", 2, weights=file, head="load").eval()
    assert torch.equal(loaded(image()), net(image()))


def test_classifier_with_a_new_head(tmp_path):
    net = trained(7)
    file = saved(tmp_path, net.state_dict())
    loaded = create_classifier("small_cnn", 2, weights=file)
    assert torch.equal(loaded.features[0][0].weight, net.features[0][0].weight)
    assert loaded(image()).shape == (2, 2)
    with pytest.raises(
        ValueError, match=r"2 of another shape: head.weight \(7, 64\) for \(2, 64\)"
    ):
        create_classifier("small_cnn", 2, weights=file, head="load")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {k: v for k, v in state.items() if not k.startswith("head.")},
        lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    ],
    ids=["plain", "checkpoint", "parallel", "features only", "without counters"],
)
def test_forms_of_files(tmp_path, wrap):
    net = trained()
    backbone = create_backbone("small_cnn", weights=saved(tmp_path, wrap(net.state_dict()))).eval()
    expected = net.pool(net.features(image())).flatten(1)
    assert torch.equal(backbone(image()), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_networks_own(tmp_path, dtype):
    net = trained()
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    loaded = create_classifier("small_cnn", 2, weights=saved(tmp_path, state), head="load").eval()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(image()), net(image()), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("mode", ["repeat", "sum"])
def test_colour_weights_take_grey_images(tmp_path, mode):
    net = trained(in_channels=3)
    file = saved(tmp_path, net.state_dict())
    grey = image()
    loaded = create_classifier("small_cnn", 2, weights=file, head="load", channel_mode=mode).eval()
    torch.testing.assert_close(loaded(grey), net(grey.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


def test_torchvisions_old_densenet_names(tmp_path):
    import re

    torch.manual_seed(0)
    net = create_classifier("densenet121", 2, in_channels=3)
    state = {
        re.sub(r"(denselayer\d+\.(norm|conv))(\d)", r"\1.\3", k): v
        for k, v in net.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    loaded = create_classifier(
        "densenet121", 2, in_channels=3, weights=saved(tmp_path, state), head="load"
    )
    assert torch.equal(loaded.eval()(image(3)), net.eval()(image(3)))


def test_auxiliary_heads_in_the_file_are_left_out(tmp_path):
    torch.manual_seed(0)
    net = create_classifier("googlenet", 2, in_channels=3, aux_logits=True).eval()
    file = saved(tmp_path, net.state_dict())
    loaded = create_classifier("googlenet", 2, in_channels=3, weights=file, head="load").eval()
    assert torch.equal(loaded(image(3)), net(image(3)))


def test_what_does_not_fit_is_named(tmp_path):
    state = trained().state_dict()
    state["other"] = state.pop("features.0.0.weight")
    file = saved(tmp_path, state, "wrong.pt")
    with pytest.raises(
        ValueError,
        match=r"wrong.pt do not fit SmallCNN: 1 missing: features.0.0.weight; "
        r"1 unexpected: other\. Choose",
    ):
        create_backbone("small_cnn", weights=file)


def test_long_lists_are_cut(tmp_path):
    file = saved(tmp_path, {f"name{i}": torch.zeros(1) for i in range(50)})
    with pytest.raises(
        ValueError, match=r"50 unexpected: name0, name1, name2, name3, name4, \.\.\.\."
    ):
        create_backbone("small_cnn", weights=file)


def test_files_that_are_no_state_dict(tmp_path):
    with pytest.raises(FileNotFoundError, match="never downloaded"):
        read_state_dict(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path)
    text = tmp_path / "text.pt"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"text.pt could not be read as weights"):
        read_state_dict(text)
    empty = tmp_path / "empty.pt"
    empty.touch()
    with pytest.raises(ValueError, match=r"empty.pt could not be read"):
        read_state_dict(empty)
    whole = saved(tmp_path, trained().state_dict(), "whole.pt").read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.pt could not be read"):
        read_state_dict(cut)
    with pytest.raises(ValueError, match="holds a dictionary of epoch, optimizer, expected"):
        read_state_dict(saved(tmp_path, {"epoch": 1, "optimizer": {}}))
    with pytest.raises(ValueError, match="holds list, expected"):
        read_state_dict(saved(tmp_path, [1, 2]))
    with pytest.raises(ValueError, match="could not be read as weights"):
        read_state_dict(saved(tmp_path, trained(), "module.pt"))


def test_values_that_overflowed(tmp_path):
    state = trained().state_dict()
    state["head.bias"] = (state["head.bias"] + 1e6).half()
    with pytest.raises(ValueError, match="not finite.*head.bias"):
        read_state_dict(saved(tmp_path, state))


def test_head_mode_is_checked():
    with pytest.raises(ValueError, match="head is 'old'"):
        create_classifier("small_cnn", 2, head="old")


# Files with ImageNet weights. How many photographs are classified rightly shows that architecture,
# names and values belong together, which matching shapes alone would not.


def photographs(root: Path):
    """The 120 photographs of the sample, centre 224 x 224, values 0..1, and their classes."""
    import csv

    import numpy as np
    from PIL import Image

    folder = root / "imagenet_sample"
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pixels = []
    for row in rows:
        photo = Image.open(folder / row["file"]).convert("RGB").crop((1, 1, 225, 225))
        pixels.append(torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255)
    return torch.stack(pixels), torch.tensor([int(row["class_index"]) for row in rows])


def number_right(network, pixels, classes):
    with torch.no_grad():
        logits = torch.cat([network.eval()(part) for part in pixels.split(20)])
    return int((logits.argmax(1) == classes).sum())


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "mean", "std", "expected"),
    [
        (
            "squeezenet1_1",
            "squeezenet1_1/squeezenet1_1_torchvision_fp16.pt",
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            75,
        ),
        (
            "squeezenet1_1",
            "squeezenet1_1/squeezenet1_1_caffe_fp16.pt",
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            87,
        ),
        (
            "efficientnet_lite0",
            "efficientnet_lite0/efficientnet_lite0_fp16.pt",
            (127 / 255,) * 3,
            (128 / 255,) * 3,
            100,
        ),
    ],
    ids=["torchvision", "caffe", "lite0"],
)
def test_published_weights_classify_photographs(data_root, name, file, mean, std, expected):
    network = create_classifier(name, 1000, in_channels=3, weights=data_root / file, head="load")
    pixels, classes = photographs(data_root)
    pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert abs(number_right(network, pixels, classes) - expected) <= 1


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("squeezenet1_1", "squeezenet1_1/squeezenet1_1_torchvision_fp16.pt"),
        ("efficientnet_lite0", "efficientnet_lite0/efficientnet_lite0_fp16.pt"),
    ],
)
def test_published_weights_serve_grey_slices(data_root, name, file):
    outputs = []
    for mode in ("repeat", "sum"):
        backbone = create_backbone(name, weights=data_root / file, channel_mode=mode).eval()
        outputs.append(backbone(image(size=64)))
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)
    colour = create_backbone(name, in_channels=3, weights=data_root / file).eval()
    torch.testing.assert_close(outputs[0], colour(image(size=64).repeat(1, 3, 1, 1)))


@pytest.mark.data
def test_published_weights_of_another_network(data_root):
    file = data_root / "efficientnet_lite0/efficientnet_lite0_fp16.pt"
    with pytest.raises(ValueError, match=r"do not fit EfficientNet: \d+ missing: features"):
        create_backbone("efficientnet_b0", weights=file)
