"""Compare what tiny trainings of all bundles predict at two commits.

    python -m tests.same_predictions REV

The data are made once, by the code that is checked out; each commit trains in a worktree of its
own, with one thread. Tables of predictions and cases and the best weights must be equal bit for
bit. Some minutes on two cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ppi_med.phantoms.birds.spec import BirdPhantomSpec
from ppi_med.phantoms.birds.write import make_bird_phantom
from tests.bundles import tiny, tiny_lidc
from tests.data.lidc.folders import write_nodules

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ("cub_ppi", "cifar10_ppi", "cxr_ppi")


def make_data(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return data and settings of each bundle."""
    birds = folder / "birds"
    spec = BirdPhantomSpec(classes=2, training=120, test=4, size=32)
    make_bird_phantom(spec, birds, validation=0.3)
    small = {"device": "$torch.device('cpu')", "max_epochs": 1, "cache_rate": 0.0}
    small |= {"method": "ppi_wbp"}
    nodules = write_nodules(folder / "nodules")
    return {
        "ga_ppi": (tiny.make_phantom(folder / "oct"), {**tiny.SMALL, "method": tiny.METHOD}),
        "lidc_ppi": (nodules, {**tiny_lidc.SMALL, "test_fold": 1}),
        **dict.fromkeys(PHOTOS, (birds, small)),
    }


def train(tree: Path, name: str, data: Path, settings: Mapping[str, Any], output: Path) -> None:
    """Train a bundle of a worktree with the library of that worktree."""
    output.mkdir(parents=True)
    own = {"dataset_dir": str(data), "output_dir": str(output / "run"), "tracking_uri": "none"}
    overlay = output / "tiny.json"
    overlay.write_text(json.dumps({**settings, **own, "ckpt_dir": str(output / "models")}))
    files = [str(tree / "bundles" / name / "train.json"), str(overlay)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--logging_file", "False"], cwd=tree, env=environment, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def content(path: Path) -> Any:
    """Return what is compared of a file."""
    if path.suffix == ".pt":
        return {k: v.numpy().tobytes() for k, v in torch.load(path, weights_only=True).items()}
    return path.read_bytes()


def differences(a: Path, b: Path) -> list[str]:
    """Return the names of the files that are not equal in two outputs, or not in both."""
    both = [{p.relative_to(f) for s in ("csv", "pt") for p in f.rglob(f"*.{s}")} for f in (a, b)]
    both = [{p for p in paths if "checkpoint" not in p.name} for paths in both]
    names = sorted(both[0] & both[1])
    found = [name for name in names if content(a / name) != content(b / name)]
    if not names:
        return ["nothing to compare"]
    return [str(name) for name in [*found, *sorted(both[0] ^ both[1])]]


def main(other: str) -> int:
    """Train at `other` and at HEAD; print each bundle's verdict."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        every = make_data(folder)
        for revision, name in ((other, "other"), ("HEAD", "head")):
            command = ["git", "worktree", "add", "--quiet", "--detach", folder / name, revision]
            subprocess.run(command, cwd=ROOT, check=True)
        try:
            wrong = 0
            for bundle, (data, settings) in every.items():
                outputs = [folder / f"{name}_{bundle}" for name in ("other", "head")]
                for name, output in zip(("other", "head"), outputs, strict=True):
                    train(folder / name, bundle, data, settings, output)
                unequal = differences(*outputs)
                wrong += bool(unequal)
                print(f"{bundle}: {', '.join(unequal) or 'equal'}", flush=True)
        finally:
            for name in ("other", "head"):
                command = ["git", "worktree", "remove", "--force", folder / name]
                subprocess.run(command, cwd=ROOT, check=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
