"""Cases of K classes, what their maps say of the boxes, and the summary, each by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines import SupervisedEvaluator
from sklearn.metrics import accuracy_score
from torch import nn

from ppi_med.handlers import Accuracy, ClassCases, ClassPictures, ClassSummary
from ppi_med.handlers.held_out_summary import summarise_cases
from ppi_med.handlers.predictions import measure_maps
from ppi_med.saliency import GradientTimesInput


class Pixels(nn.Module):
    """Three logits: the sums of three columns."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.sum((1, 2)) * self.weight


def loader(n: int = 7, batch: int = 3) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(n, 1, 4, 3, generator=generator)
    box = torch.zeros(n, 1, 4, 3, dtype=torch.bool)
    box[:, :, :2] = True
    box[-1] = False
    data = {
        "image": image,
        "label": torch.arange(n) % 3,
        "box": box,
        "volume_id": [f"v{9 - i}" for i in range(n)],
        "site": ["a", "b"] * n,
    }
    return [{k: v[i : i + batch][: n - i] for k, v in data.items()} for i in range(0, n, batch)]


def evaluate(handlers: list[Any], decollate: bool = False, **changes: Any) -> SupervisedEvaluator:
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=changes.get("data", loader()),
        network=changes.get("network", Pixels()),
        key_val_metric={"test/accuracy": Accuracy()},
        val_handlers=handlers,
        decollate=decollate,
    )
    evaluator.run()
    return evaluator


@pytest.mark.parametrize("decollate", [False, True])
def test_accuracy_and_cases(tmp_path: Path, decollate: bool) -> None:
    evaluator = evaluate([ClassCases(tmp_path / "cases.csv")], decollate)
    image = torch.cat([b["image"] for b in loader()])
    label = torch.cat([b["label"] for b in loader()])
    logits = image.sum((1, 2))
    expected = accuracy_score(label, logits.argmax(1))
    assert evaluator.state.metrics["test/accuracy"] == pytest.approx(expected)
    with (tmp_path / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["volume_id"] for r in rows] == sorted(r["volume_id"] for r in rows)
    by_name = {r["volume_id"]: r for r in rows}
    for i in range(7):
        row = by_name[f"v{9 - i}"]
        assert (int(row["label"]), int(row["predicted"])) == (label[i], logits[i].argmax())
        assert float(row["score"]) == pytest.approx(float(logits[i].softmax(0)[label[i]]), rel=1e-4)
        assert row["site"] == "ab"[i % 2] if i < 3 else True
    assert "energy_all" not in rows[0]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_single_logit_says_its_sign(shape: tuple[int, ...]) -> None:
    metric = Accuracy()
    metric.update((torch.tensor([2.0, -1.0, -3.0]).reshape(shape), torch.tensor([1, 1, 0])))
    assert metric.compute() == pytest.approx(2 / 3)


def test_maps_are_measured_where_there_is_a_box(tmp_path: Path) -> None:
    network = Pixels()
    network.train()
    cases = ClassCases(tmp_path / "c.csv", network, GradientTimesInput(), top=2)
    evaluator = evaluate([cases], network=network)
    assert network.training and network.weight.grad is None
    rows = {row["volume_id"]: row for row in evaluator.state.cases}
    assert "energy_all" not in rows["v3"]  # an empty box
    image, label = loader()[0]["image"][0, 0], int(loader()[0]["label"][0])
    column = image[:, label]
    assert rows["v9"]["energy_all"] == pytest.approx(float(column[:2].sum() / column.sum()))
    highest = column.topk(2)
    inside = sum(float(v) for v, i in zip(*highest, strict=True) if i < 2)
    assert rows["v9"]["energy_top"] == pytest.approx(inside / float(highest.values.sum()))
    assert rows["v9"]["pointing"] == float(int(column.argmax()) < 2)
    assert rows["v9"]["box_area"] == pytest.approx(0.5)
    with (tmp_path / "c.csv").open() as file:
        written = {row["volume_id"]: row for row in csv.DictReader(file)}
    assert float(written["v9"]["energy_all"]) == pytest.approx(rows["v9"]["energy_all"], rel=1e-5)


def test_channels_may_cancel_and_what_is_against_does_not_count() -> None:
    maps = torch.tensor([[[[2.0, 1.0, -5.0]], [[-1.0, 1.0, 0.0]]]])
    mask = torch.tensor([[[True, False, False]]])
    found = measure_maps(maps, mask, top=1)[0]
    assert found["energy_all"] == pytest.approx(1 / 3) and found["energy_top"] == 0.0
    assert found["pointing"] == 0.0


def test_a_map_of_nothing_has_no_energy() -> None:
    found = measure_maps(torch.zeros(1, 1, 1, 2), torch.tensor([[[True, False]]]), top=1)[0]
    assert math.isnan(found["energy_all"]) and found["pointing"] == 0.5


def row(label: int, predicted: int, site: str, **measures: float) -> dict[str, Any]:
    return {"label": label, "predicted": predicted, "site": site, **measures}


def test_the_summary_by_site() -> None:
    rows = [
        row(0, 0, "tied", energy_all=0.5),
        row(1, 1, "tied", energy_all=math.nan),
        row(0, 1, "swapped", energy_all=0.1),
        row(1, 1, "swapped"),
    ]
    found = summarise_cases(rows)
    assert found["test/accuracy"] == 0.75
    assert found["test/accuracy/tied"] == 1.0 and found["test/accuracy/swapped"] == 0.5
    assert found["test/energy_all"] == pytest.approx(0.3) and "test/pointing" not in found
    assert (found["cases"], found["classes"]) == (4, 2)
    assert "test/accuracy/tied" not in summarise_cases(rows[:2])
    with pytest.raises(ValueError, match="no cases"):
        summarise_cases([])


def test_the_interval_of_the_accuracy_by_its_definition() -> None:
    """Its ends are where the share is 1.96 standard errors away, by the errors of the ends."""

    def interval(right: int, cases: int) -> tuple[float, float]:
        rows = [row(0, int(number >= right), "a") for number in range(cases)]
        found = summarise_cases(rows)
        return found["test/accuracy_low"], found["test/accuracy_high"]

    for end in interval(30, 80):
        assert abs(30 / 80 - end) / math.sqrt(end * (1 - end) / 80) == pytest.approx(1.96, abs=1e-3)
    assert interval(0, 5)[0] >= 0 and interval(5, 5)[1] <= 1


def test_summary_and_pictures_are_written(tmp_path: Path) -> None:
    network = Pixels()
    handlers = [
        ClassCases(None, network, GradientTimesInput()),
        ClassPictures(tmp_path / "p", network, GradientTimesInput(), images=4),
        ClassSummary(tmp_path / "test.json"),
    ]
    evaluate(handlers, network=network)
    written = json.loads((tmp_path / "test.json").read_text())
    assert written["cases"] == 7 and 0 <= written["test/energy_all"] <= 1
    assert (tmp_path / "p/maps.png").stat().st_size > 1000


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(ValueError, match="network"):
        ClassCases(method=GradientTimesInput())
    without = [{k: v for k, v in b.items() if k != "volume_id"} for b in loader()]
    with pytest.raises(KeyError, match="volume_id"):
        evaluate([ClassCases()], data=without)
    cases = ClassCases()
    evaluator = evaluate([cases])
    with pytest.raises(RuntimeError, match="once"):
        cases.attach(evaluator)
