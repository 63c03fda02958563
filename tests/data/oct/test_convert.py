"""The conversion of a folder: what comes out and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ppi_med.data.datalist import load_parts
from ppi_med.data.manifest import read_manifest
from ppi_med.data.oct.nifti import read_nifti
from ppi_med.data.splits import read_splits
from tests.data.oct import writers
from tests.data.oct.sites import convert, hashes, make_sites


def test_a_whole_data_set(tmp_path: Path) -> None:
    raw, out = make_sites(tmp_path / "raw"), tmp_path / "out"
    report = convert(
        raw,
        out,
        labels=raw / "labels.csv",
        mask_variable="lesion",
        spacing="0.006,0.004,?",
        pad_width=11,
    )
    assert report.exit_code == 0 and report.count("ok") == 24, report.table()
    rows = read_manifest(out / "manifest.csv")
    row = rows[0]
    assert (row.volume_id, row.subject, row.extra["eye"], row.visit, row.site, row.label) == (
        "north__p00_OD_v1", "p00", "OD", "v1", "north", 0,
    )  # fmt: skip
    assert row.label_rule == "column 'label' of labels.csv" and row.extra["artefact"] == "yes"
    assert (row.n_slices, row.rows_px, row.columns_px) == (4, 10, 11)
    assert (row.spacing_columns_mm, row.spacing_rows_mm, row.spacing_slices_mm) == (
        0.006, 0.004, None,
    )  # fmt: skip
    assert row.source_file == "north/p00_OD_v1.mat"
    expected = hashlib.sha256((raw / row.source_file).read_bytes()).hexdigest()
    assert row.source_sha256 == expected and row.reader == "matlab"
    assert row.provenance["spacing_columns_mm"] == "user: --spacing"
    assert row.provenance["subject"] == row.provenance["eye"] == "user: labels.csv"
    assert "padded to 11" in row.provenance["columns_px"]
    assert any("between" in warning for warning in row.warnings)

    pixels = writers.volume((4, 10, 8), seed=0)
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 2)), mode="edge")
    read, _ = read_nifti(out / "volumes" / "north__p00_OD_v1.nii.gz")
    np.testing.assert_array_equal(read, padded)
    mask, _ = read_nifti(out / "masks" / "north__p00_OD_v1.nii.gz")
    np.testing.assert_array_equal(mask, padded > 200)

    splits = read_splits(out / "splits.json")
    assert sum(map(len, splits.parts.values())) == 12 and len(splits.folds) == 5
    items = load_parts(out / "datalist.json", "training")
    assert {item["subject"] for item in items} == set(splits.parts["training"])
    assert Path(items[0]["image"]).is_file() and Path(items[0]["lesion"]).is_file()
    content = json.loads((out / "datalist.json").read_text())
    assert content["training"][0]["image"].startswith("volumes/")
    assert set(content["training"][0]) == {
        "image", "label", "lesion", "volume_id", "subject", "eye", "visit", "site", "artefact",
    }  # fmt: skip


def test_nifti_header(tmp_path: Path) -> None:
    writers.write_heyex_xml(tmp_path / "raw", writers.volume((5, 12, 9)))
    convert(tmp_path / "raw", tmp_path / "known")
    convert(tmp_path / "raw", tmp_path / "again")
    known = nib.load(tmp_path / "known" / "volumes" / "export.nii.gz")
    assert known.shape == (9, 12, 5) and known.get_data_dtype() == np.uint8
    np.testing.assert_allclose(known.header.get_zooms(), (0.0112, 0.0039, 0.06), rtol=1e-6)
    assert known.header.get_xyzt_units()[0] == "mm"
    assert (int(known.header["qform_code"]), int(known.header["sform_code"])) == (1, 1)
    (tmp_path / "mat").mkdir()
    writers.write_mat(tmp_path / "mat" / "a.mat", writers.volume())
    convert(tmp_path / "mat", tmp_path / "unknown", spacing=(0.006, 0.004, None))
    unknown = nib.load(tmp_path / "unknown" / "volumes" / "a.nii.gz")
    np.testing.assert_allclose(unknown.header.get_zooms(), (0.006, 0.004, 1.0), rtol=1e-6)
    assert unknown.header.get_xyzt_units()[0] == "unknown"
    assert (int(unknown.header["qform_code"]), int(unknown.header["sform_code"])) == (0, 0)
    assert hashes(tmp_path / "known") == hashes(tmp_path / "again")


def test_bad_files_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    writers.write_mat(raw / "a_good.mat", writers.volume((100, 6, 5), seed=1))
    writers.write_mat(raw / "b_short.mat", writers.volume((99, 6, 5), seed=2))
    truncated = writers.write_mat(raw / "c_cut.mat", writers.volume((100, 6, 5), seed=3))
    truncated.write_bytes(truncated.read_bytes()[:1500])
    (raw / "d_text.vol").write_text("Visual acuity 0.8, no fluid.\n")
    (raw / "e_empty").mkdir()
    (raw / "f_copy.mat").write_bytes((raw / "a_good.mat").read_bytes())
    writers.write_pictures(raw / "g_stack", writers.volume((100, 6, 5), seed=4))
    (raw / "notes.txt").write_text("x")
    report = convert(raw, out, expect_slices=100)
    reasons = {outcome.source: (outcome.status, outcome.reason) for outcome in report.outcomes}
    assert reasons["a_good.mat"] == ("ok", "") and reasons["g_stack"] == ("ok", "")
    assert reasons["b_short.mat"] == ("failed", "99 B-scans, expected 100 (--expect-slices).")
    assert reasons["c_cut.mat"][0] == "failed" and "truncated" in reasons["c_cut.mat"][1]
    assert reasons["d_text.vol"][0] == "failed" and "HSF-OCT" in reasons["d_text.vol"][1]
    assert reasons["e_empty"] == ("failed", "the folder is empty.")
    assert reasons["f_copy.mat"] == ("duplicate", "same pixels as a_good.mat.")
    assert report.exit_code == 1
    assert [row.volume_id for row in read_manifest(out / "manifest.csv")] == ["a_good", "g_stack"]
    assert sorted(p.name for p in (out / "volumes").iterdir()) == [
        "a_good.nii.gz", "g_stack.nii.gz",
    ]  # fmt: skip
    table = report.table()
    assert "failed     b_short.mat" in table and "7 sources: 2 converted" in table
    assert "1 .txt" in table
    written = json.loads((out / "conversion_report.json").read_text())
    assert written["counts"]["failed"] == 4 and written["exit_code"] == 1
    warned = convert(raw, tmp_path / "warned", expect_slices=100, slices_policy="warn")
    assert {o.source: o.status for o in warned.outcomes}["b_short.mat"] == "ok"
    assert "99 B-scans" in warned.table()


def test_an_empty_folder_is_answered(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    report = convert(tmp_path / "raw", tmp_path / "out")
    assert report.exit_code == 1 and "no OCT file was found in raw" in report.table()
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "gone", tmp_path / "out")


def test_duplicates_that_contradict_each_other(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pixels = writers.volume((4, 10, 8))
    writers.write_mat(raw / "a.mat", pixels)
    writers.write_mat(raw / "b.mat", pixels, "other")  # another file, the same pixels
    writers.write_pictures(raw / "c", pixels[[2, 0, 1, 3]])
    (raw / "labels.csv").write_text("file,subject,label\na.mat,s1,0\nb.mat,s1,1\n")
    report = convert(raw, tmp_path / "out", labels=raw / "labels.csv")
    outcomes = {outcome.source: outcome for outcome in report.outcomes}
    assert outcomes["b.mat"].status == "failed"
    assert "same pixels as a.mat, but label is 1 here and 0 there" in outcomes["b.mat"].reason
    assert any("in another order" in warning for warning in outcomes["c"].warnings)


def test_laterality(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pixels = [writers.volume(seed=n) for n in range(4)]
    writers.write_dicom(raw / "a_OD.dcm", pixels[0], eye="L")  # only the name says OD
    writers.write_dicom(raw / "b.dcm", pixels[1], eye="L")
    writers.write_dicom(raw / "c.dcm", pixels[2], eye=None)
    writers.write_mat(raw / "d.mat", pixels[3])
    (raw / "labels.csv").write_text("file,eye\nb.dcm,OD\nc.dcm,OS\n")
    report = convert(raw, tmp_path / "out", labels=raw / "labels.csv")
    outcomes = {outcome.source: outcome for outcome in report.outcomes}
    assert outcomes["b.dcm"].status == "failed"
    assert "the file says OS, user: labels.csv says OD" in outcomes["b.dcm"].reason
    assert any("the name contains OD" in w for w in outcomes["a_OD.dcm"].warnings)
    eyes = {
        row.volume_id: row.extra["eye"] for row in read_manifest(tmp_path / "out" / "manifest.csv")
    }
    assert eyes == {"a_OD": "OS", "c": "OS", "d": ""}
    warned = convert(
        raw,
        tmp_path / "warned",
        labels=raw / "labels.csv",
        laterality_policy="warn",
        laterality="OD",
    )
    assert warned.exit_code == 0
    rows = {row.volume_id: row for row in read_manifest(tmp_path / "warned" / "manifest.csv")}
    assert (
        rows["b"].extra["eye"] == ""
        and rows["d"].extra["eye"] == "OD"
        and rows["c"].extra["eye"] == "OS"
    )
    assert rows["d"].provenance["eye"] == "user: --laterality"
    assert rows["c"].provenance["eye"] == "user: labels.csv"
    assert "eye" not in rows["a_OD"].provenance  # the file itself


def test_spacing_of_file_and_user(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    writers.write_dicom(raw / "a.dcm", writers.volume())
    report = convert(raw, tmp_path / "out", spacing="0.02,0.0039,0.05")
    row = read_manifest(tmp_path / "out" / "manifest.csv")[0]
    assert row.spacing_columns_mm == 0.0112 and "spacing_columns_mm" not in row.provenance
    assert "--spacing 0.02 unused" in report.table()
    convert(raw, tmp_path / "won", spacing="0.02,?,?", spacing_overrides=True)
    row = read_manifest(tmp_path / "won" / "manifest.csv")[0]
    assert (row.spacing_columns_mm, row.spacing_rows_mm) == (0.02, 0.0039)
    assert row.provenance["spacing_columns_mm"] == "user: --spacing"


def test_patients_ids_do_not_leave_the_file(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    writers.write_dicom(raw / "a.dcm", writers.volume(seed=1))
    writers.write_dicom(raw / "b.dcm", writers.volume(seed=2))
    for salt in ("", "x"):
        convert(raw, tmp_path / f"out{salt}", salt=salt)
    rows = read_manifest(tmp_path / "out" / "manifest.csv")
    assert rows[0].subject == rows[1].subject and rows[0].subject.startswith("id-")
    assert rows[0].provenance["subject"].startswith("rule: hash")
    assert read_manifest(tmp_path / "outx" / "manifest.csv")[0].subject != rows[0].subject
    for path in (tmp_path / "out").rglob("*"):
        if path.suffix in (".csv", ".json"):
            assert "P-3" not in path.read_text() and "Doe" not in path.read_text()


def _subjects(output: Path) -> dict[str, str]:
    return {row.volume_id: row.subject for row in read_manifest(output / "manifest.csv")}


def test_a_blank_subject_is_that_of_the_patients_other_file(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for number, name in enumerate("abc"):
        changes = {"PatientID": "P-4"} if name == "c" else {}
        writers.write_dicom(raw / f"{name}.dcm", writers.volume(seed=number), changes=changes)
    (raw / "labels.csv").write_text("file,subject\na.dcm,\nb.dcm,s1\nc.dcm,\n")
    assert convert(raw, out, labels=raw / "labels.csv").exit_code == 0
    subjects = _subjects(out)
    assert subjects["a"] == subjects["b"] == "s1" and subjects["c"].startswith("id-")
    row = read_manifest(out / "manifest.csv")[0]
    assert row.provenance["subject"] == "rule: that of b.dcm, with the same patient's id"


def test_one_patient_under_two_subjects(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for number, name in enumerate("abcd"):
        changes = {"PatientID": "P-4"} if name == "d" else {}
        writers.write_dicom(raw / f"{name}.dcm", writers.volume(seed=number), changes=changes)
    (raw / "labels.csv").write_text("file,subject\na.dcm,s1\nb.dcm,S-1\nd.dcm,s1\n")
    report = convert(raw, out, labels=raw / "labels.csv")
    outcomes = {outcome.source: outcome for outcome in report.outcomes}
    assert [outcomes[f"{name}.dcm"].status for name in "abcd"] == ["failed"] * 3 + ["ok"]
    assert (
        "user: labels.csv says 'S-1' of b.dcm and user: labels.csv says 's1' of a.dcm"
        in outcomes["b.dcm"].reason
    )
    assert "--subject-policy warn" in outcomes["a.dcm"].reason and _subjects(out) == {"d": "s1"}
    report = convert(raw, out, labels=raw / "labels.csv", subject_policy="warn")
    assert report.exit_code == 0 and "subject left unknown" in report.table()
    assert _subjects(out) == {"a": "s1", "b": "S-1", "c": "", "d": "s1"}


def test_output_inside_source_and_names(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "a b").mkdir(parents=True)
    writers.write_mat(raw / "a b" / "Müller, Jörg.mat", writers.volume(seed=1))
    writers.write_mat(raw / "a__b.mat", writers.volume(seed=2))
    (raw / "a").mkdir()
    writers.write_mat(raw / "a" / "b.mat", writers.volume(seed=3))
    writers.write_dicom(raw / "A__B.dcm", writers.volume(seed=4))
    first = convert(raw, raw / "out")
    second = convert(raw, raw / "out")
    assert first.count("ok") == 4 and second.count("kept") == 4
    names = [path.name for path in (raw / "out" / "volumes").iterdir()]
    assert len({name.casefold() for name in names}) == 4
    assert all(name.isascii() and " " not in name for name in names)
    assert "a__b.nii.gz" in names


def test_a_single_file_and_a_pattern(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "north").mkdir(parents=True)
    for number in range(6):
        writers.write_mat(
            raw / "north" / f"s{number}_OS_v1_{number % 2}.mat", writers.volume(seed=number)
        )
    pattern = r"(?P<site>[^/]+)/(?P<subject>s\d+)_(?P<eye>OD|OS)_(?P<visit>v\d)_(?P<label>\d)"
    report = convert(raw, tmp_path / "out", pattern=pattern, fractions=(1, 1, 1), folds=2)
    row = read_manifest(tmp_path / "out" / "manifest.csv")[3]
    assert (row.site, row.subject, row.extra["eye"], row.visit, row.label) == (
        "north",
        "s3",
        "OS",
        "v1",
        1,
    )
    assert row.label_rule == "file name pattern" and report.exit_code == 0
    assert len(read_splits(tmp_path / "out" / "splits.json").folds) == 2
    one = convert(raw / "north" / "s1_OS_v1_1.mat", tmp_path / "one")
    assert one.count("ok") == 1
    with pytest.raises(ValueError, match="not a regular expression"):
        convert(raw, tmp_path / "x", pattern="(")
    with pytest.raises(ValueError, match="expected some of"):
        convert(raw, tmp_path / "x", pattern="(?P<who>x)")


def test_a_path_in_which_the_pattern_finds_nonsense(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, name in enumerate(("s1_0", "s2_GA")):
        writers.write_mat(raw / f"{name}.mat", writers.volume(seed=number))
    pattern = r"(?P<subject>s\d)_(?P<label>\w+)"
    report = convert(raw, tmp_path / "out", pattern=pattern)
    (outcome,) = report.failed
    assert outcome.source == "s2_GA.mat" and "label is 'GA', expected a class" in outcome.reason
    assert [path.name for path in (tmp_path / "out" / "volumes").iterdir()] == ["s1_0.nii.gz"]
    (raw / "s1_0.mat").unlink()
    with pytest.raises(ValueError, match="label is 'GA'"):
        convert(raw, tmp_path / "all", pattern=pattern)
