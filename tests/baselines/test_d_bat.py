"""D-BAT: its loss written out, two networks in one training, exact resume, and refusals."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset
from monai.transforms import RandGaussianNoised
from torch import Tensor, nn

from ppi_med.baselines.d_bat import DBat, agreement
from ppi_med.data.datalist import Unlabelled
from ppi_med.errors import UsageError
from ppi_med.evaluation.metrics import AUC
from ppi_med.handlers import BestCheckpoint, EarlyStop
from ppi_med.handlers.methods import configured_method
from ppi_med.training.modes import running_statistics_kept
from tests.handlers.ppi.trainers import batches, network, trainer
from tests.handlers.test_places import Cases, Killed, cases, equal, trainer_of, weights


def slow_agreement(first: Tensor, second: Tensor) -> Tensor:
    """A of one image, from probabilities."""
    p, q = first.softmax(0), second.softmax(0)
    k = max(range(len(p)), key=p.tolist().__getitem__)
    return -(p[k] * (1 - q[k]) + (1 - p[k]) * q[k]).log()


@pytest.mark.parametrize("classes", [2, 3])
def test_equal_to_two_trainings_by_hand(classes: int) -> None:
    """One epoch for h1, three for h2; its unlabelled batch is always all six images."""
    data = batches(4, classes=classes)
    unlabelled = batches(1, classes=classes, seed=9)[0]["image"]

    def by_hand(net: nn.Module, epochs: int, first: nn.Module | None) -> nn.Module:
        optimizer = torch.optim.SGD(net.train().parameters(), lr=0.05, momentum=0.9)
        for batch in data * epochs:
            loss = nn.functional.cross_entropy(net(batch["image"]), batch["label"])
            if first is not None:
                with torch.no_grad():
                    one = first(unlabelled)
                with running_statistics_kept(net):
                    two = net(unlabelled)
                terms = [slow_agreement(a, b) for a, b in zip(one, two, strict=True)]
                loss = loss + 0.7 * sum(terms) / len(terms)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return net

    first = by_hand(network(classes=classes), 1, None).eval()
    expected = by_hand(network(classes=classes), 3, first)
    net = network(classes=classes)
    handler = DBat(alpha=0.7, unlabelled=[{"image": x} for x in unlabelled])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    run = trainer(net, data, [handler], max_epochs=4, optimizer=optimizer)
    seen: list[Any] = []
    run.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: seen.append(e.state.output.get("loss/d_bat"))
    )
    run.run()
    assert [value is None for value in seen] == [True] * 4 + [False] * 12
    for one, other in ((handler.frozen, first), (net, expected)):
        assert one is not None
        for key, value in other.state_dict().items():
            torch.testing.assert_close(one.state_dict()[key], value, rtol=1e-9, atol=1e-11)


def test_agreement_is_that_of_the_two_class_formula_and_never_infinite() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 9, 1, generator=generator, dtype=torch.float64).mul(3)
    p, q = first.sigmoid(), second.sigmoid()
    expected = -((1 - p) * q + p * (1 - q)).log()
    torch.testing.assert_close(agreement(first, second), expected[:, 0])
    both = [torch.cat([torch.zeros_like(z), z], 1) for z in (first, second)]
    torch.testing.assert_close(agreement(*both), expected[:, 0])
    sure = torch.tensor([[500.0, 0.0, 0.0]], requires_grad=True)
    found = agreement(torch.tensor([[500.0, 0.0, 0.0]]), sure)
    found.sum().backward()
    assert sure.grad is not None
    assert found.isfinite().all() and sure.grad.isfinite().all() and sure.grad[0, 0] > 0.5


def plainly_marked(count: int, marked: float, seed: int) -> Cases:
    """Images whose mark is so plain that the first network looks at nothing else."""
    found = cases(count, marked, seed)
    for case in list.__iter__(found):
        case["image"][:, 2:6, 15:21] *= 3
    return found


def test_contradicts_the_mark_where_it_goes_with_the_class_by_chance() -> None:
    handler = configured_method("d_bat", places={"unlabelled": plainly_marked(160, 0.5, 90)})
    run = trainer_of(handler, plainly_marked(160, 1.0, 0), epochs=16)
    run.run()
    test = plainly_marked(200, 0.5, 50)
    found = []
    for net in (handler.frozen, run.network.eval()):
        score = net(torch.stack([case["image"] for case in test])).detach().diff(dim=1)
        found.append(float(AUC([case["label"] for case in test], score[:, 0].numpy())))
    assert found[0] < 0.8 and found[1] > 0.9, found


@pytest.mark.parametrize("when", [2, 10, 11, 17])
def test_resumes_exactly(when: int, tmp_path: Path) -> None:
    """Killed in the epochs of h1, at their end, in the first step of h2, later."""

    def run(folder: Path, kill: bool) -> tuple[list[Tensor], list[Tensor]]:
        noise = RandGaussianNoised(keys="image", prob=1.0)
        unlabelled = Dataset(list(cases(12, 0.5, 3)), noise)
        handler = DBat(first=0.5, unlabelled=unlabelled)
        made = trainer_of(handler, cases(40, 1.0, 0), epochs=4, folder=folder)
        if kill:

            def raising() -> None:
                raise Killed

            made.add_event_handler(Events.ITERATION_COMPLETED(once=when), raising)
            with pytest.raises(Killed):
                made.run()
        else:
            made.run()
        first = [] if handler.frozen is None else list(handler.frozen.state_dict().values())
        return weights(made), first

    whole = run(tmp_path / "whole", kill=False)
    run(tmp_path / "killed", kill=True)
    resumed = run(tmp_path / "killed", kill=False)
    assert equal(whole[0], resumed[0]) and equal(whole[1], resumed[1])
    assert not equal(whole[0], whole[1])


def test_no_epoch_of_the_first_network_is_the_best(tmp_path: Path) -> None:
    from monai.engines import SupervisedEvaluator
    from monai.handlers import ValidationHandler

    data = cases(40, 1.0, 0)
    run = trainer_of(DBat(first=0.5, unlabelled=cases(8, 0.5, 3)), data, epochs=4)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(data, batch_size=10),
        network=run.network,
    )
    best = BestCheckpoint(run.network, tmp_path / "model.pt")
    best.attach(evaluator)

    def measure() -> None:
        evaluator.state.metrics["val/auc"] = 1 - 0.1 * run.state.epoch
        if run.state.epoch == 2:
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.9, 1

    evaluator.add_event_handler(Events.STARTED, measure)
    ValidationHandler(1, evaluator).attach(run)
    EarlyStop(evaluator, patience=2).attach(run)
    run.run()
    assert run.state.epoch == 4 and best.epoch == 3
    assert evaluator.state.best_metric == evaluator.state.best_metric_epoch == -1


def test_without_images_or_epochs_it_refuses() -> None:
    data = cases(16, 1.0, 0)
    with pytest.raises(UsageError, match="needs images without labels"):
        trainer_of(configured_method("d_bat"), data).run()
    with pytest.raises(UsageError, match="give 2 or more"):
        trainer_of(DBat(unlabelled=data), data, epochs=1).run()
    with pytest.raises(UsageError, match="between 0 and 1"):
        configured_method("d_bat", {"first": 1.0})


def test_all_parts_of_a_folder_are_read_and_no_label(tmp_path: Path) -> None:
    parts = {
        "training": [{"image": "a.png", "label": 1}],
        "validation": [],
        "test": [{"image": "b.png", "label": 0}],
        "unassigned": [{"image": "c.png"}],
    }
    own = tmp_path / "datalist.json"
    own.write_text(json.dumps(parts), encoding="utf-8")
    reader = Unlabelled(None, own, dict)
    assert [(Path(i["image"]).name, i["label"]) for i in reader.items()] == [("c.png", 0)]
    everything = Unlabelled(str(tmp_path), own, dict)()
    assert [(Path(i["image"]).name, i["label"]) for i in everything] == [
        ("a.png", 0),
        ("b.png", 0),
        ("c.png", 0),
    ]
    own.write_text(json.dumps({**copy.deepcopy(parts), "unassigned": []}), encoding="utf-8")
    with pytest.raises(UsageError, match="unassigned.*--unlabelled"):
        reader.items()
    with pytest.raises(UsageError, match="No datalist"):
        Unlabelled(str(tmp_path / "nowhere"), own, dict).items()


@pytest.mark.slow
def test_a_bundle_reads_another_folder_and_refuses_without_one(tmp_path: Path) -> None:
    from tests.bundles.tiny import make_phantom, run_bundle, settings

    data = make_phantom(tmp_path / "data")
    options = settings(data, tmp_path / "out", method="d_bat")
    run_bundle("train.json", {**options, "unlabelled": str(data)})
    assert json.loads((tmp_path / "out/run/model.json").read_text())["epoch"] == 2
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        run_bundle("train.json", options)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UsageError):
        cause = cause.__cause__
    assert "name a converted folder of another site" in str(cause)


@pytest.mark.slow
def test_a_bundle_of_photographs_reads_another_folder(tmp_path: Path) -> None:
    from ppi_med.experiments.cells import config_files, run_bundle
    from ppi_med.phantoms.birds.spec import BirdPhantomSpec
    from ppi_med.phantoms.birds.write import make_bird_phantom
    from tests.bundles.test_photo_bundles import ROOT, settings

    spec = BirdPhantomSpec(classes=3, training=24, test=4, size=32)
    make_bird_phantom(spec, tmp_path / "data", validation=0.3)
    small = {"max_epochs": 2, "batch_size": 4, "image_size": [32, 32]}
    run_bundle(
        config_files(ROOT / "bundles" / "cxr_ppi"),
        {
            **settings(tmp_path / "data", tmp_path / "out"),
            **small,
            "method": "d_bat",
            "unlabelled": str(tmp_path / "data" / "datalist.json"),
        },
    )
    assert json.loads((tmp_path / "out/run/model.json").read_text())["epoch"] == 2
