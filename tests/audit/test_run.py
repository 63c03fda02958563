"""The command from a folder to its files: a mark is named, clean data are left alone."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from ppi_med.audit import audit
from ppi_med.audit.network import clusters
from ppi_med.audit.page import build_page
from ppi_med.audit.result import Audit
from ppi_med.audit.write import report_lines
from ppi_med.cli import app
from ppi_med.data.datalist import load_parts
from ppi_med.errors import UsageError
from ppi_med.places import ImageStack, SearchSettings
from ppi_med.places.decision import accepted_place
from tests.audit.conftest import SIDE, pictures, write_csv, write_pictures

QUICK = SearchSettings(steps=(60, 60), repeats=50)
NASTY = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Audit, Path]:
    root = tmp_path_factory.mktemp("marked")
    table = write_pictures(root / "data", count=160, mark=1.0)
    text = table.read_text(encoding="utf-8").replace(
        ",ill,", f',"{NASTY.replace(chr(34), chr(34) * 2)}",'
    )
    table.write_text(text, encoding="utf-8")
    return audit(table, root / "out", settings=QUICK), root / "out"


def test_a_mark_is_a_shortcut_with_a_place(marked: tuple[Audit, Path]) -> None:
    found, out = marked
    written = json.loads((out / "audit.json").read_text())
    assert written["shortcut"] is True and written["kind"] == "place"
    assert written["recommended_method"] == "ppi_wbp_place"
    first = written["places"][0]
    assert first["accepted"] and first["j"] > 0.25 and 0 < first["share"] < 0.2
    assert first["exchange"]["other"] < first["exchange"]["same"] - 0.2
    assert written["j_net"] >= 0.3 and written["j_net_interval"][0] <= written["j_net"]
    ring = next(m for m in written["data_alone"]["measures"] if m["name"] == "ring")
    assert ring["level"] == "shortcut" and ring["low"] <= ring["auc"] <= ring["high"]
    assert found.class_means.shape[0] == 2


def test_the_place_is_the_mark(marked: tuple[Audit, Path]) -> None:
    _, out = marked
    place = accepted_place(out / "decision.yaml")
    assert place.shape == (SIDE, SIDE)
    assert place[2:4, 2:4].all() and not place[12:, 12:].any()


def test_a_person_decides(marked: tuple[Audit, Path], tmp_path: Path) -> None:
    _, out = marked
    content = yaml.safe_load((out / "decision.yaml").read_text())
    for place in content["places"]:
        place["accepted"] = False
    content["clusters"][0]["accepted"] = True
    (tmp_path / "places.npz").write_bytes((out / "places.npz").read_bytes())
    path = tmp_path / "decision.yaml"
    path.write_text(yaml.safe_dump(content))
    with np.load(out / "places.npz") as file:
        assert (accepted_place(path) == file["clusters"][0]).all()
    content["clusters"].pop()
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match="change only the values of `accepted`"):
        accepted_place(path)
    path.write_text("places: 3")
    with pytest.raises(UsageError, match="is no decision of an audit"):
        accepted_place(path)


def test_the_datalist_is_one_that_a_bundle_reads(marked: tuple[Audit, Path]) -> None:
    _, out = marked
    train = load_parts(out / "datalist.json", "training")
    held = load_parts(out / "datalist.json", "validation")
    test = load_parts(out / "datalist.json", "test")
    assert len(train) + len(held) + len(test) == 160
    whose = [{i["subject"] for i in part} for part in (train, held, test)]
    assert not whose[0] & whose[1] and not whose[0] & whose[2] and not whose[1] & whose[2]


def test_the_command_is_one_line_for_a_shell(marked: tuple[Audit, Path]) -> None:
    found, out = marked
    words = shlex.split(found.command)
    assert words[words.index("--method") + 1] == "ppi_wbp_place"
    assert words[words.index("--image_size") + 1] == f"[{SIDE}, {SIDE}]"
    assert words[-1] == f"{{'place': '{out / 'decision.yaml'}'}}"


def test_every_name_is_escaped(marked: tuple[Audit, Path]) -> None:
    page = build_page(marked[0])
    assert "<script" not in page and "<img src=x" not in page
    assert "&lt;script&gt;window.hacked" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 800])
def test_the_page_in_a_browser(marked: tuple[Audit, Path], browser: Any, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.goto((marked[1] / "audit.html").as_uri())
    assert page.evaluate("window.hacked") is None
    assert all(url.startswith(("file:", "data:")) for url in asked) and not errors
    assert "A shortcut was found" in page.inner_text("#verdict")
    assert "ring" in page.inner_text("#measures") and "J_net" in page.inner_text("#j-net")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.scrollHeight") > 900
    broken = "[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
    assert page.evaluate(broken) == 0
    sizes = "[...document.querySelectorAll('td,p,li')].map(e => getComputedStyle(e).fontSize)"
    assert min(float(size[:-2]) for size in page.evaluate(sizes)) >= 13
    page.close()


def test_clean_data_are_left_alone(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "data", mark=None)
    result = CliRunner().invoke(app, ["audit", str(table), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out/audit.json").read_text())
    assert written["shortcut"] is False and written["recommended_method"] == "plain"
    assert not any(place["accepted"] for place in written["places"])
    assert "--method plain" in result.stdout.strip().splitlines()[-1]
    assert any("too few to be sure" in text for text in written["warnings"])


def test_a_broken_image_is_left_out_and_named(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "data", mark=None)
    (table.parent / "images/0007.png").write_bytes(b"no picture")
    arguments = ["audit", str(table), "-o", str(tmp_path / "out"), "--data-only"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "images/0007.png cannot be read" in result.stdout
    written = json.loads((tmp_path / "out/audit.json").read_text())
    assert len(written["unreadable"]) == 1 and written["data"]["cases"] == 119


@pytest.mark.parametrize("dimmer", [1.0, 0.6])
def test_volumes(dimmer: float, tmp_path: Path) -> None:
    """A mark, and one that also moves the brightness of its volume."""
    images, label = pictures(60, mark=1.0)
    items = []
    for number, (image, k) in enumerate(zip(images, label, strict=True)):
        rng = np.random.default_rng(number)
        volume = np.repeat(image[None].astype(np.int16), 6, 0)
        volume[:, 6:] += rng.integers(-20, 20, volume[:, 6:].shape).astype(np.int16)
        if k:
            volume = (volume * dimmer).astype(np.int16)
        np.save(tmp_path / f"{number}.npy", volume)
        items.append({"image": f"{number}.npy", "label": int(k), "patient": f"p{number}"})
    (tmp_path / "datalist.json").write_text(json.dumps({"training": items}))
    found = audit(tmp_path, tmp_path / "out", settings=QUICK)
    assert found.scale.positions == 6 and found.verdict.kind == "place"
    assert (tmp_path / "out/places.nii.gz").is_file()
    assert "--datalist" in found.command and "ga_ppi" in found.command
    written = json.loads((tmp_path / "out/audit.json").read_text())
    page = (tmp_path / "out/audit.html").read_text(encoding="utf-8")
    assert written["left"] < written["j_net"] / 2 and f"Left: {written['left']:.2f}" in page
    if dimmer == 1.0:
        assert written["images"] is None and f"{{'place': '{tmp_path}" in found.command
        assert "', 'even': True}" in found.command
    else:  # the place shows where the grey levels are alike: both go, the training searches itself
        assert "alike" in written["images"] and written["images"] in page
        assert found.command.endswith('--method ppi_wbp_place --method_options "{}"')


def test_a_checkpoint_needs_its_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--checkpoint needs --bundle"):
        audit(tmp_path, tmp_path / "out", checkpoint="model.pt")


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "d", mark=None)
    (tmp_path / "d/images/0003.png").write_bytes(b"")
    found = audit(table, tmp_path / "out", data_only=True)
    assert found.unreadable == ("images/0003.png cannot be read (no picture, or a damaged one).",)
    (tmp_path / "model.pt").write_bytes(b"text")
    network = {"_target_": "ppi_med.networks.SmallCNN", "num_classes": 2, "in_channels": 1}
    (tmp_path / "train.json").write_text(json.dumps({"network_def": network}))
    with pytest.raises(UsageError, match="could not be read as weights"):
        audit(table, tmp_path / "out", bundle=tmp_path, checkpoint=tmp_path / "model.pt")


def test_a_bundle_that_is_not_there_is_copied_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = audit(write_pictures(tmp_path / "d", mark=None), tmp_path / "out", data_only=True)
    copy = "first: ppi-med copy cxr_ppi bundles/cxr_ppi"
    assert report_lines(found)[-2:] == [copy, found.command]
    (tmp_path / "bundles/cxr_ppi").mkdir(parents=True)
    assert copy not in report_lines(found)


def test_what_the_bundles_do_not_read_is_said(tmp_path: Path) -> None:
    images, label = pictures(60, mark=None)
    rows = []
    for number, (image, k) in enumerate(zip(images, label, strict=True)):
        np.save(tmp_path / f"{number}.npy", image)
        rows.append([f"{number}.npy", int(k), f"p{number}"])
    table = write_csv(tmp_path / "images.csv", ["image", "label", "patient"], rows)
    found = audit(table, tmp_path / "out", data_only=True)
    assert any("convert before you train" in warning for warning in found.warnings)


def test_the_network_of_a_bundle(tmp_path: Path) -> None:
    table = write_pictures(tmp_path / "data", mark=1.0, colour=True)
    with pytest.raises(UsageError, match="has no train.json"):
        audit(table, tmp_path / "out", bundle=tmp_path)
    network = {"_target_": "ppi_med.networks.SmallCNN", "num_classes": 2, "in_channels": 3}
    (tmp_path / "train.json").write_text(json.dumps({"network_def": network}))
    found = audit(table, tmp_path / "out", bundle=tmp_path, settings=QUICK)
    assert found.network is not None and found.scale.channels == 1
    assert found.verdict.shortcut and str(tmp_path) in found.command


def test_mlflow_records_it(tmp_path: Path) -> None:
    import mlflow

    table = write_pictures(tmp_path / "data", mark=1.0)
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    audit(table, tmp_path / "out", data_only=True, tracking_uri=uri)
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("audit")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["audit/shortcut"] == "true" and run.data.tags["audit/places"] == "0"
    assert {f.path for f in client.list_artifacts(run.info.run_id, "audit")} >= {
        "audit/audit.html",
        "audit/audit.json",
    }


def test_clusters_part_what_looks_at_different_places() -> None:
    """Half of a class carries its mark at the left, half at the right."""
    import torch

    images, label = pictures(160, mark=None)
    values = images.astype(np.float32) / 255
    ill = np.flatnonzero(label == 1)
    values[ill[::2], 4:8, 2:6] = 1.0
    values[ill[1::2], 24:28, 26:30] = 1.0
    index = torch.arange(160)
    stack = ImageStack(
        torch.from_numpy(values)[:, None], torch.from_numpy(label), index, torch.zeros_like(index)
    )

    class Bright(torch.nn.Module):
        """The logit is the sum of what is brighter than 0.95."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bright = (torch.relu(x - 0.95) * self.scale).sum((1, 2, 3))
            return torch.stack([0 * bright, bright], 1)

    found = [c for c in clusters(Bright(), stack, [f"n{k}" for k in range(160)]) if c.label == 1]
    assert len(found) >= 2
    tops = {np.unravel_index(int(c.mean.argmax()), c.mean.shape)[1] < 8 for c in found}
    assert tops == {True, False}


