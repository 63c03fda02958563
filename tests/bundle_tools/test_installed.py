from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ppi_med.bundle_tools.installed import (
    bundles_folder,
    copy_bundle,
    default_bundle,
    installed_bundles,
)
from ppi_med.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def test_the_bundles_of_the_clone() -> None:
    assert bundles_folder() == ROOT / "bundles"
    names = [bundle.name for bundle in installed_bundles()]
    assert names == sorted(path.parent.name for path in (ROOT / "bundles").glob("*/metadata.json"))


def test_a_copy_has_the_files_and_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    folder = package / "bundles" / "ga_ppi"
    (folder / "docs").mkdir(parents=True)
    (folder / "runs" / "1").mkdir(parents=True)
    (folder / "metadata.json").write_text('{"version": "1", "name": "one"}')
    (folder / "runs" / "1" / "out.csv").write_text("")
    (folder / "docs" / "README.md").write_text("")
    monkeypatch.setattr("ppi_med.__file__", str(package / "__init__.py"))
    made = copy_bundle("ga_ppi", tmp_path / "mine")
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*")) == [
        "docs", "docs/README.md", "metadata.json"
    ]  # fmt: skip
    # A folder that is there gets the bundle inside it.
    assert copy_bundle("ga_ppi", tmp_path) == tmp_path / "ga_ppi"
    with pytest.raises(UsageError, match="already exists"):
        copy_bundle("ga_ppi", tmp_path)
    with pytest.raises(UsageError, match="There is no bundle 'ga', expected one of ga_ppi"):
        copy_bundle("ga", tmp_path / "x")
    (folder / "metadata.json").unlink()
    with pytest.raises(UsageError, match="comes without its bundles"):
        bundles_folder()


def test_the_default_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the current folder, where one is: it is the one that is edited."""
    monkeypatch.chdir(tmp_path)
    assert default_bundle("lidc_ppi") == ROOT / "bundles" / "lidc_ppi"
    copy_bundle("lidc_ppi", tmp_path / "bundles" / "lidc_ppi")
    assert default_bundle("lidc_ppi") == Path("bundles/lidc_ppi")


@pytest.mark.slow
def test_handlers_cost_little_beside_monai() -> None:
    code = """
import time
import monai.bundle, monai.data, monai.engines, monai.handlers, monai.transforms
start = time.process_time()
import ppi_med.handlers as handlers
for name in handlers.__all__:
    getattr(handlers, name)
print(time.process_time() - start)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 3


def test_help_is_light() -> None:
    """`ppi-med --help` loads neither torch nor MONAI nor MLflow."""
    code = "import sys, ppi_med.cli; print([m for m in sys.modules if '.' not in m])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "monai", "mlflow", "numpy", "pydicom"} & set(eval(result.stdout))
