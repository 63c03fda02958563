"""The bundles of photographs: every id resolves, keys are documented, answers in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ppi_med.bundle_tools.check import check_bundle
from ppi_med.bundle_tools.installed import open_bundle
from ppi_med.data.photos.convert import convert_photos
from ppi_med.errors import UsageError
from ppi_med.experiments.methods import DEFAULT_METHODS
from ppi_med.networks import create_classifier
from ppi_med.phantoms.birds.spec import BirdPhantomSpec
from ppi_med.phantoms.birds.write import make_bird_phantom

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = {
    "cifar10_ppi": ("evaluate.json", "paper.json"),
    "cub_ppi": ("evaluate.json", "paper.json", "sample.json"),
    "cxr_ppi": ("evaluate.json",),
}
BUNDLES = tuple(OVERLAYS)


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("birds") / "data"
    spec = BirdPhantomSpec(classes=2, training=120, test=4, size=32)
    make_bird_phantom(spec, folder, validation=0.3)
    return folder


def settings(data: Path, output: Path) -> dict[str, Any]:
    return {
        "device": "$torch.device('cpu')",
        "dataset_dir": str(data),
        "output_dir": str(output / "run"),
        "ckpt_dir": str(output / "models"),
        "tracking_uri": "none",
        "cache_rate": 0.0,
    }


@pytest.mark.parametrize("name", BUNDLES)
def test_every_id_resolves(name: str, birds: Path, tmp_path: Path) -> None:
    reports = check_bundle(open_bundle(ROOT / "bundles" / name), [], settings(birds, tmp_path))
    assert [r.title for r in reports] == ["train.json", "train.json + evaluate.json"]
    assert [r.failures for r in reports] == [(), ()]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "overlay"), [(n, o) for n in BUNDLES for o in OVERLAYS[n][1:]])
def test_every_id_of_the_overlays_resolves(
    name: str, overlay: str, birds: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torchvision")
    folder = ROOT / "bundles" / name
    report = check_bundle(open_bundle(folder), [folder / overlay], settings(birds, tmp_path))[-1]
    assert report.title == f"train.json + {overlay}" and report.failures == ()


def keys_of(name: str, file: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "bundles" / name / file).read_text(encoding="utf-8")))


def documented(name: str) -> dict[str, list[str]]:
    text = (ROOT / "bundles" / name / "docs/README.md").read_text(encoding="utf-8")
    found = {}
    for line in text.split("## Keys")[1].splitlines():
        if line.startswith("| `"):
            names, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), cells))
    return found


@pytest.mark.parametrize("name", BUNDLES)
def test_every_key_is_documented_with_its_default(name: str) -> None:
    rows, train = documented(name), keys_of(name, "train.json")
    for file in ("train.json", *OVERLAYS[name]):
        assert {re.split("#", k.removeprefix("+"))[0] for k in keys_of(name, file)} <= set(rows)
    for key, value in train.items():
        if len(rows[key]) > 1 and rows[key][0] not in ("made", ""):
            assert rows[key][0] == f"`{json.dumps(value)}`", key
    text = rows["method"][1]
    for method in DEFAULT_METHODS:
        short = re.sub(r"^ppi_wbp(_shared)?(?=_)", "", method)
        assert f"`{method}`" in text or f"`{short}`" in text, method


def initialise(name: str, data: Path, output: Path, **changes: Any) -> None:
    from monai.bundle import ConfigWorkflow

    workflow = ConfigWorkflow(
        str(ROOT / "bundles" / name / "train.json"),
        logging_file=False,
        workflow_type="train",
        **{**settings(data, output), **changes},
    )
    workflow.initialize()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_epoch": 3}, "did you mean max_epochs"),
        ({"method": "ppi_wpb"}, "expected one of: plain"),
        ({"method_options": {"mask": "square"}}, "expected one of: soft"),
        ({"image_size": [16, 64]}, "32 or more"),
        ({"batch_size": 1000}, "smaller --batch_size"),
        ({"num_classes": 1}, "expected a number from 0 to 0"),
        ({"dataset_dir": "nowhere"}, "ppi-med make-phantom birds"),
        ({"backbone_weights": "nothing.pt"}, "no weights nothing.pt"),
    ],
)
def test_a_wrong_value_is_answered_by_one_line(
    birds: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    from ppi_med.bundle_tools.preflight import root_cause

    with pytest.raises(Exception) as caught:  # noqa: B017 (MONAI wraps what it is)
        initialise("cub_ppi", birds, tmp_path, **changes)
    cause = root_cause(caught.value)
    assert isinstance(cause, UsageError) and words in str(cause)


CURVES = ROOT / "bundles/imagenet_wbp"


def test_the_curves_bundle_documents_its_keys() -> None:
    rows = documented("imagenet_wbp")
    for file in sorted(CURVES.glob("*.json")):
        if file.name != "metadata.json":
            assert set(keys_of("imagenet_wbp", file.name)) <= set(rows)
    for key, value in keys_of("imagenet_wbp", "evaluate.json").items():
        if len(rows[key]) > 1 and rows[key][0] not in ("made", ""):
            assert rows[key][0] == f"`{json.dumps(value)}`", key


@pytest.mark.parametrize(
    ("overlays", "name"),
    [
        ([], "curves_test_small_vgg"),
        (["paper.json"], "curves_test_vgg11"),
        (["squeezenet.json"], "curves_test_squeezenet1_1"),
        (["efficientnet_lite0.json"], "curves_test_efficientnet_lite0"),
    ],
)
def test_each_network_has_a_run_of_its_own(overlays: list[str], name: str) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(CURVES / file) for file in ("evaluate.json", *overlays)])
    parser["bundle_root"] = "here"
    assert parser.get_parsed_content("output_dir") == f"here/runs/{name}"
    assert parser["tracker"]["run_name"] == "@run_name" and parser["tracker"]["resume"] is False


def test_curves_of_the_phantoms_network(birds: Path, tmp_path: Path) -> None:
    from monai.bundle import run

    network = create_classifier("small_vgg", 2, in_channels=3, width=0.125)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    unknown = ("ckpt_dir", "cache_rate")
    options = {k: v for k, v in settings(birds, tmp_path).items() if k not in unknown}
    run(
        config_file=str(CURVES / "evaluate.json"),
        logging_file=False,
        weights=str(tmp_path / "model.pt"),
        image_size=[32, 32],
        most=4,
        **options,
    )
    found = json.loads((tmp_path / "run/maps.json").read_text())
    assert set(found["methods"]) == {"wbp", "gradient_absolute", "gradcam", "lrp", "random"}
    assert found["measured"] == 4 and 0 <= found["methods"]["wbp"]["energy_all"]["mean"] <= 1


def test_the_curves_bundle_says_what_is_missing(birds: Path, tmp_path: Path) -> None:
    from monai.bundle import ConfigWorkflow

    from ppi_med.bundle_tools.preflight import root_cause

    workflow = ConfigWorkflow(
        str(CURVES / "evaluate.json"),
        logging_file=False,
        workflow_type="eval",
        dataset_dir=str(birds),
        weights=str(tmp_path / "none.pt"),
    )
    with pytest.raises(Exception) as caught:  # noqa: B017 (MONAI wraps what it is)
        workflow.initialize()
    assert "bundles/cub_ppi/train.json" in str(root_cause(caught.value))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlay", "weights", "least"),
    [
        ("squeezenet.json", "squeezenet1_1/squeezenet1_1_caffe_fp16.pt", 0.6),
        ("efficientnet_lite0.json", "efficientnet_lite0/efficientnet_lite0_fp16.pt", 0.75),
    ],
)
def test_pretrained_networks_know_imagenet(
    overlay: str, weights: str, least: float, data_root: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torchvision")
    from monai.bundle import run

    convert_photos(data_root / "imagenet_sample", tmp_path / "data")
    run(
        config_file=[str(CURVES / "evaluate.json"), str(CURVES / overlay)],
        logging_file=False,
        weights=str(data_root / weights),
        dataset_dir=str(tmp_path / "data"),
        output_dir=str(tmp_path / "run"),
        tracking_uri="none",
        device="$torch.device('cpu')",
        short_side=227,
        counts=[1000],
        methods={"wbp": {"_target_": "ppi_med.saliency.WBP"}},
    )
    found = json.loads((tmp_path / "run/maps.json").read_text())
    assert found["right"] / found["images"] >= least
    wbp, chance = (found["methods"][name]["deletion"] for name in ("wbp", "random"))
    assert wbp["high"] < chance["low"]
