from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ppi_med.networks import torchvision_shim
from ppi_med.networks.torchvision_shim import ensure_torchvision

ROOT = Path(__file__).resolve().parent.parent.parent
installed = importlib.util.find_spec("torchvision") is not None
needs_torchvision = pytest.mark.skipif(not installed, reason="torchvision is not installed")


def run(code: str) -> str:
    """Run in a fresh interpreter: what was imported and declared here would hide the effect."""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@needs_torchvision
def test_a_network_runs_after_it() -> None:
    code = (
        "from ppi_med.networks.torchvision_shim import ensure_torchvision\n"
        "assert ensure_torchvision() and ensure_torchvision()\n"
        "import torch, torchvision, gc; gc.collect()\n"
        "from torchvision.models import resnet18\n"
        "print(tuple(resnet18().eval()(torch.zeros(1, 3, 32, 32)).shape))"
    )
    assert run(code) == "(1, 1000)"


@needs_torchvision
@pytest.mark.slow
def test_it_works_after_monai() -> None:
    code = (
        "import monai\n"
        "from ppi_med.networks.torchvision_shim import ensure_torchvision\n"
        "ensure_torchvision()\n"
        "from torchvision.models import resnet18; print(resnet18.__name__)"
    )
    assert run(code) == "resnet18"


def test_absent_torchvision_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert ensure_torchvision() is False


def test_a_build_that_loads_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_C.so").touch()
    declared: list[str] = []
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(torchvision_shim, "_installed_folder", lambda: tmp_path)
    monkeypatch.setattr(torchvision_shim, "_declared", [])
    monkeypatch.setattr(torchvision_shim, "_declare_operators", lambda: declared.append("nms"))
    monkeypatch.setattr("torch.ops.load_library", lambda path: None)
    assert ensure_torchvision() is True
    assert declared == []


def test_a_build_that_does_not_load_gets_the_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_C.so").write_bytes(b"no library")
    declared: list[str] = []
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(torchvision_shim, "_installed_folder", lambda: tmp_path)
    monkeypatch.setattr(torchvision_shim, "_declared", [])
    monkeypatch.setattr(torchvision_shim, "_declare_operators", lambda: declared.append("nms"))
    assert ensure_torchvision() is True
    assert declared == ["nms"]
