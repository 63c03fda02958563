"""What a header or a path says in free text is in nothing that is passed on."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary

from ppi_med.data.dicom.command import main
from ppi_med.data.lidc import scan_worker
from ppi_med.data.lidc.job import ExtractionJob
from ppi_med.export.arrays import write_nifti
from ppi_med.export.source import read_source
from tests.bundles import tiny
from tests.tracking.stores import all_runs, new_store

from .dicom.files import slice_dataset
from .lidc.database import HEIGHTS, SERIES, SIZE, make_database, stored
from .oct import writers
from .oct.sites import convert

MARK = "QXMARKER"
TEXT = ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "PN", "AE", "CS")
# Without these it would be no CT image any more.
NEEDED = {
    "SpecificCharacterSet",
    "Modality",
    "PhotometricInterpretation",
    "RescaleType",
    "ImageType",
    "ImageLaterality",
}


def marked(dataset: pydicom.Dataset, mark: str) -> pydicom.Dataset:
    """Put the mark into every text element that DICOM knows, and into private ones."""
    for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if vr in TEXT and not retired and 0x0008 <= group < 0x7FE0 and keyword not in NEEDED:
            if keyword == "PatientID" or tag & 0xFFFF == 0:
                continue
            dataset.add_new(tag, vr, mark if multiplicity[0] == "1" else [mark] * 2)
    dataset.PatientID = mark
    block = dataset.private_block(0x0011, mark, create=True)
    block.add_new(1, "LO", mark)
    inner = pydicom.Dataset()
    inner.PatientName = inner.CodeMeaning = mark
    dataset.RequestAttributesSequence = [inner]
    return dataset


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two series of LIDC under folders, files and an archive that bear the mark."""
    for name in ("writing", "reading"):
        monkeypatch.setattr(pydicom.config.settings, f"{name}_validation_mode", 0)
    root = tmp_path / MARK / "tree"
    for k, series in enumerate(SERIES):
        for number, z in enumerate(HEIGHTS):
            dataset = slice_dataset(
                number, z, SeriesInstanceUID=series, Rows=SIZE, Columns=SIZE,
                PixelSpacing=[0.5, 0.5], FrameOfReferenceUID="1.2.3",
            )  # fmt: skip
            dataset.PixelData = stored(k, number).tobytes()
            path = root / MARK / f"{MARK}-{k}" / f"{MARK}{number}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            marked(dataset, MARK).save_as(path, enforce_file_format=True)
    broken = (root / MARK / f"{MARK}-0" / f"{MARK}0.dcm").read_bytes()
    (root / f"{MARK}.dcm").write_bytes(broken[: len(broken) // 2])
    (root / f"{MARK}.txt").write_text(MARK)
    with zipfile.ZipFile(root / f"{MARK}.zip", "w") as archive:
        archive.writestr(f"{MARK}/{MARK}.dcm", broken[:3000])
        archive.writestr(f"{MARK}.zip", b"PK")
    return root


def outputs(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_unmarked(found: dict[str, bytes]) -> None:
    assert found
    wide = MARK.encode("utf-16-le")
    for name, content in found.items():
        assert MARK not in name.upper(), name
        assert MARK.encode() not in content.upper() and wide not in content, name


def test_the_index_passes_no_text_on(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    call = ["--source", str(tree), "--output", str(tmp_path / "out"), "--workers", "1", "--quiet"]
    assert main(call) == 1
    found = outputs(tmp_path / "out")
    private = [found.pop(name) for name in ("headers.sqlite", "project.key")]
    assert MARK.encode() in private[0]  # the test would find it
    printed = capsys.readouterr()
    assert_unmarked(found | {"log": caplog.text.encode(), "printed": str(printed).encode()})


@pytest.mark.filterwarnings("error")
def test_the_patches_pass_no_text_on(
    tree: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("zarr")
    caplog.set_level(logging.DEBUG)
    base = make_database(tmp_path / "base.sqlite")
    read = scan_worker.read_slice

    def failing(root: Path, file: Any) -> Any:
        if file.path.endswith("-1/" + f"{MARK}4.dcm"):
            raise RuntimeError(f"{MARK} in {file.path}")
        return read(root, file)

    for name, function in (("sound", read), ("failing", failing)):
        monkeypatch.setattr(scan_worker, "read_slice", function)
        job = ExtractionJob(
            tree, tmp_path / name, database=base, scheduler="serial", fractions=(0.5, 0.5, 0),
            folds=2,
        )  # fmt: skip
        job.run()
        found = outputs(tmp_path / name)
        assert "manifest.csv" in found and any("patches.zarr" in key for key in found)
        assert_unmarked(found)
    assert "unexpected RuntimeError in" in (tmp_path / "failing" / "report.html").read_text()
    printed = capsys.readouterr()
    assert_unmarked({"log": caplog.text.encode(), "printed": str(printed).encode()})


def test_an_exported_nifti_passes_no_text_on(tree: Path, tmp_path: Path) -> None:
    source = read_source(tree / MARK / f"{MARK}-0", SERIES[0])
    path = write_nifti(tmp_path / "map.nii", np.ones(source.shape, np.float32), source)
    assert_unmarked({"map.nii": path.read_bytes()})


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OCT of sixteen people below a folder that bears the mark, as every header's texts do."""
    for name in ("writing", "reading"):
        monkeypatch.setattr(pydicom.config.settings, f"{name}_validation_mode", 0)
    root = tmp_path / MARK
    root.mkdir()
    lines = ["file,site,label"]
    for number in range(16):
        pixels, who = writers.volume((4, 32, 40), seed=number), f"{MARK}{number}"
        path = root / f"v{number:02d}.dcm"
        if number < 14:
            dataset = marked(pydicom.dcmread(writers.write_dicom(path, pixels)), MARK)
            dataset.PatientID = who
            dataset.save_as(path, enforce_file_format=True)
        else:
            path = path.with_suffix(".vol")
            writers.write_vol(path, pixels.astype(np.float32) / 255, patient=who.encode())
        lines.append(f"{path.name},site_{number % 2},{number // 2 % 2}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.slow
def test_a_training_and_an_inference_record_no_text(
    scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    """Data set, weights, answers, logs, and MLflow's database and artifacts, byte by byte."""
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    report = convert(scans, out / "data", labels=scans / "labels.csv")
    assert report.count("ok") == 16
    location = new_store(out / "store")
    tiny.run_bundle(
        "train.json",
        tiny.settings(out / "data", out, tracking_uri=location.uri, max_epochs=1, method="plain"),
    )
    asked = {key: tiny.SMALL[key] for key in ("device", "image_size")}
    asked["network_def#backbone_options"] = tiny.SMALL["network_def#backbone_options"]
    tiny.run_bundle(
        "inference.json",
        asked | {
            "input": str(scans),
            "output_dir": str(out / "answers"),
            "checkpoint": str(out / "models" / "model.pt"),
        },
    )  # fmt: skip
    (run,) = all_runs(location)
    assert run.info.status == "FINISHED" and run.inputs.dataset_inputs
    found = outputs(out)
    assert any("mlartifacts" in name and name.endswith(".csv") for name in found)
    said = "".join(capfd.readouterr()) + caplog.text
    # MONAI repeats the arguments of a run.
    said = said.replace(f"> input: '{scans}'", "")
    assert_unmarked(found | {"said": said.encode()})
