"""Weights from a file: the forms that are read, and words for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ppi_med.errors import UsageError
from ppi_med.handlers import load_weights


@pytest.mark.parametrize("key", [None, "model", "network", "state_dict"])
def test_a_state_dict_alone_or_under_a_key(tmp_path: Path, key: str | None) -> None:
    source, target = nn.Linear(3, 1), nn.Linear(3, 1)
    state = source.state_dict()
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "model.pt")
    load_weights(target, tmp_path / "model.pt")
    assert torch.equal(target.weight, source.weight)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No weights .*model\.pt: train the bundle first"):
        load_weights(nn.Linear(3, 1), tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 no zip"])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(UsageError, match="could not be read as weights"):
        load_weights(nn.Linear(3, 1), tmp_path / "model.pt")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 1), tmp_path / "model.pt")
    with pytest.raises(UsageError, match="could not be read as weights"):
        load_weights(nn.Linear(3, 1), tmp_path / "model.pt")


@pytest.mark.parametrize("content", [{}, [1], {"epoch": 3}])
def test_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="expected a state dict"):
        load_weights(nn.Linear(3, 1), tmp_path / "model.pt")


def test_another_network(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(UsageError, match="does not fit Linear: is network_def the same"):
        load_weights(nn.Linear(3, 1), tmp_path / "model.pt")
