"""Training at a place: what is added to the loss, what is left alone, and resuming at a kill."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from monai.transforms import Compose
from torch import Tensor, nn

from ppi_med.errors import UsageError
from ppi_med.handlers import BestCheckpoint, PlaceHandler, ResumeHandler, load_weights
from ppi_med.handlers.methods import METHODS, configured_method, mask_name
from ppi_med.handlers.places import _decision, _enlarged, _stack, read_place
from ppi_med.networks.small_cnn import SmallCNN
from ppi_med.places import (
    Account,
    Blank,
    ExchangePlaced,
    ImageStack,
    PlaceBank,
    Search,
    SearchSettings,
    StyleBank,
    search,
)
from ppi_med.places.exchange import packed, quantiles, restyled, spectrum, unpacked
from ppi_med.training import ExactDataLoader
from tests.handlers.ppi.test_outputs_and_precision import AutocastInferer
from tests.places.phantom import MARK, images, volumes

QUICK = {"steps": [60, 60], "repeats": 20, "share": 0.05, "grow": 1.0}


class Cases(list[Any]):
    """A data set with a transform, as MONAI's."""

    transform: Any = None

    def __getitem__(self, index: Any) -> Any:
        case = super().__getitem__(index)
        return case if self.transform is None else self.transform(case)


def cases(count: int, marked: float | None, seed: int) -> Cases:
    stack = images(count, marked, seed)
    return Cases(
        {"image": x, "label": int(y), "number": i}
        for i, (x, y) in enumerate(zip(stack.image, stack.label, strict=True))
    )


def trainer_of(
    handler: Any,
    data: Cases,
    *,
    epochs: int = 2,
    folder: Path | None = None,
    validation: Cases | None = None,
    seed: int = 0,
    **options: Any,
) -> SupervisedTrainer:
    loader = ExactDataLoader(data, batch_size=8, seed=1, drop_last=True)
    torch.manual_seed(seed)
    network = SmallCNN(2, widths=(4, 8), downsampling="stride")
    handlers: list[Any] = []
    if folder is not None:
        handlers.append(ResumeHandler(folder / "checkpoints", iterations=1))
    handlers.append(handler)
    if validation is not None:
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=torch.utils.data.DataLoader(validation, batch_size=10),
            network=network,
        )
        if folder is not None:
            evaluator.state.metrics = {"val/auc": 0.5}
            best = BestCheckpoint(network, folder / "model.pt")
            best.attach(evaluator)
            evaluator.add_event_handler(
                Events.STARTED, lambda: evaluator.state.metrics.update({"val/auc": 0.5})
            )
        handlers.append(ValidationHandler(1, evaluator))
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.CrossEntropyLoss(),
        train_handlers=handlers,
        **{"train_data_loader": loader, **options},
    )


def place() -> Tensor:
    mask = torch.zeros(24, 24, dtype=torch.bool)
    mask[MARK] = True
    return mask


def weights(trainer: Any) -> list[Tensor]:
    return [value.clone() for value in trainer.network.state_dict().values()]


def equal(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_beside_is_the_sum_of_two_losses_and_leaves_running_statistics() -> None:
    data = cases(40, 1.0, 0)
    handler = PlaceHandler(place=place())
    trainer = trainer_of(handler, data, epochs=1)
    seen: list[tuple[float, float, float]] = []

    def look(engine: Any) -> None:
        output = engine.state.output
        altered = handler._altered(engine, output["image"])
        mean = network_mean(engine.network)
        with torch.no_grad():
            twin = SmallCNN(2, widths=(4, 8), downsampling="stride")
            twin.load_state_dict(engine.network.state_dict())
            twin.train()
            expected = nn.functional.cross_entropy(twin(altered), output["label"])
        assert torch.equal(mean, network_mean(engine.network))
        total, clean = float(output["loss"].detach()), float(output["loss/cls"])
        seen.append((total, clean, float(expected)))
        inside = altered[:, :, handler.mask]
        outside = altered[:, :, ~handler.mask]
        assert torch.equal(outside, output["image"][:, :, ~handler.mask])
        assert not torch.equal(inside, output["image"][:, :, handler.mask])

    from monai.engines.utils import IterationEvents

    trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, look)
    trainer.run()
    assert len(seen) == 5
    for total, clean, altered in seen:
        assert total == pytest.approx(clean + altered, rel=1e-5)


def network_mean(network: nn.Module) -> Tensor:
    return torch.cat([m.running_mean for m in network.modules() if hasattr(m, "running_mean")])


