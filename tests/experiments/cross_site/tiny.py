"""A sweep of 2 sites, 2 methods, 1 seed and one epoch: four cells of two seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ppi_med.experiments import sweep_records as records
from ppi_med.experiments.cross_site import Request
from ppi_med.tracking.location import locate
from tests.bundles.tiny import BUNDLE, SMALL
from tests.tracking.stores import client_of


def request_for(phantom: Path, folder: Path, **changes: Any) -> Request:
    request = Request(
        bundle=BUNDLE,
        dataset_dir=str(phantom),
        methods=("plain", "ppi_wbp_shared"),
        seeds=(0,),
        overrides={**SMALL, "max_epochs": 1},
        tracking_uri=locate(folder / "store").uri,
        work=folder / "work",
        output=folder / "tables",
        workers=0,
        command="ppi-med cross-site",
    )
    return replace(request, **changes)


def children_of(folder: Path) -> tuple[Any, list[records.Sweep], list[Any]]:
    client = client_of(locate(folder / "store"))
    sweeps = records.find_sweeps(client)
    return client, sweeps, [run for one in sweeps for run in records.children(client, one)]


def text_of(folder: Path) -> str:
    return (folder / "tables" / "tables.md").read_text(encoding="utf-8")
