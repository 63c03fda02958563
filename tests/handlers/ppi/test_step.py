"""The step without an engine, and the look at its gradient before the optimiser has it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ppi_med.errors import UsageError
from ppi_med.handlers.ppi import PPIHandler
from ppi_med.handlers.step import PPIStep
from ppi_med.intervention import DivergenceError, GradientGuard, PPITerms, StepWeight, WarmUpWeight
from tests.handlers.ppi.trainers import batches, network, trainer


def plain_loop(net: nn.Module, data: list[dict[str, Tensor]], ppi: PPIStep, epochs: int) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    net.train()
    iteration = 0
    for epoch in range(1, epochs + 1):
        for batch in data:
            iteration += 1
            ppi.begin(epoch, iteration)
            loss = F.cross_entropy(ppi.forward(net, batch["image"]), batch["label"])
            loss = ppi.add_terms(loss, batch["label"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize(
    "options",
    [{}, {"every": 2}, {"start_epoch": 2}, {"batch_norm": "all"}, {"differentiable": False}],
)
def test_a_plain_loop_trains_as_the_handler_bit_for_bit(options: dict[str, Any]) -> None:
    by_loop, by_handler = network(), network()
    terms: dict[str, Any] = {"fill": "exchange", "pairing": "shared", "seed": 3}
    plain_loop(by_loop, batches(3), PPIStep(terms=PPITerms(**terms), **options), epochs=2)
    handler = PPIHandler(terms=PPITerms(**terms), **options)
    trainer(by_handler, batches(3), [handler], max_epochs=2).run()
    for key, expected in by_handler.state_dict().items():
        assert torch.equal(by_loop.state_dict()[key], expected), key


def test_a_forgotten_call_is_named() -> None:
    net, (batch, _) = network().train(), batches(2)
    ppi = PPIStep()
    ppi.begin(1, 1)
    ppi.forward(net, batch["image"])
    with pytest.raises(UsageError, match="Step 1 was begun with PPI and has none: call loss = ppi"):
        ppi.begin(1, 2)
    for past_it in (True, False):
        ppi = PPIStep()
        ppi.begin(1, 1)
        logits = net(batch["image"]) if past_it else ppi.forward(net.eval(), batch["image"])
        with pytest.raises(UsageError, match="no forward was recorded"):
            ppi.add_terms(F.cross_entropy(logits, batch["label"]), batch["label"])


def test_it_needs_no_monai() -> None:
    code = "import sys, ppi_med.handlers.step; print({'monai', 'ignite'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# The page of the documentation

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "ppi-without-monai.md"


def page_code(number: int) -> dict[str, Any]:
    """Run one of the page's blocks; return what it defines."""
    block = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[number]
    found: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), found)
    return found


def test_the_pages_plain_loop_trains_as_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    by_page, by_handler = network(), network()
    data = batches(3)
    page_code(0)["train"](by_page, [(one["image"], one["label"]) for one in data])
    handler = PPIHandler(terms=PPITerms(fill="exchange", pairing="shared"))
    trainer(by_handler, data, [handler], max_epochs=2).run()
    for key, expected in by_handler.state_dict().items():
        assert torch.equal(by_page.state_dict()[key], expected), key
    assert "loss/ad" in capsys.readouterr().out


def test_the_pages_lightning_module_trains_as_the_handler_and_resumes(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    data = batches(3)
    loader = torch.utils.data.DataLoader([(b["image"], b["label"]) for b in data], batch_size=None)
    module = page_code(1)["Classifier"](network())
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": tmp_path,
    }
    fit = lightning.Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    fit.fit(module, loader)
    by_handler = network()
    trainer(by_handler, data, [PPIHandler()], max_epochs=2).run()
    for key, expected in by_handler.state_dict().items():
        torch.testing.assert_close(module.network.state_dict()[key], expected, rtol=0, atol=0)
    assert set(fit.logged_metrics) >= {"loss/con", "loss/ad", "loss/reg"}
    # Interrupted after one epoch and continued from Lightning's own checkpoint.
    first = page_code(1)["Classifier"](network())
    half = lightning.Trainer(max_epochs=1, enable_checkpointing=False, **quiet)
    half.fit(first, loader)
    half.save_checkpoint(tmp_path / "half.ckpt")
    second = page_code(1)["Classifier"](network(seed=7))
    rest = lightning.Trainer(max_epochs=2, enable_checkpointing=False, **quiet)
    rest.fit(second, loader, ckpt_path=tmp_path / "half.ckpt")
    for key, expected in by_handler.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[key], expected, rtol=0, atol=0)


# The gradient of a step


