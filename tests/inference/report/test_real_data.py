"""A report on a real volume, opened: it stays usable at full size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ppi_med.inference import infer_volume, write_outputs
from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import WBP
from tests.inference.report.opened import opened

pytestmark = [pytest.mark.data, pytest.mark.browser]


def test_spectralis(browser: Any, tmp_path: Path, data_root: Path) -> None:
    torch.manual_seed(0)
    network = MultiViewClassifier(backbone_options={"widths": (4, 8)}, delta=0.5)
    result = infer_volume(network, data_root / "oct_spectralis", WBP(), size=(64, 96))
    write_outputs(result, tmp_path)
    with opened(browser, tmp_path / "report.html") as view:
        assert view.page.locator(".weights .bar").count() == 145
        seen = set()
        for number in (0, 72, 144):
            view.page.fill("#slider", str(number + 1))
            assert view.number() == number
            seen.add(view.grey())
        assert len(seen) > 1
        assert view.page.inner_text("#bar-x") == "1 mm"
        assert "0.011182 mm" in view.page.inner_text("#facts")
