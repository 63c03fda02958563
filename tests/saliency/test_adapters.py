"""Our maps in the call forms of other packages, beside those packages; the pages that show them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppi_med.saliency import LRP, WBP, GradCAM, Gradient, by_name
from ppi_med.saliency.adapters import (
    CAMExtractor,
    CaptumAttribution,
    MonaiVisualizer,
    ZennitAttributor,
    quantus_explain_func,
)
from ppi_med.saliency.lrp import Epsilon
from tests.saliency.small_networks import Counting
from tests.saliency.test_contract import nothing_left_behind

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLASSES = 3


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, CLASSES),
    )
    return module.to(dtype).eval()


IMAGE = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1)).double()
TARGET = torch.tensor([0, 2, 1, 2])


def close(got: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert got.shape == expected.shape and expected.abs().max() > 1e-9
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def page(name: str) -> list[str]:
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


# Captum


@pytest.mark.parametrize(
    "target", [1, [0, 2, 1, 2], TARGET, torch.tensor([1]), (1,), [(0,), (2,), (1,), (2,)]], ids=repr
)
def test_captums_forms_of_a_target(target: Any) -> None:
    attr = pytest.importorskip("captum.attr")
    module = network()
    expected = attr.Saliency(module).attribute(IMAGE.clone(), target=target, abs=False)
    with nothing_left_behind(module, IMAGE):
        got = CaptumAttribution(module, "gradient").attribute(IMAGE, target=target)
    close(got, expected)


def test_captums_output_of_one_score() -> None:
    attr = pytest.importorskip("captum.attr")
    module = nn.Sequential(network(), nn.Linear(CLASSES, 1), nn.Flatten(0)).double()
    expected = attr.Saliency(module).attribute(IMAGE.clone(), abs=False)
    (got,) = CaptumAttribution(module, "gradient").attribute((IMAGE,))
    close(got, expected)


def test_captums_further_arguments() -> None:
    attr, module = pytest.importorskip("captum.attr"), network()

    def scaled(x: Tensor, scale: Tensor, shift: float = 0.0) -> Tensor:
        return module(x * scale + shift)

    scale = torch.linspace(1, 2, 4).double()[:, None, None, None]
    for further in (scale, (scale, 0.5)):
        expected = attr.Saliency(scaled).attribute(
            IMAGE.clone(), target=TARGET, abs=False, additional_forward_args=further
        )
        got = CaptumAttribution(scaled, "gradient").attribute(IMAGE, TARGET, further)
        close(got, expected)


def test_an_attribution_in_a_loss_trains() -> None:
    module = network()
    found = CaptumAttribution(module).attribute(IMAGE, TARGET, create_graph=True)
    found.square().sum().backward()
    expected = network()
    WBP()(expected, IMAGE, TARGET, create_graph=True).square().sum().backward()
    close(module[0].weight.grad, expected[0].weight.grad)


def test_several_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 inputs, expected one tensor of images"):
        CaptumAttribution(network()).attribute((IMAGE, IMAGE), target=1)


# Zennit


@pytest.mark.parametrize("start", ["one-hot", "function", "default", "of the attributor"])
def test_zennits_attributor(start: str) -> None:
    zennit = pytest.importorskip("zennit.attribution")
    module = network()
    one_hot = torch.eye(CLASSES).double()[TARGET]
    forms: dict[str, Any] = {
        "one-hot": one_hot,
        "of the attributor": one_hot,
        "function": lambda output: output * one_hot,
        "default": None,
    }
    given = forms[start]
    at_first = given if start == "of the attributor" else None
    in_call = None if start == "of the attributor" else given
    with zennit.Gradient(model=module, attr_output=at_first) as attributor:
        output, expected = attributor(IMAGE.clone().requires_grad_(), in_call)
    with ZennitAttributor(module, "gradient", at_first) as ours:
        got_output, got = ours(IMAGE, in_call)
    close(got, expected)
    close(got_output, output.detach())


def test_lrp_starts_from_what_zennit_starts_from() -> None:
    zennit = pytest.importorskip("zennit.attribution")
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import LayerMapComposite
    from zennit.rules import Epsilon as EpsilonHook
    from zennit.rules import Norm, Pass
    from zennit.types import Activation, AvgPool, BatchNorm, Linear

    module = network()
    module[1].eps = 1e-12  # Zennit's merging divides by sqrt(1 + eps) once more
    layers = [(kind, Pass()) for kind in (Activation, BatchNorm)] + [(AvgPool, Norm())]
    composite = LayerMapComposite(
        [*layers, (Linear, EpsilonHook(1e-6))], canonizers=[SequentialMergeBatchNorm()]
    )
    start = torch.eye(CLASSES).double()[TARGET]
    with zennit.Gradient(model=module, composite=composite) as attributor:
        _, expected = attributor(IMAGE.clone().requires_grad_(), start)
    with nothing_left_behind(module, IMAGE):
        _, got = ZennitAttributor(module, LRP(Epsilon(1e-6)))(IMAGE, start)
    close(got, expected.detach(), 1e-6)


# Quantus


def test_quantus_call_form() -> None:
    module = network(torch.float32)
    arrays = {"inputs": IMAGE.numpy(), "targets": TARGET.numpy()}
    got = quantus_explain_func("wbp")(module, **arrays, device="cpu", anything=1)
    assert isinstance(got, np.ndarray) and got.dtype == np.float32
    close(torch.from_numpy(got), WBP()(module, IMAGE.float(), TARGET))


# MONAI


def test_monais_gradient_and_cam() -> None:
    visualize = pytest.importorskip("monai.visualize")
    module = network()
    vanilla = visualize.VanillaGrad(module)
    cam = visualize.GradCAM(nn_module=module, target_layers="4", postprocessing=lambda x: x)
    for i in range(len(IMAGE)):
        one, c = IMAGE[i : i + 1], int(TARGET[i])
        close(MonaiVisualizer(module, "gradient")(one, index=c), vanilla(one.clone(), index=c))
        expected = torch.as_tensor(cam(one.clone(), class_idx=c)).detach()
        got = MonaiVisualizer(module, GradCAM(layer="4"))(one, class_idx=c)
        assert (got[:, :1] - expected).abs().max() <= 1e-9 * max(float(expected.abs().max()), 1e-3)


def test_without_a_class_the_largest_logit_is_explained() -> None:
    module = network().train()
    with nothing_left_behind(module, IMAGE):
        got = MonaiVisualizer(module)(IMAGE)
    module.eval()
    close(got, WBP()(module, IMAGE, module(IMAGE).argmax(1)))
    single = nn.Sequential(module, nn.Linear(CLASSES, 1)).double()
    close(MonaiVisualizer(single)(IMAGE), WBP()(single, IMAGE, (single(IMAGE) > 0).long()[:, 0]))


# torch-cam


def test_a_context_as_torch_cams() -> None:
    module = network()
    for classes in (1, [0, 2, 1, 2], None):
        with CAMExtractor(module) as extract:
            scores = module(IMAGE)
            (got,) = extract(classes, scores)
        target = module(IMAGE).argmax(1) if classes is None else torch.tensor(classes)
        close(got, GradCAM()(module, IMAGE, target))
        assert "forward" not in vars(module)
    with CAMExtractor(module, "wbp") as extract:
        module(IMAGE)
        (got,) = extract(1, create_graph=True)
    got.square().sum().backward()
    assert module[0].weight.grad.abs().max() > 0


def test_the_context_ends_with_an_error_and_keeps_a_forward_of_ones_own() -> None:
    module = network()
    own = module.forward
    module.forward = own
    with pytest.raises(ZeroDivisionError), CAMExtractor(module):
        raise ZeroDivisionError
    assert vars(module)["forward"] is own
    with CAMExtractor(module) as extract, pytest.raises(RuntimeError, match="run the network"):
        extract(1)


def test_nothing_is_left_behind_in_a_network_with_a_state() -> None:
    module = Counting().double()
    image = torch.randn(3, 1, 4, 4).double()
    with torch.no_grad():
        module(image.clone())
    with nothing_left_behind(module, image):
        CaptumAttribution(module).attribute(image, target=1)
        MonaiVisualizer(module, "gradient")(image)
        ZennitAttributor(module, "wbp")(image)


# The pages


def names(dtype: torch.dtype) -> dict[str, Any]:
    return {
        "network": network(dtype),
        "image": IMAGE.to(dtype),
        "target": TARGET,
        "output_size": CLASSES,
    }


def run(code: str, found: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, "page", "exec"), found)
    return found


@pytest.fixture
def blocks() -> dict[str, str]:
    """Return the blocks of the page by their headings, each after those of its package above it."""
    text = (DOCS / "reference" / "from-other-packages.md").read_text(encoding="utf-8")
    parts = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return {
        title: code[0]
        for title, part in parts
        if (code := re.findall(r"```python\n(.*?)```", part, re.DOTALL))
    }


def test_the_page_of_captum(blocks: dict[str, str]) -> None:
    attr = pytest.importorskip("captum.attr")
    found = run(blocks["Captum: attribute"], names(torch.float64))
    module = found["network"]
    expected = attr.Saliency(module).attribute(IMAGE.clone(), target=TARGET, abs=False)
    close(found["attributions"], expected)
    run(blocks["Captum: NoiseTunnel"], found)
    assert found["attributions"].shape == IMAGE.shape
    torch.manual_seed(5)
    run(blocks["Captum: infidelity"], found)
    torch.manual_seed(5)
    same = pytest.importorskip("captum.metrics").infidelity(
        module, found["perturb"], IMAGE, expected, target=TARGET
    )
    torch.testing.assert_close(found["error"], same)


def test_the_page_of_zennit(blocks: dict[str, str]) -> None:
    found = run("import torch\n" + blocks["Zennit: attributor"], names(torch.float64))
    score = found["output"].gather(1, TARGET[:, None])[:, :, None, None]
    # Relevance that starts from one, times the score, is that which starts from the score.
    close(found["relevance"] * score, by_name("lrp_epsilon")(found["network"], IMAGE, TARGET))
    before = found["relevance"]
    run(blocks["Zennit: composites"], found)
    assert found["relevance"].shape == IMAGE.shape
    assert not torch.allclose(found["relevance"], before)


def test_the_page_of_quantus(blocks: dict[str, str]) -> None:
    pytest.importorskip("quantus", reason="Quantus is not installed")
    found = run(blocks["Quantus: explain_func"], names(torch.float32))
    assert len(found["scores"]) == 4 and all(0 < score < 1 for score in found["scores"])


def test_the_page_of_monai(blocks: dict[str, str]) -> None:
    found = run(blocks["MONAI: visualize"], names(torch.float64))
    close(found["maps"], GradCAM()(found["network"], IMAGE, TARGET))
    found |= names(torch.float32) | {"torch": torch}
    before = found["network"][0].weight.detach().clone()
    run(blocks["MONAI: a handler"], found)
    assert "loss/ad" in found["trainer"].state.output[0]
    assert not torch.equal(before, found["network"][0].weight)


def test_the_page_of_torch_cam(blocks: dict[str, str]) -> None:
    found = run(blocks["torch-cam: a context"], names(torch.float64))
    close(found["cam"], GradCAM()(found["network"], IMAGE, TARGET))


def test_the_page_of_mlflow(blocks: dict[str, str], tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    from tests.tracking.stores import mlflow_at, new_store

    with mlflow_at(new_store(tmp_path / "store")):
        found = run(blocks["MLflow: maps in a run"], names(torch.float64))
        run_id = found["run"].info.run_id
        data = mlflow.get_run(run_id).data
        total = float(WBP()(found["network"], IMAGE, TARGET).sum())
        assert data.metrics["map/relevance"] == pytest.approx(total)
        images = mlflow.MlflowClient().list_artifacts(run_id, "images")
        assert len([one for one in images if one.path.endswith(".png")]) == 4


def test_the_page_of_lightning(blocks: dict[str, str], tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    found = run(
        blocks["Lightning: a map in the loss"], {"torch": torch, "WBP": WBP, **names(torch.float32)}
    )
    module = found["Sparse"](found["network"])
    before = [p.detach().clone() for p in module.parameters()]
    loader = torch.utils.data.DataLoader([(IMAGE.float(), TARGET)] * 3, batch_size=None)
    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(module, loader)
    assert any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def test_every_row_of_the_table_has_a_block(blocks: dict[str, str]) -> None:
    text = (DOCS / "reference" / "from-other-packages.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| \[[^\]]+\]\(#([\w-]+)\) \|$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\s-]", "", title).lower().replace(" ", "-") for title in blocks}
    assert len(rows) >= 10 and set(rows) == anchors


# A map in a loss


def classifier(dims: int) -> nn.Module:
    torch.manual_seed(0)
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2]
    pool = (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dims - 2]
    return nn.Sequential(
        conv(1, 4, 3, padding=1), norm(4), nn.SiLU(), conv(4, 6, 3, padding=1), nn.ReLU(), pool(2),
        nn.Flatten(), nn.Linear(6 * 2**dims, 2),
    )  # fmt: skip


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["WBP", "LRP", "GradCAM"])
def test_the_step_of_the_page_trains(name: str, dims: int) -> None:
    """The part of the map outside of the mask falls while the loss of the labels does not grow."""
    code = page("howto/map-in-your-loss.md")
    found = run(code[1], run(code[0], {}))
    method, module = found["methods"][name], classifier(dims).train()
    image, label = torch.rand(6, 1, *[8] * dims) + 0.1, torch.tensor([0, 1, 0, 1, 0, 1])
    image[label == 1, :, :4, :4] += 1
    outside = torch.ones_like(image)
    outside[:, :, :4, :4] = 0
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)

    def share() -> float:
        s = method(module, image, label).abs()
        return float((s * outside).sum() / s.sum().clamp(min=1e-12))

    def loss() -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(module(image), label))

    first, at_first = share(), loss()
    weighted = [found["step"](module, optimizer, image, label, outside, method) for _ in range(40)]
    assert all(np.isfinite(weighted))
    assert loss() < at_first
    assert share() < first or weighted[-1] < weighted[0]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["WBP", "LRP", "GradCAM"])
def test_gradients_of_the_page_are_slopes(name: str, dims: int) -> None:
    code = page("howto/map-in-your-loss.md")
    found = run(code[2], run(code[1], run(code[0], {})))
    method, module = found["methods"][name], classifier(dims).double().train()
    image, label = torch.rand(3, 1, *[6] * dims).double(), torch.tensor([0, 1, 1])
    weight = module[0].weight
    (slope,) = torch.autograd.grad(found["sparseness"](module, image, label, method), weight)
    way, size = torch.randn_like(weight), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * size * way
        values.append(float(found["sparseness"](module, image, label, method)))
        with torch.no_grad():
            weight -= sign * size * way
    expected = (values[0] - values[1]) / (2 * size)
    assert float((slope * way).sum()) == pytest.approx(expected, rel=1e-4)


def test_an_unchanged_gradient_needs_no_adapter() -> None:
    close(
        CaptumAttribution(network(), Gradient()).attribute(IMAGE, 1),
        Gradient()(network(), IMAGE, 1),
    )