def resnet50_step(seed: int = 0, **options: Any) -> tuple[nn.Module, PPIHandler]:
    from monai.networks.nets import resnet50

    torch.manual_seed(seed)
    net = resnet50(spatial_dims=2, n_input_channels=1, num_classes=2)
    data = [{"image": torch.randn(2, 1, 32, 32), "label": torch.tensor([0, 1])}]
    handler = PPIHandler(**options)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    run = trainer(net, data, [handler], optimizer=optimizer)
    start = {key: value.clone() for key, value in net.named_parameters()}
    try:
        run.run()
    except DivergenceError:
        assert all(torch.equal(value, start[key]) for key, value in net.named_parameters())
        raise
    return net, handler


def test_a_first_step_that_would_wreck_the_weights_is_refused_and_the_advice_helps() -> None:
    with pytest.raises(DivergenceError, match="The gradient of PPI's terms is") as caught:
        resnet50_step()
    assert caught.value.term == "ppi" and caught.value.value > 100
    assert "learning rate" not in str(caught.value)
    assert "differentiable=False" in str(caught.value)
    net, handler = resnet50_step(differentiable=False)
    assert handler.gradients.ratio is not None and handler.gradients.ratio < 10
    assert max(float(p.detach().abs().max()) for p in net.parameters()) < 1.1


def measured(handler: PPIHandler, data: list[dict[str, Tensor]], epochs: int = 1) -> list[int]:
    """Run, and return the iterations in which the gradient was measured."""
    found: list[int] = []
    due = handler.gradients._due

    def note(weights: Any) -> bool:
        wanted = due(weights)
        if wanted:
            found.append(handler._now[1])
        return wanted

    handler.gradients._due = note  # type: ignore[method-assign]
    trainer(network(), data, [handler], max_epochs=epochs).run()
    return found


def test_it_is_measured_seldom_and_where_a_weight_grows() -> None:
    assert measured(PPIHandler(), batches(9)) == [1, 2, 4, 8]
    stepped = StepWeight(0.1, factor=100, after_epoch=2)
    terms = PPITerms(con_weight=stepped, guard=None)
    assert measured(PPIHandler(terms=terms), batches(3), epochs=4) == [1, 2, 4, 7, 8]
    warm = PPITerms(ad_weight=WarmUpWeight(1.0, 2), contrasts=("ad",))
    assert 4 in measured(PPIHandler(terms=warm), batches(3), epochs=2)


def test_measuring_changes_nothing() -> None:
    looked, blind = network(), network()
    for net, limit in ((looked, 100.0), (blind, 0.0)):
        trainer(net, batches(4), [PPIHandler(gradient_limit=limit)]).run()
    for key, expected in blind.state_dict().items():
        assert torch.equal(looked.state_dict()[key], expected), key


@pytest.mark.parametrize("worst", [1e6, float("inf"), float("nan")])
def test_any_gradient_beyond_the_limit_is_refused(worst: float) -> None:
    weight = torch.ones(3, requires_grad=True)
    guard = GradientGuard()
    with pytest.raises(DivergenceError, match="lower con_weight and ad_weight"):
        guard.check((worst * weight).sum(), weight.sum(), [weight], {"ad": 1.0}, 1, 1, False)


def test_a_step_without_a_gradient_is_no_ones_fault() -> None:
    weight, other = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    guard = GradientGuard()
    guard.check(weight.sum(), other.sum(), [weight], {"ad": 1.0}, 1, 1, True)
    guard.check(torch.tensor(3.0), other.sum(), [weight], {"ad": 2.0}, 1, 2, True)
    assert guard.ratio is None
    with pytest.raises(ValueError, match="limit of the gradient is -1"):
        GradientGuard(-1)


def test_a_loss_that_is_not_finite_is_not_blamed_on_the_learning_rate_alone() -> None:
    net = network()
    data = batches(1)
    data[0]["image"] = data[0]["image"] * float("nan")
    with pytest.raises(DivergenceError) as caught:
        trainer(net, data, [PPIHandler()]).run()
    assert "check inputs and labels" in str(caught.value)
    assert "weights of PPI's terms" in str(caught.value)


@pytest.mark.parametrize("detached", [True, False])
def test_a_network_that_hides_the_image_is_warned_of(
    detached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Network(nn.Linear):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward((image.detach() if detached else image).flatten(1))

    ppi, network, label = PPIStep(), Network(4, 2), torch.tensor([0, 1])
    for step in (1, 2):
        ppi.begin(1, step)
        logits = ppi.forward(network, torch.ones(2, 1, 2, 2))
        ppi.add_terms(nn.functional.cross_entropy(logits, label), label).backward()
    assert caplog.text.count("The first map is 0 everywhere") == int(detached)
