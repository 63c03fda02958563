"""`paper.json` is the paper's own method with the paper's own weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ppi_med.handlers import PPIHandler
from ppi_med.handlers.methods import training_method
from ppi_med.intervention import SoftMask, TopKMask

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def of_paper(bundle: str) -> dict[str, Any]:
    found = json.loads((BUNDLES / bundle / "paper.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_every_bundle_that_trains_as_the_paper_is_listed() -> None:
    found = {path.parent.name for path in BUNDLES.glob("*/paper.json")}
    assert {name for name in found if "method" in of_paper(name)} == {
        "ga_ppi",
        "lidc_ppi",
        "cifar10_ppi",
        "cub_ppi",
    }


@pytest.mark.parametrize(
    ("bundle", "w1"), [("ga_ppi", 1.0), ("lidc_ppi", 10.0), ("cifar10_ppi", 1.0)]
)
def test_method_and_weights(bundle: str, w1: float) -> None:
    paper = of_paper(bundle)
    handler = training_method(paper["method"], **paper["method_options"])
    assert isinstance(handler, PPIHandler)
    assert isinstance(handler.terms.mask, SoftMask)
    assert weights(handler, epoch=1) == (w1, 0.1, 1.0)
    assert paper["method_options"]["reg_per"] == "element"


def test_the_birds_first_contrast_grows_a_hundredfold_after_epoch_20() -> None:
    paper = of_paper("cub_ppi")
    handler = training_method(paper["method"], **paper["method_options"])
    assert isinstance(handler, PPIHandler) and isinstance(handler.terms.mask, TopKMask)
    assert weights(handler, epoch=20) == pytest.approx((0.01, 0.1, 1.0))
    assert weights(handler, epoch=21) == pytest.approx((1.0, 0.1, 1.0))


def weights(handler: PPIHandler, epoch: int) -> tuple[float, float, float]:
    found = [handler.terms.weights[name](epoch, 1) for name in ("con", "reg", "ad")]
    return (float(found[0]), float(found[1]), float(found[2]))