def test_coin_takes_one_forward_and_both_kinds_of_images() -> None:
    data = cases(40, 1.0, 0)
    handler = PlaceHandler(place=place(), step="coin")
    trainer = trainer_of(handler, data, epochs=4)
    count = {"forward": 0, "kept": 0}
    before: list[Tensor] = [network_mean(trainer.network)]

    def step(engine: Any) -> None:
        now = network_mean(engine.network)
        count["kept"] += bool(torch.equal(now, before[0]))
        before[0] = now.clone()

    trainer.network.register_forward_hook(
        lambda *_: count.__setitem__("forward", count["forward"] + 1)
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, step)
    trainer.run()
    assert count["forward"] == 20
    assert 3 <= count["kept"] <= 17, "the steps with x' leave the running statistics"


@pytest.mark.parametrize("name", ["ppi_wbp_place", "ppi_wbp_place_coin", "ppi_wbp_place_blind"])
def test_mixed_precision_on_the_cpu_and_accumulation(name: str) -> None:
    """Both forwards are in bfloat16; the loss falls, and a step of two parts is one update."""
    handler = configured_method(name, {"place": place()})
    trainer = trainer_of(
        handler,
        cases(48, 1.0, 0),
        epochs=6,
        accumulation_steps=2,
        inferer=AutocastInferer(torch.bfloat16),
    )
    kinds: set[torch.dtype] = set()
    losses: list[float] = []
    updates: list[bool] = []
    before = [weights(trainer)[0]]

    def note(engine: Any) -> None:
        losses.append(float(engine.state.output[0]["loss"]))
        now = weights(trainer)[0]
        updates.append(not torch.equal(now, before[0]))
        before[0] = now

    trainer.network.register_forward_hook(lambda _, __, output: kinds.add(output.dtype))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    assert kinds == {torch.bfloat16}
    assert updates == [False, True] * 18
    assert np.mean(losses[-6:]) < np.mean(losses[:6])


def test_an_accumulated_step_is_the_mean_of_its_parts() -> None:
    """Two batches of 8 take the step of one of 16 with the same cases and the same x'."""
    same = cases(16, 1.0, 0)
    for case in same:
        case["image_exchanged"] = case["image"].masked_fill(place(), 0.0)
    found = []
    for size, parts in ((16, 1), (8, 2)):
        loader = torch.utils.data.DataLoader(same, batch_size=size)
        options = {"train_data_loader": loader, "accumulation_steps": parts}
        trainer = trainer_of(PlaceHandler(place=place()), same, epochs=1, **options)
        for module in trainer.network.modules():
            if isinstance(module, nn.BatchNorm2d):  # it would tell the parts apart
                module.train = lambda mode=True, own=module: own  # type: ignore[method-assign]
                module.training = False
        trainer.run()
        found.append(weights(trainer))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_a_second_run_of_a_trainer_smooths_once() -> None:
    handler = PlaceHandler(place=place(), fill="blind")
    trainer = trainer_of(handler, cases(16, 1.0, 0), epochs=1)
    for _ in range(2):
        trainer.run()
        assert len(trainer.network._forward_pre_hooks) == 1


def test_blind_training_blanks_the_place_and_loading_does_too(tmp_path: Path) -> None:
    data, validation = cases(40, 1.0, 0), cases(20, 1.0, 1)
    handler = PlaceHandler(place=place(), fill="blind")
    trainer = trainer_of(handler, data, epochs=1, folder=tmp_path, validation=validation)
    trainer.run()
    x = torch.randn(2, 1, 24, 24)
    changed = x.clone()
    changed[:, :, handler.mask] = 9.0
    trainer.network.eval()
    assert torch.equal(trainer.network(x), trainer.network(changed))
    fresh = SmallCNN(2, widths=(4, 8), downsampling="stride").eval()
    load_weights(fresh, tmp_path / "model.pt")
    assert torch.equal(fresh(x), fresh(changed))
    load_weights(fresh, tmp_path / "model.pt")
    assert len(fresh._forward_pre_hooks) == 1
    assert torch.equal(fresh(x), trainer.network(x))


