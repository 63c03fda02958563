"""The data alone: the quick ridge against a slow one, marks found, noise let alone."""

from __future__ import annotations

import numpy as np
import pytest

from ppi_med.audit.evidence import Collector, Evidence, _coded, _FoldRidge, _Judge
from ppi_med.audit.pixels import Loaded, Scale
from ppi_med.audit.sources import folds
from tests.audit.conftest import SIDE, pictures


def evidence(images: np.ndarray, label: np.ndarray, **header: np.ndarray) -> Evidence:
    scale = Scale((SIDE, SIDE), 1, 1, 0.0, 255.0, 10_000)
    collector = Collector(scale)
    for number, image in enumerate(images):
        pixels = image[None, ..., None].astype(np.float32)
        facts = {name: values[number].item() for name, values in header.items()}
        collector.add(Loaded(pixels, facts), scale.slices(pixels))
    return collector.evidence(label, [f"p{n}" for n in range(len(label))])


def test_the_quick_ridge_is_the_slow_one() -> None:
    rng = np.random.default_rng(0)
    values, label = rng.normal(size=(60, 12)), np.arange(60) % 2
    fold = folds(label, [f"p{n}" for n in range(60)], 5)
    target = label[:, None].astype(float)
    mask = np.arange(12) % 3 != 0
    slow = np.zeros((60, 1))
    for k in range(5):
        train = fold != k
        x, y = values[train][:, mask], target[train]
        mean = x.mean(0)
        gram = (x - mean).T @ (x - mean)
        gram += 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram))
        w = np.linalg.solve(gram, (x - mean).T @ (y - y.mean()))
        slow[~train] = (values[~train][:, mask] - mean) @ w + y.mean()
    np.testing.assert_allclose(_FoldRidge(values, target, fold).scores(mask), slow, atol=1e-9)


def test_a_mark_in_a_corner_is_a_shortcut() -> None:
    found = evidence(*pictures(160, mark=1.0))
    assert {"ring", "corners"} <= set(found.reasons)
    assert found.cells[0, 0] > 0.95 and abs(found.cells[6, 6] - 0.5) < 0.2
    assert np.all(found.cells_low <= found.cells) and np.all(found.cells <= found.cells_high)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_blob_in_the_middle_is_none(seed: int) -> None:
    found = evidence(*pictures(160, mark=None, seed=seed))
    assert found.reasons == ()
    measure = {m.name: m for m in found.measures}
    assert measure["ring"].low < 0.6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_tells_nothing(seed: int) -> None:
    images, _ = pictures(160, mark=None, seed=seed)
    label = np.random.default_rng(seed).permutation(np.arange(160) % 2)
    found = evidence(images, label, width=np.random.default_rng(9).integers(0, 90, 160))
    assert all(m.level == "none" and m.low < 0.55 for m in found.measures)


def test_a_header_value_is_a_shortcut_by_itself() -> None:
    images, label = pictures(160, mark=None)
    rng = np.random.default_rng(0)
    maker = np.where((rng.random(160) < 0.95) == (label == 1), "Acme", "Other")
    found = evidence(images, label, maker=maker, bits=np.full(160, 8))
    assert found.reasons == ("maker",)
    assert "bits" not in {m.name for m in found.measures}


def test_more_than_two_classes() -> None:
    images, _ = pictures(180, mark=None)
    label = np.arange(180) % 3
    images[label == 2, :3, :3] = 255
    images[label == 1, -3:, -3:] = 255
    assert "ring" in evidence(images, label).reasons


def test_numbers_are_put_in_bins_and_what_is_unknown_has_its_own() -> None:
    codes = _coded([*map(float, range(80)), None])
    assert codes is not None and codes[-1] == 0 and set(codes[:-1]) == set(range(1, 9))
    assert _coded(["a"] * 4) is None


def test_a_patients_images_do_not_predict_each_other() -> None:
    """Pixels that name the patient and say nothing else: patient-wise they are chance."""
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(30), 4)
    label = (np.arange(30) % 2)[patient]
    values = rng.normal(size=(30, 25))[patient] + 0.01 * rng.normal(size=(120, 25))
    judge = _Judge(label, [str(p) for p in patient])
    assert judge.interval(judge.ridge(values, 0.1))[0] < 0.7
