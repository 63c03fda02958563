"""The files of a volume: geometry, content, and nothing half written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import ppi_med.inference.report
from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.volume import Spacing
from ppi_med.inference import GaResult, infer_volume, write_outputs
from ppi_med.inference.outputs import write_map
from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.places import Account
from ppi_med.saliency import WBP
from tests.inference.conftest import Writer, retina

SPACINGS = [Spacing(0.011182, 0.003872, 0.029819), Spacing(), Spacing(axial=0.004)]
NOON = datetime(2020, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_map_lies_on_its_volume(tmp_path: Path, spacing: Spacing) -> None:
    shape = (3, 5, 4)
    saliency = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    mine = nib.load(write_map(tmp_path / "map.nii.gz", saliency, spacing))
    volume = nib.load(write_nifti(tmp_path / "volume.nii.gz", np.zeros(shape, np.uint8), spacing))
    assert mine.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(mine.dataobj), saliency.transpose(2, 1, 0))
    assert np.array_equal(mine.affine, volume.affine)
    for name in ("pixdim", "xyzt_units", "qform_code", "sform_code", "srow_x", "dim"):
        assert np.array_equal(mine.header[name], volume.header[name]), name
    known = spacing.known
    assert mine.header.get_xyzt_units()[0] == ("mm" if known else "unknown")


@pytest.mark.parametrize("wrong", [np.zeros((2, 3), np.float32), np.zeros((2, 3, 4))])
def test_other_maps_are_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected float32 \(S, H, W\)"):
        write_map(tmp_path / "map.nii.gz", wrong, Spacing())
    assert not list(tmp_path.iterdir())


@pytest.fixture
def result(tmp_path: Path, write_mat: Writer, network: MultiViewClassifier) -> GaResult:
    path = write_mat(tmp_path / "in" / "a.mat", retina(3, 20, 30))
    options = ReadOptions(spacing=Spacing(axial=0.004), laterality="OS")
    return infer_volume(network, path, WBP(), size=(16, 24), options=options)


def test_result_json(tmp_path: Path, result: GaResult) -> None:
    folder = tmp_path / "out"
    files = write_outputs(result, folder, checkpoint="model.pt", notes=("n",), created=NOON)
    assert {file.name for file in files} == {"result.json", "saliency.nii.gz", "report.html"}
    assert {file.name for file in folder.iterdir()} == {file.name for file in files}
    facts = json.loads((folder / "result.json").read_text())
    assert facts["probability"] == result.probability
    assert facts["shape"] == {"slices": 3, "depth": 20, "width": 30}
    assert facts["spacing_mm"] == {"lateral": None, "axial": 0.004, "between": None}
    assert facts["laterality"] == "OS"
    digest = hashlib.sha256((tmp_path / "in" / "a.mat").read_bytes()).hexdigest()
    assert facts["source"] == {"file": "a.mat", "sha256": digest, "reader": "matlab"}
    assert facts["network"]["sha256"] == result.network.sha256
    assert facts["network"]["checkpoint"] == "model.pt"
    assert facts["network"]["input"] == "B-scans of 20 x 30 resampled to 16 x 24"
    assert [row["number"] for row in facts["slices"]] == [1, 2, 3]
    assert [row["position"] for row in facts["slices"]] == result.positions.tolist()
    assert sum(row["weight"] for row in facts["slices"]) == pytest.approx(1)
    assert facts["saliency"]["sum"] == pytest.approx(float(result.saliency.sum()), rel=1e-4)
    assert {"ppi_med", "torch"} <= set(facts["versions"])
    assert facts["created"] == "2020-01-02T12:00:00+00:00"
    assert facts["notes"] == ["n"]
    assert any("spacing unknown" in text for text in facts["warnings"])
    assert str(tmp_path) not in (folder / "result.json").read_text()
    assert str(tmp_path) not in (folder / "report.html").read_text()


def test_what_the_training_did_about_a_shortcut(tmp_path: Path, result: GaResult) -> None:
    """The network saw 16 x 24 of the volume's 20 x 30: the place is told in the volume's pixels."""
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[:4, 8:12] = True
    account = Account("place", "place", j_net=0.9, j=(0.8,), mask=mask)
    write_outputs(result, tmp_path / "out", account=account)
    told = json.loads((tmp_path / "out" / "result.json").read_text())["shortcut"]
    assert told["sentence"] == account.sentence
    assert (told["found"], told["method"], told["j_net"], told["j"]) == (
        "place",
        "place",
        0.9,
        [0.8],
    )
    assert told["share"] == pytest.approx(16 / (16 * 24))
    assert told["boxes"] == [{"rows": [0, 5], "columns": [10, 15]}]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "M10 0h5M10 5h5M10 0v5M15 0v5" in page and "4.2 % of the image" in page
    # Of images of another size the sentence stands alone.
    write_outputs(result, tmp_path / "out", account=replace(account, mask=torch.ones(8, 8) > 0))
    told = json.loads((tmp_path / "out" / "result.json").read_text())["shortcut"]
    assert told["boxes"] == []
    assert 'id="outline"' not in (tmp_path / "out" / "report.html").read_text()


def test_the_same_volume_gives_the_same_files(tmp_path: Path, result: GaResult) -> None:
    for name in ("one", "two"):
        write_outputs(result, tmp_path / name, created=NOON)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_a_fault_leaves_no_result_and_no_rest(
    tmp_path: Path, result: GaResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(ppi_med.inference.report, "write_report", broken)
    with pytest.raises(OSError, match="disk full"):
        write_outputs(result, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["saliency.nii.gz"]


def test_without_map_and_report(tmp_path: Path, write_mat: Writer) -> None:
    path = write_mat(tmp_path / "a.mat", retina(2, 16, 24))
    result = infer_volume(MultiViewClassifier(), path)
    files = write_outputs(result, tmp_path / "out", report=False)
    assert [file.name for file in files] == ["result.json"]
    assert json.loads(files[0].read_text())["saliency"] is None