@pytest.mark.parametrize("fill", ["exchange", "blind"])
def test_brightness_outside_a_given_place_is_made_alike_here_and_when_weights_are_loaded(
    fill: str, tmp_path: Path
) -> None:
    data, validation = cases(40, 1.0, 0), cases(20, 1.0, 1)
    handler = PlaceHandler(place=place(), even=True, fill=fill)
    trainer = trainer_of(handler, data, epochs=1, folder=tmp_path, validation=validation)
    trainer.run()
    assert handler.active == "place" and (handler._inferer is None) == (fill == "blind")
    x = torch.randn(2, 1, 24, 24) + 1
    brighter = 3 * x + 1
    brighter[..., place()] = x[..., place()] * 3 + 1
    network = trainer.network.eval()
    torch.testing.assert_close(network(x), network(brighter), rtol=1e-3, atol=1e-4)
    fresh = SmallCNN(2, widths=(4, 8), downsampling="stride").eval()
    for _ in range(2):
        load_weights(fresh, tmp_path / "model.pt")
        torch.testing.assert_close(fresh(x), network(x))
    assert len(fresh._forward_pre_hooks) == (2 if fill == "blind" else 1)
    facts = json.loads((tmp_path / "model.json").read_text())["trained"]["place"]
    again = Account.of(facts)
    assert again is not None and "brightness and contrast" in again.sentence


def test_brightness_needs_a_place() -> None:
    with pytest.raises(ValueError, match="a search decides that itself"):
        PlaceHandler(even=True)


def test_a_searched_place_brings_what_is_done_to_the_images() -> None:
    def dimmer(count: int, seed: int) -> ImageStack:
        stack = volumes(count, 0.9, seed)
        stack.image[stack.label == 1] *= 0.7
        return stack

    found = search(dimmer(60, 0), dimmer(40, 1), SearchSettings(steps=(60, 60), repeats=20))
    mask, neutral, active, line = _decision(found, "auto")
    assert active == "place" and mask is not None and line == found.reason
    assert neutral is not None and neutral.even is not None
    larger = _enlarged(found, (48, 48))
    assert larger.neutral is not None and larger.neutral.even is not None
    assert larger.neutral.even.place.shape == larger.place.shape == (48, 48)
    assert _decision(found, "neutral")[1:3] == (None, None)


def textured(count: int, seed: int) -> Cases:
    data = cases(count, None, seed)
    for case in data:
        case["image"] = case["image"] * (1 + case["label"])
    return data


@pytest.mark.parametrize("kind", ["neutral", "auto"])
def test_a_texture_is_taken_away_in_training_and_when_weights_are_loaded(
    kind: str, tmp_path: Path
) -> None:
    data = textured(160, 0)
    handler = PlaceHandler(kind, settings=QUICK)
    trainer = trainer_of(handler, data, folder=tmp_path, validation=textured(80, 1))
    trainer.run()
    assert handler.active == "neutral"
    assert handler.neutral is not None
    assert "grey levels made alike" in handler.neutral.name
    image = torch.stack([case["image"] for case in data[:6]])
    network = trainer.network.eval()
    seen = network(image)
    fresh = SmallCNN(2, widths=(4, 8), downsampling="stride").eval()
    for _ in range(2):
        load_weights(fresh, tmp_path / "model.pt")
        torch.testing.assert_close(fresh(image), seen)
    bare = SmallCNN(2, widths=(4, 8), downsampling="stride").eval()
    bare.load_state_dict(network.state_dict())
    torch.testing.assert_close(bare(handler.neutral(image)), seen)
    assert not torch.allclose(bare(image), seen)


def test_without_a_texture_neutral_is_plain_training_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data, validation = cases(160, None, 0), cases(80, None, 1)
    handler = PlaceHandler("neutral", settings=QUICK)
    trainer = trainer_of(handler, data, validation=validation)
    with caplog.at_level(logging.INFO):
        trainer.run()
    assert handler.active is None
    assert "No texture or moving mark" in caplog.text


def test_auto_without_a_shortcut_is_plain_training_bit_for_bit() -> None:
    data, validation = cases(100, None, 0), cases(60, None, 1)
    plain = trainer_of(configured_method("plain"), data, validation=validation)
    plain.run()
    handler = configured_method("auto", {"settings": QUICK})
    auto = trainer_of(handler, data, validation=validation)
    auto.run()
    assert handler.active is None and handler.found.kind == "none"
    assert equal(weights(plain), weights(auto))


