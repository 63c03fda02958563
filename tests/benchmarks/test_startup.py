"""The script that measures the start: whose time is whose, and the whole on a tiny phantom."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks import _startup_child, startup
from tests.bundles.tiny import SMALL, make_phantom


class FakeTime:
    def __init__(self) -> None:
        self.value = 0.0

    def __call__(self) -> float:
        return self.value


def test_time_belongs_to_the_innermost_part() -> None:
    time = FakeTime()
    clock = _startup_child.Clock("outer", time)
    time.value = 1.0
    with clock.part("a"):
        time.value = 3.0
        with clock.part("b"):
            time.value = 7.0
        time.value = 8.0
    time.value = 10.0
    clock.note()
    assert clock.seconds == {"outer": 3.0, "a": 3.0, "b": 4.0}


def test_an_error_leaves_the_part() -> None:
    time = FakeTime()
    clock = _startup_child.Clock("outer", time)
    with pytest.raises(KeyError), clock.part("a"):
        time.value = 1.0
        raise KeyError
    time.value = 3.0
    clock.note()
    assert clock.seconds == {"a": 1.0, "outer": 2.0}


def test_other_threads_do_not_move_the_clock() -> None:
    clock = _startup_child.Clock("outer", FakeTime())

    def work() -> None:
        with clock.part("thread"):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    clock.note()
    assert set(clock.seconds) == {"outer"}


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("torch.nn.functional", "import torch"),
        ("json.decoder", "import standard library"),
        ("__main__", "configuration"),
    ],
)
def test_imports_belong_to_their_package(module: str, part: str) -> None:
    assert _startup_child.package_part(module) == part


def test_small_imports_are_summed() -> None:
    seconds = {"import a": 2.0, "import b": 3.0, "import c": 0.5, "tracking": 0.25}
    shown = startup.slowest_imports(seconds, 1)
    assert startup.grouped(seconds, shown) == {
        "import b": 3.0,
        "tracking": 0.25,
        "import other packages": 2.5,
    }


def test_a_part_that_a_start_lacks_took_no_time() -> None:
    assert startup.medians([{"a": 1.0}, {"a": 3.0, "b": 2.0}, {"a": 2.0}]) == {"a": 2.0, "b": 0.0}


def test_a_bundle_that_does_not_start_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_startup_child.py").write_text("raise SystemExit('no such key')")
    monkeypatch.setattr(startup, "HERE", tmp_path)
    with pytest.raises(SystemExit, match="code 1 before its first step.*\n.*\nno such key"):
        startup.start_once(["run"], tmp_path / "report.json", "wall")


@pytest.mark.slow
def test_the_whole_start_of_the_bundle(tmp_path: Path) -> None:
    data = make_phantom(tmp_path / "data")
    small = [f"--{key}={value}" for key, value in {**SMALL, "method": "plain"}.items()]
    file = tmp_path / "startup.json"
    subprocess.run(
        [
            *(sys.executable, "benchmarks/startup.py", "--rounds", "0", "--clock", "cpu"),
            *("--json", str(file), "--dataset_dir", str(data), *small),
        ],
        cwd=Path(startup.__file__).parent.parent,
        check=True,
    )
    seconds = json.loads(file.read_text())["first"]
    for part in ("import torch", "import monai", "data read and cached", "tracking", "first step"):
        assert seconds[part] > 0
