"""Kinds of output, further inputs of the network, and half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatchExtraInput
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from ppi_med.baselines.irm import IRM
from ppi_med.baselines.rsc import RSC
from ppi_med.handlers.ppi import PPIHandler
from ppi_med.intervention import PPITerms, SoftMask
from ppi_med.naming import LOSS_CON
from ppi_med.networks import MultiViewClassifier
from ppi_med.saliency import WBP, GradientTimesInput
from ppi_med.training.recording import RecordingInferer
from tests.handlers.ppi.trainers import batches, network, trainer


class Extra(NamedTuple):
    """Further inputs, one per sample and one for all."""

    shift: Tensor
    scale: float


def as_single_logit(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"image": batch["image"], "label": batch["label"][:, None].double()}


@pytest.mark.parametrize(
    ("classes", "prepare", "loss"),
    [
        (1, as_single_logit, nn.BCEWithLogitsLoss()),
        (2, dict, nn.CrossEntropyLoss()),
        (3, dict, nn.CrossEntropyLoss()),
    ],
)
def test_kinds_of_output(
    classes: int, prepare: Callable[[dict[str, Tensor]], dict[str, Tensor]], loss: nn.Module
) -> None:
    data = [prepare(b) for b in batches(2, classes=max(classes, 2))]
    run = trainer(network(classes=classes), data, [PPIHandler()], loss_function=loss)
    run.run()
    assert bool(torch.isfinite(run.state.output[LOSS_CON]))


def test_a_batch_of_one_and_of_one_class() -> None:
    alone = batches(2, size=1)
    single = [{"image": b["image"], "label": torch.zeros(6, dtype=torch.long)} for b in batches(2)]
    for data in (alone, single):
        run = trainer(network(), data, [PPIHandler(terms=PPITerms(pairing="other_class"))])
        run.run()
        assert bool(torch.isfinite(run.state.output["loss"]))


def test_a_named_tuple_of_further_inputs_is_repeated() -> None:
    seen: list[Extra] = []

    class Shifted(nn.Linear):
        def forward(self, image: Tensor, extra: Extra) -> Tensor:
            seen.append(extra)
            return super().forward(image.flatten(1)) * extra.scale + extra.shift

    inferer, net = RecordingInferer(SimpleInferer(), WBP()), Shifted(4, 2)
    inferer.armed, image = True, torch.randn(3, 1, 2, 2)
    inferer(image, net, Extra(torch.arange(6.0).view(3, 2), 2.0))
    assert inferer.again(torch.cat([image, image]), net).shape == (6, 2)
    assert type(seen[1]) is Extra and seen[1].scale == 2.0
    assert torch.equal(seen[1].shift, seen[0].shift.repeat(2, 1))


def test_meta_tensors_are_taken() -> None:
    plain, meta = network(), network()
    data = batches(2)
    wrapped = [{"image": MetaTensor(b["image"]), "label": b["label"]} for b in data]
    trainer(plain, data, [PPIHandler(terms=PPITerms(seed=2))]).run()
    trainer(meta, wrapped, [PPIHandler(terms=PPITerms(seed=2))]).run()
    torch.testing.assert_close(plain[0].weight, meta[0].weight)


def test_further_inputs_go_with_the_altered_images() -> None:
    torch.manual_seed(0)
    net = MultiViewClassifier("small_cnn", backbone_options={"widths": [4, 8]})
    data = [
        {
            "image": torch.randn(2, 1, 5, 16, 16),
            "label": torch.tensor([[0.0], [1.0]]),
            "positions": torch.tensor([[1, 20, 40, 60, 100], [3, 9, 27, 81, 99]]),
        }
    ]
    seen: list[tuple[int, int]] = []
    original = net.forward

    def spy(image: Tensor, positions: Tensor | None = None) -> Tensor:
        assert positions is not None
        seen.append((image.shape[0], positions.shape[0]))
        return original(image, positions)

    net.forward = spy  # type: ignore[method-assign]
    run = trainer(
        net,
        data,
        [PPIHandler()],
        loss_function=nn.BCEWithLogitsLoss(),
        prepare_batch=PrepareBatchExtraInput(extra_keys={"positions": "positions"}),
    )
    run.run()
    assert seen == [(2, 2), (4, 4)]


class AutocastInferer(SimpleInferer):
    """Forward in half precision on the CPU, as MONAI's trainer does on a GPU."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __call__(self, inputs: Tensor, net: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", dtype=self.dtype):
            return super().__call__(inputs, net, *args, **kwargs)


