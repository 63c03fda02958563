"""The bundle's README says what the configurations hold: each key, its default, its commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ppi_med.handlers.methods import METHODS
from tests.bundles.tiny import BUNDLE, ROOT

README = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
OVERLAYS = ("evaluate.json", "paper.json", "multi_gpu.json", "lesions.json")
MADE = "made"


def keys_of(name: str) -> dict[str, Any]:
    return dict(json.loads((BUNDLE / name).read_text(encoding="utf-8")))


def rows() -> dict[str, list[str]]:
    """Return the cells behind each key of the README's tables."""
    section = README.split("## Keys")[1].split("\n## ")[0]
    found = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), cells))
    return found


@pytest.mark.parametrize("name", ["train.json", *OVERLAYS])
def test_every_key_is_documented(name: str) -> None:
    keys = {re.split("#", key.removeprefix("+"))[0] for key in keys_of(name)}
    assert keys <= set(rows())


def test_nothing_else_is_documented() -> None:
    known = {key for name in ("train.json", *OVERLAYS) for key in keys_of(name)}
    assert set(rows()) <= known


@pytest.mark.parametrize("key", list(keys_of("train.json")))
def test_defaults(key: str) -> None:
    value, cells = keys_of("train.json")[key], rows()[key]
    if len(cells) < 2:
        return  # a part that is explained as a whole
    if isinstance(value, str) and value.startswith("$") or key == "tags":
        assert cells[0] == MADE
    elif "_target_" in json.dumps(value):
        assert cells[0] == ""
    else:
        assert cells[0] == f"`{json.dumps(value)}`"


def test_every_method_is_named() -> None:
    text = rows()["method"][1]
    for method in METHODS:
        short = re.sub(r"^ppi_wbp(_shared)?(?=_)", "", method)
        assert f"`{method}`" in text or f"`{short}`" in text, method


def commands() -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("command", commands())
def test_commands_name_files_and_keys_that_exist(command: str) -> None:
    words = shlex.split(command)
    for file in re.findall(r"bundles/[\w/.]+\.json|data_prep/\w+\.py", command):
        assert (ROOT / file).is_file(), file
    if "monai.bundle run" not in command:
        return
    text = words[words.index("--config_file") + 1]
    files = re.findall(r"[\w/]+\.json", text)
    known = {key for file in files for key in keys_of(Path(file).name)} | {"config_file"}
    for word in words[words.index("run") + 1 :]:
        if word.startswith("--"):
            assert word.removeprefix("--").split("#")[0] in known, word


def test_there_are_commands() -> None:
    assert len(commands()) > 10
