"""What the bundles' train.json share is the same in each.

MONAI merges files that the command line names, and a macro (`%file::key`) is read from the folder
that the command runs in. A bundle that one file starts, from anywhere, must thus say everything
itself: these tests keep the copies equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bundles.tiny import ROOT

TRAINED = ("ga_ppi", "lidc_ppi", "cub_ppi", "cifar10_ppi", "cxr_ppi")
# Keys that each bundle answers in its own way; handlers and transforms are lists of its own.
OWN = re.compile(
    r"(bundle_root|dataset_dir|experiment|run_name|imports|initialize|run|test_sites"
    r"|image_size|batch_size|max_epochs|method|select#keys|augment#(_target_|flip_prob)"
    r"|(loss|network_def|optimizer|lr_scheduler)#_target_"
    r"|tags#(bundle|data_hash|split_hash|fold|mask|train_site)"
    r"|(train|validate|test)#(data|dataloader#batch_size|inferer#_target_|.*transforms)"
    r"|(train|validate|test)#handlers#\d#(_target_|facts|metric))$"
)
# In what birds and CIFAR-10 differ.
PHOTOGRAPHS = {
    *("bundle_root", "experiment", "tags#bundle", "initialize", "method_options"),
    *("max_epochs", "select_from", "batch_size", "image_size", "lr", "lr_step", "top_points"),
    "network_def#width",
}


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        items: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        items = list(enumerate(value))
    else:
        yield key, value
        return
    for name, item in items:
        yield from leaves(item, f"{key}#{name}" if key else str(name))


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    files = {name: ROOT / "bundles" / name / "train.json" for name in TRAINED}
    return {name: dict(leaves(json.loads(file.read_text()))) for name, file in files.items()}


def test_leaves_of_all_bundles_are_equal(found: dict[str, dict[str, Any]]) -> None:
    first, *others = found.values()
    shared = [k for k in first if all(k in other for other in others) and not OWN.match(k)]
    assert len(shared) >= 100
    assert [k for k in shared if any(other[k] != first[k] for other in others)] == []


def test_birds_and_cifar_differ_only_in_their_settings(found: dict[str, dict[str, Any]]) -> None:
    birds, cifar = found["cub_ppi"], found["cifar10_ppi"]
    unequal = {k for k in birds.keys() | cifar.keys() if birds.get(k) != cifar.get(k)}
    own = {k for k in unequal if k not in PHOTOGRAPHS and k.split("#")[0] not in PHOTOGRAPHS}
    assert own == set()
