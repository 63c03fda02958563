"""Answers about patches: the table, the arrays, the pages, and what is unlike the training."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from torch import nn

from ppi_med.errors import UsageError
from ppi_med.handlers import PatchAnswers
from ppi_med.io import exclusive
from ppi_med.places import Account


class Positive:
    """A map that is the image where it is positive."""

    def __call__(self, network: Any, image: torch.Tensor, target: Any) -> torch.Tensor:
        return image.clamp(min=0)


def run(folder: Path, **options: Any) -> list[dict[str, str]]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

    def step(engine: Engine, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"image": batch["image"], "pred": network(batch["image"]).detach()}

    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 1, 8, 8, generator=generator).cumsum(3) / 4
    images[3] = 0
    batch = {
        "image": images,
        "volume_id": ["a", "b", "c", "d"],
        "subject": ["s1", "s1", "<b>s2", "s3"],
        "site": ["x", "y", "x", "x"],
    }
    engine = Engine(step)
    PatchAnswers(network, Positive(), folder, **options).attach(engine)
    engine.run([batch])
    with (folder / "answers.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_warns_of_an_empty_patch(tmp_path: Path) -> None:
    rows = run(tmp_path)
    assert [bool(row["warning"]) for row in rows] == [False, False, False, True]
    assert "empty" in rows[3]["warning"] and not (tmp_path / "reports").exists()
    assert np.load(tmp_path / "maps.npz")["map"].shape == (4, 8, 8)


@pytest.mark.parametrize("maps", [True, False])
def test_a_page_a_subject(tmp_path: Path, maps: bool) -> None:
    rows = run(tmp_path, report=True, maps=maps, pixel_mm=0.8, notes=("a phantom",))
    pages = sorted((tmp_path / "reports").iterdir())
    assert len(pages) == 3 and (tmp_path / "maps.npz").exists() == maps
    page = (tmp_path / "reports" / "s1.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])  # type: ignore[index]
    assert data["spacing"] == [0.8, 0.8, None] and data["titles"] == ["a", "b"]
    assert data["probabilities"] == [float(row["probability"]) for row in rows[:2]]
    assert data["weights"] is None and data["front"] is None and len(data["points"]) == 2
    assert "CT report" in page and "a phantom" in page and "B-scan" not in page
    assert not any("<b>s2" in path.read_text() for path in pages)
    assert "unlike the data of the training" in (tmp_path / "reports" / "s3.html").read_text()


def test_the_page_outlines_the_place_of_a_shortcut(tmp_path: Path) -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[0, :2] = True
    facts = Account("place", "place", j_net=0.5, j=(0.4,), mask=mask).facts()
    run(tmp_path, report=True, place=facts)
    page = (tmp_path / "reports" / "s1.html").read_text()
    assert "M0 0h2M0 1h2M0 0v1M2 0v1" in page and "J_net 0.50, J 0.40" in page


def test_two_inferences_into_one_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path, "inference"), pytest.raises(UsageError, match="Another inference"):
        run(tmp_path)
    assert len(run(tmp_path)) == len(run(tmp_path)) == 4
    assert not (tmp_path / ".lock").exists()
