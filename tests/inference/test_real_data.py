"""Real volumes through inference (random weights): sizes, order, spacing, bad files beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ppi_med.data.oct.volume import Spacing
from ppi_med.inference import GaOutputs, infer_volume, write_outputs
from ppi_med.networks.multiview import MultiViewClassifier
from ppi_med.saliency import WBP
from tests.inference.conftest import Writer, retina
from tests.inference.test_batch import evaluator, rows

pytestmark = pytest.mark.data


def test_spectralis(tmp_path: Path, data_root: Path, network: MultiViewClassifier) -> None:
    result = infer_volume(network, data_root / "oct_spectralis", WBP(), size=(64, 96))
    assert result.volume.shape == (145, 496, 512)
    assert result.slice_weights.shape == (145,)
    assert result.saliency is not None and result.saliency.shape == (145, 496, 512)
    spacing = Spacing(0.011182, 0.003872, 0.029819)
    assert result.volume.spacing == pytest.approx(spacing, abs=5e-7)
    write_outputs(result, tmp_path / "out")
    image = nib.load(tmp_path / "out" / "saliency.nii.gz")
    assert image.shape == (512, 496, 145)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header.get_zooms() == pytest.approx(spacing, abs=5e-7)
    size = (tmp_path / "out" / "report.html").stat().st_size
    assert 5e6 < size < 15e6
    facts = json.loads((tmp_path / "out" / "result.json").read_text())
    assert facts["laterality"] is None


def test_bioptigen_mat_and_tiffs(data_root: Path, network: MultiViewClassifier) -> None:
    from ppi_med.inference import find_inputs, read_volumes

    folder = data_root / "oct_bioptigen" / "eye03"
    sources = {source.reader: source for source in find_inputs(folder)}
    assert set(sources) == {"images", "matlab"}
    tiffs, mat = (
        infer_volume(network, read_volumes(sources[reader])[0], WBP(), size=(64, 96))
        for reader in ("images", "matlab")
    )
    assert tiffs.volume.shape == mat.volume.shape == (5, 450, 900)
    assert tiffs.volume.spacing == mat.volume.spacing == Spacing()
    # The pictures are 1, 2, 3, 4, test; the variable is test, 1, 2, 3, 4.
    order = [1, 2, 3, 4, 0]
    assert np.array_equal(tiffs.volume.pixels, mat.volume.pixels[order])
    np.testing.assert_allclose(tiffs.slice_logits, mat.slice_logits[order], rtol=1e-5, atol=1e-6)


def test_good_files_come_out_beside_bad_ones(
    tmp_path: Path, data_root: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    folder = tmp_path / "in"
    real = data_root / "oct_bioptigen" / "eye03" / "octt3.mat"
    folder.mkdir()
    shutil.copyfile(real, folder / "good.mat")
    shutil.copyfile(real, folder / "same_again.mat")
    content = real.read_bytes()
    (folder / "truncated.mat").write_bytes(content[: len(content) * 2 // 3])
    (folder / "text.vol").write_text("a text file")
    (folder / "nothing").mkdir()
    write_mat(folder / "ninety_nine.mat", retina(99, 32, 48))
    outputs = GaOutputs(tmp_path / "out", report=False)
    evaluator(network, folder, outputs).run()
    table = rows(tmp_path / "out")
    ok = {source for source, row in table.items() if row["status"] == "ok"}
    assert ok == {"good.mat", "same_again.mat", "ninety_nine.mat"}
    assert {source for source in table if source not in ok} == {
        "truncated.mat",
        "text.vol",
        "nothing",
    }
    assert table["good.mat"]["probability"] == table["same_again.mat"]["probability"]
