"""The package installed from its wheel into an empty environment, far from any clone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.environments import PIP, borrow_libraries, make_environment, run

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.slow


def sources(target: Path) -> None:
    """Copy what a wheel is built of: building leaves files behind."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    for name in listed:
        if not name.startswith(("tests/", "docs/", "results/", "notebooks/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment that holds the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    sources(folder / "source")
    run(*PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index",
        "-w", folder, folder / "source", cwd=folder)  # fmt: skip
    python = make_environment(folder / "env")
    (wheel,) = folder.glob("ppi_med-*.whl")
    run(*PIP, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    borrow_libraries(python)
    return folder / "env" / "bin"


def test_the_demonstration(
    programs: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """From an empty environment to pictures; a second call goes on with what is there.

    It comes first, so that the minutes hold no other test.
    """
    begun = (programs.parent / "pyvenv.cfg").stat().st_mtime
    said = run(programs / "ppi-med", "demo", "--max-epochs", "2", cwd=tmp_path).stdout
    assert {path.name for path in tmp_path.iterdir()} >= {"data", "bundles", "mlruns.db"}
    pictures = list((tmp_path / "bundles" / "ga_ppi").rglob("pictures/*.png"))
    assert pictures
    minutes = (min(picture.stat().st_mtime for picture in pictures) - begun) / 60
    assert 0 < minutes < 60
    record_property(
        "measured",
        f"{minutes:.1f} minutes from an empty environment to the first picture (two epochs; torch "
        "and the other libraries were there)",
    )
    assert (
        "ppi-med ui shows the runs at http://127.0.0.1:5000/#/experiments/1/" in said
        and "--max_epochs 2" in said
    )
    again = run(programs / "ppi-med", "demo", "--set", "max_epoch=2", cwd=tmp_path, check=False)
    assert again.returncode != 0 and "did you mean max_epochs?" in again.stderr


def test_the_installed_package_is_the_wheels(programs: Path, tmp_path: Path) -> None:
    code = "import ppi_med; print(ppi_med.__file__)"
    assert str(programs.parent) in run(programs / "python", "-c", code, cwd=tmp_path).stdout


def test_bundles_are_listed_and_copied(programs: Path, tmp_path: Path) -> None:
    listed = run(programs / "ppi-med", "bundles", cwd=tmp_path).stdout
    names = [path.parent.name for path in (ROOT / "bundles").glob("*/metadata.json")]
    assert all(f"\n{name} " in f"\n{listed}" for name in names)
    said = run(programs / "ppi-med", "copy", "lidc_ppi", "mine", cwd=tmp_path).stdout
    assert "python -m monai.bundle run --config_file mine/train.json" in said
    for file in (ROOT / "bundles" / "lidc_ppi").glob("*.*"):
        assert (tmp_path / "mine" / file.name).read_bytes() == file.read_bytes()
    refused = run(
        programs / "ppi-med", "copy", "lidc_ppi", "mine/train.json", cwd=tmp_path, check=False
    )
    assert refused.returncode == 2 and "already exists" in refused.stderr
    refused = run(programs / "ppi-med", "copy", "ga_pii", "x", cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "did you mean ga_ppi?" in refused.stderr
    # A copy is run from where it lies, and says what it lacks in words that hold without a clone.
    copied = run(programs / "ppi-med", "copy", "ga_ppi", tmp_path, cwd=tmp_path).stdout
    assert f"{tmp_path / 'ga_ppi'}: settings in train.json" in copied
    words = ("-m", "monai.bundle", "run", "--config_file", "ga_ppi/train.json")
    result = run(programs / "python", *words, cwd=tmp_path, check=False)
    assert "make the phantom with `ppi-med make-phantom oct --output" in result.stderr
