"""Small weights that come with a bundle: of a training on its phantom, not on patients.

A bundle of the model zoo has `models/model.pt`. Users train our bundles themselves. So that a
packed bundle answers at once, the weights of a training on the phantom are kept with it, as arrays
without code (`phantom_weights.npz`). `ppi-med pack` takes them if there are no others.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.errors import UsageError
from ppi_med.io import atomic_path

FILE = "phantom_weights.npz"
LARGEST = 2**20
"""Bytes: the largest file in a repository of text."""
_FACTS = "facts.json"


def keep_phantom_weights(bundle: str | Path, facts: dict[str, Any]) -> Path:
    """Write `models/model.pt` of a bundle as `phantom_weights.npz`.

    Args:
        bundle: its folder, after a training on the phantom.
        facts: further facts of the training, such as data and AUC, added to those of `model.json`.

    Returns:
        The file.

    Raises:
        UsageError: if there are no weights, or they are larger than `LARGEST`.
    """
    import torch

    folder = Path(bundle)
    source = folder / "models" / "model.pt"
    if not source.is_file():
        raise UsageError(f"There is no {source}: train the bundle on the phantom first.")
    state = torch.load(source, map_location="cpu", weights_only=True)
    arrays = {name: value.numpy() for name, value in state.items()}
    stated = source.with_suffix(".json")
    known = json.loads(stated.read_text(encoding="utf-8")) if stated.is_file() else {}
    text = json.dumps({**known, **facts, "data": "phantom, no patient"})
    arrays[_FACTS] = np.frombuffer(text.encode(), np.uint8)
    target = folder / FILE
    with atomic_path(target) as temporary:
        np.savez_compressed(temporary, **arrays)
        size = temporary.stat().st_size
        if size > LARGEST:
            raise UsageError(f"The weights of {folder} take {size} bytes, expected at most 2^20.")
    return target


def phantom_weights(bundle: str | Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the state of the network and the facts, or None if a bundle has none."""
    import torch

    file = Path(bundle) / FILE
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as arrays:
        facts = json.loads(arrays[_FACTS].tobytes().decode())
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != _FACTS}
    return state, facts


def as_files(bundle: str | Path) -> dict[str, bytes]:
    """Return `model.pt` and `model.json` of the phantom's weights; empty if there are none."""
    import torch

    found = phantom_weights(bundle)
    if found is None:
        return {}
    state, facts = found
    stream = io.BytesIO()
    torch.save(state, stream)
    text = json.dumps(facts, indent=2) + "\n"
    return {"models/model.pt": stream.getvalue(), "models/model.json": text.encode()}