def test_auto_with_a_shortcut_says_so_and_tells_the_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, validation = cases(100, 1.0, 0), cases(60, 1.0, 1)
    handler = configured_method(
        "auto", {"settings": QUICK}, places={"directory": tmp_path, "training": data}
    )
    with caplog.at_level(logging.INFO):
        trainer_of(handler, data, folder=tmp_path, validation=validation).run()
    assert handler.active == "place" and handler.mask[MARK].double().mean() > 0.9
    assert "A shortcut was found" in caplog.text
    facts = json.loads((tmp_path / "model.json").read_text())["trained"]["place"]
    assert facts["kind"] == "place" and facts["fill"] == "exchange"
    assert torch.equal(unpacked(facts["mask"]), handler.mask)
    assert np.array_equal(Search.load(tmp_path / "places.npz").place, handler.mask.numpy())


class Killed(BaseException):
    """Ends a run as a signal would, past all handlers."""


@pytest.mark.parametrize("when", ["first round", "between the rounds", "first step", "later"])
def test_resumes_exactly_at_a_kill(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path, kill: bool) -> list[Tensor]:
        exchange = ExchangePlaced()
        data = cases(60, 1.0, 0)
        data.transform = Compose([exchange])
        given = {"training": cases(60, 1.0, 0), "exchange": exchange, "directory": folder}
        handler = PlaceHandler("auto", data=given, settings=QUICK)
        trainer = trainer_of(handler, data, folder=folder, validation=cases(40, 1.0, 1))
        if kill:
            _kill(trainer, when, monkeypatch)
            with pytest.raises(Killed):
                trainer.run()
            monkeypatch.undo()
        else:
            trainer.run()
            assert handler.active == "place"
        return weights(trainer)

    whole = run(tmp_path / "whole", kill=False)
    run(tmp_path / "killed", kill=True)
    assert equal(whole, run(tmp_path / "killed", kill=False))


def _kill(trainer: Any, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    searching = sys.modules["ppi_med.places.search"]

    def raising(*_: Any, **__: Any) -> None:
        raise Killed

    if when == "first round":
        monkeypatch.setattr(searching, "difference_map", raising)
    elif when == "between the rounds":
        original = searching.short_training
        calls = []

        def second(*args: Any, **kwargs: Any) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise Killed
            original(*args, **kwargs)

        monkeypatch.setattr(searching, "short_training", second)
    else:
        count = 1 if when == "first step" else 9
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=count), raising)


def test_a_resumed_search_trains_no_finished_round_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching = sys.modules["ppi_med.places.search"]

    data = cases(60, 1.0, 0)
    given = {"training": data, "validation": cases(40, 1.0, 1), "directory": tmp_path}
    trainer_of(PlaceHandler(data=given, settings=QUICK), data, epochs=1).run()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished round is trained again")

    monkeypatch.setattr(searching, "short_training", refuse)
    trainer_of(PlaceHandler(data=given, settings=QUICK), data, epochs=1).run()
    with pytest.raises(AssertionError, match="trained again"):
        trainer_of(PlaceHandler(data=given, settings=QUICK, seed=5), data, epochs=1).run()


def test_exchange_stands_before_the_augmentation_and_does_nothing_unarmed() -> None:
    exchange = ExchangePlaced()
    case = {"image": torch.rand(1, 24, 24), "label": torch.tensor([1.0])}
    assert exchange(case) == case
    others = [(torch.full((1, 24, 24), float(y)), y) for y in (0, 1, 0)]
    exchange.bank = PlaceBank(place(), others)
    made = exchange(case)["image_exchanged"]
    assert (made[:, place()] == 0).all()
    assert torch.equal(made[:, ~place()], case["image"][:, ~place()])


def test_volumes_get_the_partner_at_equal_b_scans() -> None:
    mask = torch.ones(2, 2, dtype=torch.bool)
    partner = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 2, 2)
    bank = PlaceBank(mask, [(torch.zeros(1, 6, 2, 2), 1), (partner, 0)])
    exchange = ExchangePlaced(num_positions=100)
    exchange.bank = bank
    from ppi_med.networks.multiview import relative_positions

    case: Mapping[str, Any] = {
        "image": torch.zeros(1, 3, 2, 2),
        "label": 1,
        "positions": relative_positions(12)[torch.tensor([0, 5, 11])],
    }
    assert exchange(case)["image_exchanged"][0, :, 0, 0].tolist() == [0.0, 2.0, 5.0]


