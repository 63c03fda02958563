"""What the pages show must hold: configurations are built, names exist, examples are kept."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(language: str) -> list[Any]:
    found = []
    for page in PAGES:
        texts = re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        name = page.relative_to(ROOT)
        found += [pytest.param(text, id=f"{name}-{i}") for i, text in enumerate(texts)]
    return found


def components(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the components in a configuration."""
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict) and "_target_" in value:
        yield value
    elif isinstance(value, dict | list):
        for child in children:
            yield from components(child)


@pytest.mark.parametrize("text", blocks("json"))
def test_configurations_can_be_built(text: str) -> None:
    from monai.bundle import ConfigParser

    found = list(components(json.loads(text)))
    assert found
    ConfigParser({"shown": found}).get_parsed_content("shown")


@pytest.mark.parametrize("text", blocks("json"))
def test_an_entry_of_ppi_trains(text: str) -> None:
    from monai.bundle import ConfigParser

    for entry in components(json.loads(text)):
        if entry["_target_"].endswith(("PPIHandler", "training_method")):
            handler = ConfigParser({"shown": entry}).get_parsed_content("shown")
            shared = handler.terms.shared
            volumes = shared is not None and 2 in shared.axes
            output = one_step(handler, (4, 1, 3, 16, 16) if volumes else (4, 1, 16, 16))
            assert {"loss/con", "loss/ad", "loss/reg"} <= set(output)


def one_step(handler: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Train one step with a stock trainer and return its output."""
    import torch
    from monai.engines import SupervisedTrainer
    from torch import nn

    torch.manual_seed(0)
    conv = nn.Conv3d if len(shape) == 5 else nn.Conv2d
    pool = nn.AdaptiveAvgPool3d if len(shape) == 5 else nn.AdaptiveAvgPool2d
    network = nn.Sequential(conv(1, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 1))
    batch = {"image": torch.rand(shape), "label": torch.tensor([[0.0], [1.0], [1.0], [0.0]])}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[batch],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.BCEWithLogitsLoss(),
        train_handlers=[handler],
        decollate=False,
    )
    trainer.run()
    output: dict[str, Any] = trainer.state.output
    return output


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles_and_its_imports_exist(text: str) -> None:
    compile(text, "page", "exec")
    for module, names in re.findall(r"^from (ppi_med[\w.]*) import (.+)$", text, re.MULTILINE):
        for name in names.split(","):
            assert hasattr(importlib.import_module(module), name.strip()), f"{module}.{name}"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_is_in_the_reference() -> None:
    pytest.importorskip("mkdocs")
    hooks = load("hooks")
    shown = {name for names in hooks.parts().values() for name in names}
    for path in (ROOT / "ppi_med").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if not parts[-1].startswith("_"):
            assert ".".join(parts) in shown, f"{path}: does its folder have an __init__.py?"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Add.\n\n>>> f()\n[1, 2]", "Add.\n\nExamples:\n    >>> f()\n    [1, 2]"),
        ("Add.\n\nExamples:\n    >>> f()\n    1", "Add.\n\nExamples:\n    >>> f()\n    1"),
        ("Add a >>> b.", "Add a >>> b."),
        (">>> a\n1\n\nText.", "Examples:\n    >>> a\n    1\n\nText."),
    ],
)
def test_examples_get_their_heading(text: str, wanted: str) -> None:
    pytest.importorskip("griffe")
    assert load("griffe_examples").with_heading(text) == wanted


def test_the_tables_of_results_are_those_of_the_records() -> None:
    path = ROOT / "docs" / "figures" / "result_tables.py"
    spec = importlib.util.spec_from_file_location("result_tables", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert module.page_from_records(page) == page, "run python docs/figures/result_tables.py"


def test_the_figures_of_the_first_table_are_in_the_tables_below() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    first, _, below = page.partition("## How to read the tables")
    tables = "\n".join(line for line in below.splitlines() if line.startswith("|"))
    figures = re.findall(r"[+-]?\d\.\d{2,}", first)
    assert len(figures) > 10
    assert [figure for figure in figures if figure not in tables] == []
