"""Print the table of docs/explanation/which-map.md: passes, cost, networks, differentiability.

`python docs/figures/map_costs.py`; time and memory are those of `benchmarks/saliency.py`, read
from the files that its `--json` wrote into results/saliency_benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ppi_med.networks import MultiViewClassifier
from ppi_med.networks.torchvision_shim import ensure_torchvision
from ppi_med.saliency import Gradient, SaliencyMethod, by_name

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results" / "saliency_benchmark"
STEPS, SAMPLES = 8, 4  # those of the benchmark
# The method, and its group in the benchmark.
METHODS: dict[str, tuple[SaliencyMethod, str]] = {
    "`WBP`": (by_name("wbp"), "WBP"),
    "`Gradient`": (by_name("gradient"), "gradient"),
    "`GradientTimesInput`": (by_name("gradient_x_input"), "gradient x input"),
    "`GradCAM`": (by_name("gradcam"), "GradCAM"),
    "`GradCAMPlusPlus`": (by_name("gradcam_plus_plus"), "GradCAM++"),
    "`LRP`, epsilon": (by_name("lrp_epsilon"), "LRP epsilon"),
    "`LRP`, z+ and flat": (by_name("lrp_epsilon_plus_flat"), "LRP epsilon plus flat"),
    f"`IntegratedGradients({STEPS})`": (
        by_name("integrated_gradients", steps=STEPS),
        "integrated gradients",
    ),
    f"`SmoothGrad(samples={SAMPLES})`": (
        by_name("smoothgrad", method=Gradient(), samples=SAMPLES),
        "SmoothGrad",
    ),
    "`Occlusion`, window half a side": (by_name("occlusion", window=32, stride=32), "occlusion"),
}
SIDE = 64


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """Return networks of every kind with an image for each."""
    ensure_torchvision()
    from monai.networks.nets import ViT
    from torchvision import models

    photo, volume = torch.randn(1, 3, SIDE, SIDE), torch.randn(1, 1, 16, 16, 16)
    names = ("resnet18", "efficientnet_b0", "mobilenet_v3_small", "convnext_tiny")
    found = {name: (getattr(models, name)(weights=None, num_classes=4), photo) for name in names}
    vit = ViT(1, (16,) * 3, (8,) * 3, 48, 96, 2, 4, classification=True, num_classes=4)
    found["ViT"] = (_First(vit), volume)
    found["multi-view"] = (MultiViewClassifier(), torch.rand(1, 1, 3, SIDE, SIDE))
    for network, image in found.values():
        _awake(network, image)
    return found


def _awake(network: nn.Module, image: Tensor) -> None:
    """Give BatchNorm statistics: without, an untrained network's values fade, and a map is 0."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, *image.shape[1:]))
    network.eval()


class _First(nn.Module):
    """MONAI's ViT returns the logits and its hidden states."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)[0]


def passes(method: SaliencyMethod) -> tuple[int, int]:
    """Return how often a map of one image runs the network forward and backward."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    image, counts = torch.rand(1, 1, SIDE, SIDE), {"forward": 0}
    network(image)

    def count(*_: Any) -> None:
        counts["forward"] += 1

    handle = network.register_forward_hook(count)
    with mock.patch("torch.autograd.grad", wraps=torch.autograd.grad) as backward:
        method(network, image, 0)
    handle.remove()
    return counts["forward"], backward.call_count


def works(action: Callable[[], bool]) -> bool:
    """Say whether a method can be used so."""
    try:
        return action()
    except (RuntimeError, ValueError):  # no rule, no second derivative, slices without their axis
        return False


def trains(method: SaliencyMethod, network: nn.Module, image: Tensor) -> bool:
    """Say whether a loss on the map reaches the parameters, for one target at least.

    GradCAM's map is 0 for a target against which every region speaks.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    for target in range(4):
        loss = method(network, image, target, create_graph=True).square().sum()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        if any(grad is not None and bool(grad.any()) for grad in found):
            return True
    return False


def figures(key: str) -> dict[tuple[str, str], float]:
    """Return (network, group) -> a figure of our map in the benchmark's files."""
    found = {}
    for path in sorted(RECORDS.glob("*.json")):
        for record in json.loads(path.read_text(encoding="utf-8"))["records"]:
            if record["library"] == "ppi_med" and key in record:
                found[record["network"], record["group"]] = record[key]
    return found


def main() -> None:
    """Print the table."""
    torch.manual_seed(0)
    subjects = networks()
    times, memory = figures("ms_per_image"), figures("peak_mib_per_image")
    timed = sorted({name for name, _ in times})
    titles = ["Method", "Forward", "Backward", *(f"Time, {name}" for name in timed)]
    titles += [*(f"Memory, {name}" for name in timed), "Maps on", "A loss on the map trains"]
    print("| " + " | ".join(titles) + " |\n|" + " --- |" * len(titles))
    for title, (method, group) in METHODS.items():
        forward, backward = passes(method)
        row = [title, str(forward), str(backward)]
        row += [f"{times[n, group] / times[n, 'gradient']:.2f}" for n in timed]
        row += [f"{memory[n, group]:.1f}" if (n, group) in memory else "" for n in timed]
        mapped, trained = [], []
        for name, (network, image) in subjects.items():
            network.eval()
            if works(lambda m=method, n=network, x=image: bool(m(n, x, 0).isfinite().all())):
                mapped.append(name)
            if works(lambda m=method, n=network, x=image: trains(m, n, x)):
                trained.append(name)
        print("| " + " | ".join([*row, *(_all_but(subjects, s) for s in (mapped, trained))]) + " |")


def _all_but(subjects: dict[str, Any], found: list[str]) -> str:
    missing = [name for name in subjects if name not in found]
    return f"all {len(subjects)}" if not missing else f"all but {', '.join(missing)}"


if __name__ == "__main__":
    main()