def gradients(dtype: torch.dtype | None, scale: float | None = None) -> Tensor:
    """The gradient of one PPI step in a smooth setting.

    No hard selections that rounding tips over; and a mask of slope 4: the paper's slope of 100
    multiplies the map's rounding by up to 25, whatever computes it.
    """
    net = network(dtype=torch.float32)
    net[2], net[3] = nn.SiLU(), nn.AvgPool2d(2)
    data = batches(1, size=8, dtype=torch.float32)
    terms = PPITerms(SoftMask(omega=4.0), seed=2, con_weight=0.5, reg_weight=0.01)
    handler = PPIHandler(terms=terms)
    options: dict[str, Any] = {} if dtype is None else {"inferer": AutocastInferer(dtype)}
    still = torch.optim.SGD(net.parameters(), lr=0.0)
    run = trainer(net, data, [handler], optimizer=still, **options)
    if scale is not None:
        run.amp, run.scaler, run.amp_kwargs = (
            True,
            torch.amp.GradScaler("cpu", init_scale=scale),
            {"enabled": False},
        )
    run.run()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
def test_half_precision_gives_the_gradients_of_single(dtype: torch.dtype, bound: float) -> None:
    single, half = gradients(None), gradients(dtype)
    assert float((half - single).norm() / single.norm()) < bound


def test_a_scaler_scales_the_terms_with_the_loss() -> None:
    # The optimiser's step unscales in place, so the gradients compare after it.
    single, scaled = gradients(torch.float16), gradients(torch.float16, scale=1024.0)
    assert float((scaled - single).norm() / single.norm()) < 0.01


class Frozen(nn.Module):
    """Tokens behind a norm that keeps its running statistics, or behind the same written out."""

    def __init__(self, *, written: bool, head: bool = False) -> None:
        super().__init__()
        self.written, self.head = written, head
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 3, 5, stride=4), nn.BatchNorm2d(3)
        self.place, self.last = nn.Parameter(torch.randn(9, 3)), nn.Linear(3, 2)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x, n = self.conv(x), self.norm.eval()
        if self.written:
            scale = n.weight / (n.running_var + n.eps).sqrt()
            shift = n.bias - n.running_mean * scale
            x = x * scale[:, None, None] + shift[:, None, None]
        else:
            x = n(x)
        return self.last((x.flatten(2).transpose(1, 2) * self.place).sum(1))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    "make",
    [
        lambda: PPIHandler(),
        lambda: PPIHandler(start_epoch=2),
        lambda: PPIHandler(GradientTimesInput()),
        lambda: IRM(groups="label"),
        lambda: RSC(),
    ],
    ids=["PPI", "plain epochs", "PPI by the gradient", "IRM", "RSC"],
)
def test_a_step_of_one_image_with_frozen_statistics(make: Any, size: int) -> None:
    """torch's own backward would train such a network on wrong gradients."""
    trained = []
    for written in (True, False):
        net = Frozen(written=written).double()
        trainer(net, batches(3, size=size), [make()]).run()
        trained.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(*trained, rtol=1e-9, atol=1e-11)


def test_a_convolution_as_the_head() -> None:
    """Logits (N, K, 1, 1) and labels (N, 1, 1), as the model zoo's bundle of pathology has them."""
    weights = []
    for axes in ((), (1, 1)):
        net = network()
        if axes:
            net.append(nn.Unflatten(1, (2, *axes)))
        data = batches(3)
        for batch in data:
            batch["label"] = batch["label"].reshape(-1, *axes)
        trainer(net, data, [PPIHandler()]).run()
        weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-12, atol=1e-12)
