"""Each baseline trains exactly as its paper's step written out by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppi_med.baselines import BASELINES, baseline
from ppi_med.baselines.right_reasons import sum_of_log_probabilities
from ppi_med.baselines.rsc import RSC
from ppi_med.baselines.strong_augmentation import StrongAugmentation
from ppi_med.errors import UsageError
from ppi_med.handlers.methods import METHODS, configured_method, mask_name
from ppi_med.saliency import WBP
from ppi_med.training.modes import running_statistics_kept
from ppi_med.training.rng import derive_seeds
from tests.handlers.ppi.trainers import batches, network, trainer

LR, SITES = 0.05, ["a", "b", "a", "b", "a", "b"]


def data(count: int = 4) -> list[dict[str, Any]]:
    """Batches of six, with sites, and a lesion where the label is 1."""
    made: list[dict[str, Any]] = []
    for number, batch in enumerate(batches(count)):
        lesion = torch.zeros_like(batch["image"])
        for i, label in enumerate(batch["label"].tolist()):
            lesion[i, :, 6:10, 2:6] = float(label)
        made.append({**batch, "lesion": lesion, "site": SITES[number % 2 :] + SITES[: number % 2]})
    return made


def by_hand(loss: Callable[[nn.Module, dict[str, Any]], Tensor], count: int = 4) -> nn.Module:
    """Train by a loss that passes the network itself."""
    net = network().train()
    for batch in data(count):
        gradients = torch.autograd.grad(loss(net, batch), list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= LR * gradient
    return net


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for key, expected in other.state_dict().items():
        torch.testing.assert_close(one.state_dict()[key], expected, rtol=1e-9, atol=1e-11)


def by_handler(name: str, **options: Any) -> tuple[nn.Module, Any]:
    net, handler = network(), baseline(name, **options)
    trainer(net, data(), [handler]).run()
    return net, handler


def cross_entropy(logits: Tensor, label: Tensor) -> list[Tensor]:
    return [-logits[i].log_softmax(0)[int(label[i])] for i in range(len(label))]


def test_group_dro() -> None:
    weights: dict[str, float] = {}

    def loss(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        losses = cross_entropy(net(batch["image"]), batch["label"])
        groups: dict[str, list[Tensor]] = {}
        for site, label, value in zip(batch["site"], batch["label"].tolist(), losses, strict=True):
            groups.setdefault(f"{site}/{label}", []).append(value)
        means = {name: sum(v) / len(v) for name, v in sorted(groups.items())}
        start = float(np.mean(list(weights.values()))) if weights else 1.0
        for name, value in means.items():
            weights[name] = weights.get(name, start) * math.exp(0.5 * float(value.detach()))
        total = sum(weights.values())
        for name in weights:
            weights[name] /= total
        return sum(weights[name] * value for name, value in means.items())

    expected = by_hand(loss)
    net, handler = by_handler("group_dro", step_size=0.5)
    assert_same(net, expected)
    assert handler.weights == pytest.approx(weights)
    again = baseline("group_dro")
    again.load_state_dict(copy.deepcopy(handler.state_dict()))
    assert again.weights == handler.weights


def test_group_dro_starts_with_the_same_weight_for_each_group() -> None:
    """After one step q_g is exp(step_size L_g) over their sum: of equal losses all are equal."""
    handler = baseline("group_dro", step_size=0.5)
    engine = SimpleNamespace(state=SimpleNamespace(batch={"site": ["a", "b", "c", "d"]}))
    logits = torch.zeros(4, 2, dtype=torch.float64)
    handler.loss(engine, {"pred": logits, "label": torch.tensor([0, 0, 0, 0])})
    assert list(handler.weights.values()) == pytest.approx([0.25] * 4)
    # One that comes later starts as the mean of those known.
    engine.state.batch = {"site": ["e", "a", "f", "b"]}
    handler.loss(engine, {"pred": logits, "label": torch.tensor([0, 0, 0, 0])})
    for pair in (("a/0", "b/0"), ("a/0", "e/0"), ("e/0", "f/0")):
        assert handler.weights[pair[0]] == pytest.approx(handler.weights[pair[1]])


@pytest.mark.parametrize(("weight", "warm_up"), [(7.0, 0), (7.0, 5), (0.5, 0)])
def test_irm(weight: float, warm_up: int) -> None:
    used = 1.0 if warm_up else weight

    def loss(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        logits = net(batch["image"])
        total = 0.0
        for site in "ab":
            rows = [i for i, name in enumerate(batch["site"]) if name == site]
            # d/dw of the mean of CE(w z, y) at w = 1: sum_k (p_k - [k = y]) z_k.
            chosen, labels = logits[rows], batch["label"][rows]
            error = chosen.softmax(1) - nn.functional.one_hot(labels, 2)
            slope = (error * chosen).sum(1).mean()
            risk = sum(cross_entropy(chosen, labels)) / len(rows)
            total = total + (risk + used * slope**2) / 2
        return total / max(used, 1.0)

    net, _ = by_handler("irm", weight=weight, warm_up_epochs=warm_up)
    assert_same(net, by_hand(loss))


def test_rsc() -> None:
    def loss(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        z = net[:-1](batch["image"])
        head, label = net[-1], batch["label"]
        # Evidence of y in two classes: z_y - z_other, so its slope is a row of the head.
        slope = torch.stack([head.weight[y] - head.weight[1 - y] for y in label.tolist()])
        mask = torch.ones_like(z)
        for i, row in enumerate(slope):
            for k in row.argsort(descending=True)[: round(z.shape[1] / 4)]:
                mask[i, k] = 0
        plain = cross_entropy(head(z), label)
        challenged = cross_entropy(head(z * mask), label)
        fall = [float((-a).exp() - (-b).exp()) for a, b in zip(plain, challenged, strict=True)]
        hardest = sorted(range(len(fall)), key=lambda i: -fall[i])[: round(len(fall) / 2)]
        return sum(challenged[i] if i in hardest else plain[i] for i in range(len(fall))) / len(
            fall
        )

    net, _ = by_handler("rsc", features=0.25, samples=0.5)
    assert_same(net, by_hand(loss))
    # Options of mixed precision that switch it off.
    same = network()
    run = trainer(same, data(), [baseline("rsc", features=0.25, samples=0.5)])
    run.amp, run.scaler = True, torch.amp.GradScaler("cpu", init_scale=1024.0)
    run.amp_kwargs = {"enabled": False}
    run.run()
    assert_same(same, net)


@pytest.mark.parametrize("without", ["free", "everywhere"])
def test_right_reasons(without: str) -> None:
    def loss(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        image = batch["image"].clone().requires_grad_()
        logits = net(image)
        (slope,) = torch.autograd.grad(logits.log_softmax(1).sum(), image, create_graph=True)
        penalty = 0.0
        for i in range(len(image)):
            inside = batch["lesion"][i] > 0
            if without == "free" and not inside.any():
                continue
            penalty = penalty + (slope[i][~inside] ** 2).sum() / len(image)
        return sum(cross_entropy(logits, batch["label"])) / len(image) + 3.0 * penalty

    net, _ = by_handler("right_reasons", weight=3.0, without_lesion=without)
    assert_same(net, by_hand(loss))


def test_spectral_decoupling() -> None:
    def loss(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        logits = net(batch["image"])
        squares = sum(z**2 for row in logits for z in row) / len(logits)
        return sum(cross_entropy(logits, batch["label"])) / len(logits) + 0.5 * 0.3 * squares

    net, _ = by_handler("spectral_decoupling", weight=0.3)
    assert_same(net, by_hand(loss))


def test_saliency_guided() -> None:
    step = 0

    def loss(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        nonlocal step
        step += 1
        image = batch["image"].clone().requires_grad_()
        logits = net(image)
        odds = sum(logits[i, y] - logits[i, 1 - y] for i, y in enumerate(batch["label"].tolist()))
        (slope,) = torch.autograd.grad(odds, image, retain_graph=True)
        draws = torch.Generator().manual_seed(derive_seeds(1, 7, step, 0)[0])
        drawn = torch.rand(len(image), round(0.25 * 256), generator=draws)
        altered = batch["image"].clone()
        for i, x in enumerate(altered):
            low, high = float(x.min()), float(x.max())
            order = slope[i].flatten().abs().argsort()[: drawn.shape[1]]
            for j, place in enumerate(order.tolist()):
                x.view(-1)[place] = low + float(drawn[i, j]) * (high - low)
        with running_statistics_kept(net):
            other = net(altered)
        p, q = logits.softmax(1), other.softmax(1)
        divergence = sum(
            p[i, k] * (p[i, k] / q[i, k]).log() for i in range(len(p)) for k in range(2)
        )
        return sum(cross_entropy(logits, batch["label"])) / len(p) + 2.0 * divergence / len(p)

    net, _ = by_handler("saliency_guided", weight=2.0, share=0.25, seed=7)
    assert_same(net, by_hand(loss))


def test_mask_tune() -> None:
    """Two plain epochs, then one whose images lack what the network then looked at."""
    expected = network().train()
    for number, batch in enumerate([*data(), *data(), *data()]):
        if number == 8:
            frozen = copy.deepcopy(expected).eval()
        image = batch["image"].clone()
        if number >= 8:
            found = WBP()(frozen, image, batch["label"])
            for i, own in enumerate(found):
                mean = float(own.sum()) / own.numel()
                deviation = math.sqrt(float(((own - mean) ** 2).sum()) / own.numel())
                assert 0 < int((own > mean + 2 * deviation).sum()) < 0.2 * own.numel()
                image[i][own > mean + 2 * deviation] = 0.0
        losses = cross_entropy(expected(image), batch["label"])
        gradients = torch.autograd.grad(sum(losses) / len(losses), list(expected.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(expected.parameters(), gradients, strict=True):
                parameter -= LR * gradient
    net, handler = network(), baseline("mask_tune")
    trainer(net, data(), [handler], max_epochs=3).run()
    assert_same(net, expected)
    # Taken up in its last epoch, it asks the network of before, not the one that it finds.
    again = baseline("mask_tune")
    again.load_state_dict(copy.deepcopy(handler.state_dict()))
    other = network(seed=5)
    trainer(other, data(), [again], max_epochs=1).run()
    assert again.frozen is not None and handler.frozen is not None
    assert_same(again.frozen, handler.frozen)


def test_strong_augmentation_trains_on_what_it_prepares() -> None:
    twin = StrongAugmentation(seed=4)

    def loss(net: nn.Module, batch: dict[str, Any]) -> Tensor:
        changed = twin.prepare(batch["image"])
        return sum(cross_entropy(net(changed), batch["label"])) / len(changed)

    net, _ = by_handler("strong_augmentation", seed=4)
    assert_same(net, by_hand(loss))


def test_a_sigmoid_logit_has_two_classes() -> None:
    z = torch.randn(5, 1, dtype=torch.float64)
    both = torch.cat([torch.zeros_like(z), z], 1)
    torch.testing.assert_close(sum_of_log_probabilities(z), sum_of_log_probabilities(both))


def test_every_baseline_trains_a_network_of_slices() -> None:
    from ppi_med.networks import MultiViewClassifier

    for name in BASELINES:
        torch.manual_seed(0)
        options = {"widths": [4], "downsampling": "stride"}
        net = MultiViewClassifier("small_cnn", backbone_options=options)
        before = copy.deepcopy(net.state_dict())
        volume = torch.rand(4, 1, 3, 16, 20)
        batch = {
            "image": volume,
            "label": torch.tensor([[0.0], [1.0], [0.0], [1.0]]),
            "lesion": (volume > 0.9).float(),
            "site": ["a", "b", "b", "a"],
        }
        places = {"unlabelled": [{"image": x} for x in volume]}
        handler = configured_method(name, seed=0, slice_axis=2, places=places)
        loss = nn.BCEWithLogitsLoss()
        run = trainer(net, [batch], [handler], loss_function=loss, max_epochs=2)
        run.run()
        assert any(not torch.equal(before[k], v) for k, v in net.state_dict().items()), name
        assert all(v.isfinite().all() for v in net.state_dict().values() if v.is_floating_point())
        hooks = [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks]
        assert hooks == [], name


def test_augmented_volumes_move_as_a_whole_and_differ() -> None:
    volume = torch.rand(3, 1, 4, 16, 20)
    volume[:, :, 1] = volume[:, :, 0]
    alike = StrongAugmentation(strength=1.0, prob=1.0, seed=1, slice_axis=2)
    changed = alike.prepare(volume)
    assert changed.shape == volume.shape and changed.isfinite().all()
    noiseless = changed[:, :, 1] - changed[:, :, 0]
    assert noiseless.abs().mean() < 0.25 * (changed - volume).abs().mean()
    assert not torch.allclose(changed[0], changed[1])
    state = alike.state_dict()
    one = alike.prepare(volume)
    alike.load_state_dict(state)
    assert torch.equal(alike.prepare(volume), one)
    still = StrongAugmentation(prob=0.0)
    images = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(still.prepare(images), images, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="slice_axis"):
        StrongAugmentation().prepare(volume)


def test_they_are_methods() -> None:
    assert set(BASELINES) < set(METHODS)
    assert all(mask_name(name) is None for name in BASELINES)
    with pytest.raises(UsageError, match="moons"):
        configured_method("irm", {"moons": 1.0})
    with pytest.raises(UsageError, match="expected one of"):
        configured_method("irm", {"groups": "moon"})


@pytest.mark.parametrize(
    ("name", "key", "words"), [("irm", "site", "keep it"), ("right_reasons", "lesion", "lesions")]
)
def test_what_a_batch_lacks_is_named(name: str, key: str, words: str) -> None:
    lacking = [{k: v for k, v in batch.items() if k != key} for batch in data(1)]
    with pytest.raises(KeyError, match=words):
        trainer(network(), lacking, [baseline(name)]).run()


def test_attached_once_and_to_a_trainer_only() -> None:
    from ignite.engine import Engine

    handler = RSC()
    run = trainer(network(), data(1), [handler])
    with pytest.raises(RuntimeError, match="attached already"):
        handler.attach(run)
    with pytest.raises(TypeError, match="SupervisedTrainer"):
        RSC().attach(Engine(lambda engine, batch: None))