def test_style_keeps_the_phase_and_takes_spectrum_and_greys() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = nn.functional.avg_pool2d(torch.rand(1, 34, 34, generator=generator), 3, 1)
    rough = 2 + torch.rand(1, 32, 32, generator=generator)
    made = restyled(smooth, spectrum(rough), quantiles(rough))
    assert torch.allclose(quantiles(made), quantiles(rough), atol=0.02)
    own, target = spectrum(smooth)[0, 8:24].mean(), spectrum(rough)[0, 8:24].mean()
    assert abs(spectrum(made)[0, 8:24].mean() - target) < 0.3 * abs(own - target)
    same = restyled(smooth, spectrum(smooth), quantiles(smooth))
    assert torch.allclose(same, smooth, atol=0.03)
    assert StyleBank([(smooth, 0), (rough, 1)]).exchange(smooth, 0, None).mean() > 2


def test_places_are_packed_read_and_refused(tmp_path: Path) -> None:
    mask = torch.rand(13, 7) < 0.3
    assert torch.equal(unpacked(packed(mask)), mask)
    with pytest.raises(UsageError, match="cannot be read"):
        unpacked({"shape": [4, 4], "bits": "***"})
    np.save(tmp_path / "a.npy", mask.numpy())
    np.savez(tmp_path / "a.npz", place=mask.numpy())
    assert torch.equal(read_place(tmp_path / "a.npy"), mask)
    assert torch.equal(read_place(tmp_path / "a.npz"), mask)
    (tmp_path / "b.npz").write_bytes(b"no")
    for path, said in ((tmp_path / "b.npz", "holds no place"), (tmp_path / "c.npz", "No place")):
        with pytest.raises(UsageError, match=said):
            read_place(path)
    with pytest.raises(UsageError, match="nothing to exchange"):
        read_place(torch.zeros(3, 3))
    with pytest.raises(UsageError, match="search again"):
        Blank(mask)(nn.Identity(), (torch.zeros(1, 1, 5, 5),))


def test_methods_by_name() -> None:
    for name in ("ppi_wbp_place", "ppi_wbp_place_coin", "ppi_wbp_style", "auto"):
        assert name in METHODS and isinstance(configured_method(name), PlaceHandler)
    assert configured_method("ppi_wbp_place_blind").fill == "blind"
    assert mask_name("auto") == "auto"
    assert mask_name("ppi_wbp_place_coin") == "place"
    with pytest.raises(UsageError, match="expected one of"):
        configured_method("ppi_wbp_place", {"step": "both"})


def test_without_validation_images_some_are_held_back(caplog: pytest.LogCaptureFixture) -> None:
    handler = PlaceHandler("auto", settings=QUICK)
    with caplog.at_level(logging.INFO):
        trainer_of(handler, cases(120, 1.0, 0), epochs=1).run()
    assert "holds back each fourth patient" in caplog.text
    assert handler.active == "place"


def test_a_patient_is_on_one_side_of_each_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the validation part that is held back, and of the folds that judge a texture."""
    seen: list[Any] = []

    def searched(train: Any, validation: Any, *rest: Any, **options: Any) -> Any:
        seen.extend((train, validation))
        raise KeyboardInterrupt

    monkeypatch.setattr("ppi_med.handlers.places.search", searched)
    data = cases(48, 1.0, 0)
    for number, case in enumerate(list.__iter__(data)):
        case["patient_id"] = f"p{number // 3}"
    handler = PlaceHandler("auto", data={"training": data}, settings=QUICK)
    with pytest.raises(KeyboardInterrupt):
        trainer_of(handler, data, epochs=1).run()
    train, validation = seen
    assert (len(train.label), len(validation.label)) == (36, 12)
    for part in seen:
        assert part.patient.tolist() == [k // 3 for k in range(len(part.label))]
    whose = [{float(image.sum()) for image in part.image} for part in seen]
    held = {float(data[k]["image"].sum()) for k in range(48) if k // 3 % 4 == 3}
    assert whose[1] == held and not whose[0] & held


def test_a_search_reads_as_many_cases_as_its_memory_holds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = "ppi_med.handlers.places"
    caplog.set_level(logging.INFO)
    data = cases(30, 1.0, 0)
    monkeypatch.setattr(f"{module}._LEAST_CASES", 5)
    monkeypatch.setattr(f"{module}._MOST_BYTES", 12 * 4 * data[0]["image"].numel())
    one, two, other = (_stack(data, seed).stack for seed in (0, 0, 1))
    assert len(one.label) == 12 and torch.equal(one.image, two.image)
    assert not torch.equal(one.image, other.image)
    assert "The search reads 12 of 30 cases, drawn at random." in caplog.text
    assert len(_stack(iter(data), 0).stack.label) == 30
