"""The bundle runs as written, in this process: importing MONAI once more would cost seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .database import make_database, write_scans

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monai.bundle import run

    monkeypatch.chdir(ROOT)
    make_database(tmp_path / "outlines.sqlite")
    tree = write_scans(tmp_path / "dicom", skip=(7.5,))
    arguments = {
        "config_file": "bundles/lidc_patches/extract.json",
        "dicom_root": str(tree),
        "output_dir": str(tmp_path / "out"),
        "database": str(tmp_path / "outlines.sqlite"),
        "scheduler": "serial",
        "progress": False,
    }
    with pytest.raises(SystemExit) as stopped:  # one slice with a contour is missing
        run(**arguments)
    assert stopped.value.code == 1
    datalist = json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert sum(map(len, datalist.values())) == 5
    write_scans(tmp_path / "dicom")
    run(**arguments, fractions=[0.5, 0.5, 0.0], folds=2)
    assert (tmp_path / "out" / "splits.json").exists()


def test_every_option_is_a_key() -> None:
    from dataclasses import fields

    from ppi_med.data.lidc.plan import PatchOptions

    config = json.loads((ROOT / "bundles/lidc_patches/extract.json").read_text())
    for field in fields(PatchOptions):
        if field.name != "z_tolerance_mm":
            assert config[field.name] == field.default
            assert config["options"][field.name] == f"@{field.name}"


def test_every_id_resolves_and_nothing_is_extracted(tmp_path: Path) -> None:
    from ppi_med.bundle_tools.check import check_bundle
    from ppi_med.bundle_tools.installed import open_bundle
    from ppi_med.bundle_tools.pack import pack_bundle

    bundle = open_bundle(ROOT / "bundles/lidc_patches")
    (report,) = check_bundle(bundle, overrides={"output_dir": str(tmp_path / "out")})
    assert report.title == "extract.json" and report.failures == ()
    assert not (tmp_path / "out").exists()
    (wrong,) = check_bundle(bundle, overrides={"variant": "slice"})
    assert [failure.key for failure in wrong.failures] == ["extraction"]
    assert "variant is 'slice'" in wrong.failures[0].reason
    packed = pack_bundle(bundle, tmp_path / "bundle.zip")
    assert "lidc_patches/configs/extract.json" in packed.members
