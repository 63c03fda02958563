"""An answer about nothing says so: in result.json, the table and the page; the manifest's facts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ppi_med.data.manifest import ManifestRow, write_manifest
from ppi_med.data.oct.nifti import write_nifti
from ppi_med.data.oct.volume import Spacing
from ppi_med.evaluation.familiarity import KnownInputs, grey_numbers
from ppi_med.inference import GaOutputs, find_inputs, infer_volume, read_volumes
from ppi_med.io import exclusive
from ppi_med.networks.multiview import MultiViewClassifier
from tests.inference.conftest import Writer, retina
from tests.inference.test_batch import evaluator, rows


@pytest.mark.parametrize("kind", ["empty", "noise", "white"])
def test_an_answer_about_nothing(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier, kind: str
) -> None:
    pixels = {
        "empty": np.zeros((3, 16, 24), np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (3, 16, 24)).astype(np.uint8),
        "white": np.full((3, 16, 24), 255, np.uint8),
    }[kind]
    pixels[0, 0, 0] = 7
    write_mat(tmp_path / "in" / "a.mat", pixels)
    evaluator(network, tmp_path / "in", GaOutputs(tmp_path / "out")).run()
    result = json.loads((tmp_path / "out" / "a" / "result.json").read_text())
    assert (
        result["likeness"]["unlike_training"]
        and "the answer means nothing" in result["warnings"][0]
    )
    assert rows(tmp_path / "out")["a.mat"]["warning"] == result["warnings"][0]
    assert "unlike the data of the training" in (tmp_path / "out" / "a" / "report.html").read_text()


def test_foreign_to_what_the_weights_note(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    own = [retina(3, 16, 24, seed=seed) for seed in range(12)]
    known = None
    for _ in range(2):  # first to see what the network is given, then with what was noted
        seen = [
            infer_volume(network, write_mat(tmp_path / f"{n}.mat", pixels), known=known)
            for n, pixels in enumerate(own)
        ]
        assert not any(result.likeness.reasons for result in seen)
        known = KnownInputs.of([result.likeness.numbers for result in seen])
    foreign = retina(3, 24, 16).swapaxes(1, 2)
    far = infer_volume(network, write_mat(tmp_path / "x.mat", foreign), known=known)
    assert "grey values: distance" in far.warnings[0]
    assert set(far.likeness.distances) == {"grey"} and grey_numbers(foreign)


def test_the_manifest_beside_a_converted_volume(tmp_path: Path) -> None:
    pixels = retina(3, 16, 24)
    for name in ("a", "b"):
        write_nifti(tmp_path / "volumes" / f"{name}.nii.gz", pixels, Spacing())
    known = {"n_slices": 3, "rows_px": 16, "columns_px": 24, "spacing_rows_mm": 0.004}
    write_manifest(
        tmp_path / "manifest.csv",
        [
            ManifestRow("a", extra={"eye": "OS"}, **known),
            ManifestRow("b", extra={"eye": "OS"}, **(known | {"n_slices": 4})),
        ],
    )
    (first, second) = (read_volumes(source)[0] for source in find_inputs(tmp_path))
    assert first.laterality == "OS" and first.spacing == Spacing(axial=0.004)
    assert first.provenance["eye"] == "manifest.csv beside it"
    assert second.laterality is None  # another volume has taken its name
    (tmp_path / "manifest.csv").write_text('volume_id\n"')
    assert any(
        "manifest.csv beside it" in w for w in read_volumes(find_inputs(tmp_path)[0])[0].warnings
    )


def test_two_inferences_into_one_folder(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    write_mat(tmp_path / "in" / "a.mat", retina(3, 16, 24))
    outputs = GaOutputs(tmp_path / "out", report=False)
    with (
        exclusive(tmp_path / "out", "inference"),
        pytest.raises(ValueError, match="Another inference writes to"),
    ):
        evaluator(network, tmp_path / "in", outputs).run()
    evaluator(network, tmp_path / "in", outputs).run()
    with (tmp_path / "out" / "predictions.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 1


def test_an_output_that_is_a_file(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    write_mat(tmp_path / "in" / "a.mat", retina(3, 16, 24))
    (tmp_path / "out").write_text("x")
    with pytest.raises(ValueError, match="no output in .*: File exists"):
        evaluator(network, tmp_path / "in", GaOutputs(tmp_path / "out")).run()
