"""Equal to Quantus where it has the same measure: pixel flipping, pointing game, mass.

Quantus is not in the test extra, since it wants another build of OpenCV. Where it is missing, these
tests and the page of Quantus run in an environment of their own, which borrows the other libraries.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ppi_med.evaluation.faithfulness import deletion_curve
from ppi_med.evaluation.localisation import energy_inside, pointing_game
from ppi_med.evaluation.sanity import rank_correlation
from tests.environments import PIP, borrow_libraries, make_environment, run

ROOT = Path(__file__).resolve().parents[2]
SIDE, STEP = 8, 8


@pytest.fixture(scope="module")
def quantus() -> Any:
    return pytest.importorskip("quantus", reason="quantus is not installed")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, 3)
    ).eval()


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images, targets, maps of 0 or more, masks of a box."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(5, 1, SIDE, SIDE, generator=generator)
    values = torch.rand(5, SIDE, SIDE, generator=generator)
    mask = torch.zeros(5, SIDE, SIDE, dtype=torch.bool)
    mask[:, 2:6, 1:5] = True
    return image, torch.tensor([0, 1, 2, 1, 0]), values, mask


def evaluate(metric: Any, **options: Any) -> Any:
    image, target, values, mask = batch()
    return metric(
        model=network(),
        x_batch=image.numpy(),
        y_batch=target.numpy(),
        a_batch=values.unsqueeze(1).numpy(),
        s_batch=mask.unsqueeze(1).numpy(),
        device="cpu",
        **options,
    )


def plain(metric: Any, **options: Any) -> Any:
    return metric(normalise=False, abs=False, disable_warnings=True, **options)


def test_deletion(quantus: Any) -> None:
    metric = plain(quantus.PixelFlipping, features_in_step=STEP, perturb_baseline="black")
    metric.perturb_func_kwargs = {}
    metric.perturb_func = zeroed
    expected = np.array(evaluate(metric, softmax=True))
    image, target, values, _ = batch()
    counts = range(STEP, SIDE * SIDE + 1, STEP)
    found = deletion_curve(network(), image, target, values, counts=list(counts))
    assert np.allclose(found.scores[:, 1:].numpy(), expected, atol=1e-6)


def zeroed(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
    """Replace by 0; its "black" is the least value of the image."""
    changed = arr.copy()
    np.put_along_axis(changed, indices, 0.0, axis=1)
    return changed


def test_pointing_game(quantus: Any) -> None:
    expected = evaluate(plain(quantus.PointingGame))
    _, _, values, mask = batch()
    found = pointing_game(values, mask)
    assert found.tolist() == [float(hit) for hit in expected]
    assert 0 < found.sum() < 5


def test_energy_inside(quantus: Any) -> None:
    expected = evaluate(plain(quantus.RelevanceMassAccuracy))
    _, _, values, mask = batch()
    assert np.allclose(energy_inside(values, mask).numpy(), expected, atol=1e-6)


def test_rank_correlation(quantus: Any) -> None:
    from quantus.functions.similarity_func import correlation_spearman

    _, _, values, _ = batch()
    others = values + torch.rand(values.shape, generator=torch.Generator().manual_seed(2))
    found = rank_correlation(values, others)
    for a, b, mine in zip(values, others, found, strict=True):
        expected = correlation_spearman(a.flatten().numpy(), b.flatten().numpy())
        assert float(mine) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """The tests that need Quantus are run, not skipped."""
    if importlib.util.find_spec("quantus"):
        pytest.skip("quantus is installed: the tests run here")
    python = make_environment(tmp_path / "env")
    pip = (*PIP, "--python", python, "install", "-q", "--no-deps", "quantus==0.6.0")
    if run(*pip, cwd=tmp_path, check=False).returncode:
        pytest.skip("no package index has quantus 0.6.0")
    borrow_libraries(python)
    files = ("tests/evaluation/test_quantus.py", "tests/saliency/test_adapters.py")
    chosen = ("-q", "-p", "no:cacheprovider", "-k", "quantus", "-m", "not slow")
    said = run(python, "-m", "pytest", *chosen, *files, cwd=ROOT).stdout
    assert "6 passed" in said and "skipped" not in said, said