@pytest.mark.data
def test_the_x_rays_and_the_blood_cells_are_named(data_root: Path, tmp_path: Path) -> None:
    """Real shortcuts that nobody painted: the device writes the label around the object."""
    import csv
    import zipfile

    root = data_root / "cxr_markers"
    splits = json.loads((root / "splits.json").read_text())["0"]
    rows = {int(r["row"]): r for r in csv.DictReader((root / "images.csv").open())}
    lines = ["image,label,patient"]
    with zipfile.ZipFile(root / "images.zip") as archive:
        for row in splits["train_small"]:
            archive.extract(f"{row:04d}.jpg", tmp_path)
            lines.append(f"{row:04d}.jpg,{rows[row]['label']},{rows[row]['group']}")
    (tmp_path / "x.csv").write_text("\n".join(lines))
    found = audit(tmp_path / "x.csv", tmp_path / "out", data_only=True)
    assert found.verdict.shortcut and found.verdict.kind == "device"
    assert "surroundings" in found.verdict.reasons[0]

    root = data_root / "wbc_two_labs"
    splits = json.loads((root / "splits.json").read_text())["0"]
    cells = {int(r["row"]): r for r in csv.DictReader((root / "cells.csv").open())}
    lines = ["image,label,patient"]
    with zipfile.ZipFile(root / "cells.zip") as archive:
        for row in splits["train_aligned"]:
            archive.extract(f"image/{row:03d}.png", tmp_path)
            lines.append(f"image/{row:03d}.png,{cells[row]['lobed']},{cells[row]['group']}")
    (tmp_path / "w.csv").write_text("\n".join(lines))
    found = audit(tmp_path / "w.csv", tmp_path / "out_w", data_only=True)
    assert found.verdict.shortcut and found.verdict.kind == "device"


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["lidc_nodules", "cub_sample"])
def test_real_data_without_such_a_shortcut(data_root: Path, tmp_path: Path, name: str) -> None:
    assert not audit(data_root / name, tmp_path, data_only=True).verdict.shortcut
