"""Options that several sub-commands share, and how their texts are read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ppi_med.errors import UsageError

BUNDLES = (
    "cifar10_ppi",
    "cub_ppi",
    "cxr_ppi",
    "ga_ppi",
    "imagenet_wbp",
    "lidc_patches",
    "lidc_ppi",
)
METHODS = (
    *("plain", "auto", "neutral", "strong_augmentation", "group_dro", "irm", "rsc"),
    *("right_reasons", "spectral_decoupling", "saliency_guided", "mask_tune", "clarc", "d_bat"),
    *("random_mask", "random_exchange", "random_context", "ppi_gradient", "ppi_lrp"),
    *("ppi_gradcam", "ppi_wbp", "ppi_wbp_soft", "ppi_wbp_adaptive", "ppi_wbp_hard"),
    *("ppi_wbp_box", "ppi_wbp_topk", "ppi_wbp_shared", "ppi_wbp_shared_stop"),
    *("ppi_wbp_shared_alternate", "ppi_wbp_shared_every2", "ppi_wbp_shared_zero"),
    *("ppi_wbp_exchange", "ppi_wbp_context", "ppi_wbp_place", "ppi_wbp_place_coin"),
    *("ppi_wbp_place_blind", "ppi_wbp_style"),
)
MAPS = (
    *("wbp", "wbp_symmetric", "gradient", "gradient_absolute", "gradient_x_input"),
    *("integrated_gradients", "smoothgrad", "smoothgrad_wbp", "gradcam", "gradcam_plus_plus"),
    *("lrp_epsilon", "lrp_gamma", "lrp_alpha2_beta1", "lrp_epsilon_plus"),
    *("lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "occlusion"),
)
"""Names for the shell's completion, which cannot wait for the import of what they name."""


def completing(*names: str) -> Callable[[str], list[str]]:
    """Return a completion of the last name of a list with commas between.

    >>> completing("plain", "ppi_wbp")("plain,pp")
    ['plain,ppi_wbp']
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete


Override = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="ID=VALUE", help="Override an id (JSON or text); repeatable."),
]
Overlay = Annotated[
    list[str] | None,
    typer.Option(help="Configuration over train.json, a name in the bundle; repeatable."),
]
BundleFolder = Annotated[Path, typer.Option(help="The bundle's folder.")]
Seeds = Annotated[str, typer.Option(help="Seeds, commas between.")]
MethodNames = Annotated[
    str,
    typer.Option(
        help="Methods, commas between; default: those of its table.",
        autocompletion=completing(*METHODS),
    ),
]
MapNames = Annotated[
    str,
    typer.Option(help="Methods, commas between; default: all.", autocompletion=completing(*MAPS)),
]
RecordsFolder = Annotated[Path, typer.Option(help="Folder of the finished cells' records.")]
TableOnly = Annotated[
    bool, typer.Option("--table", help="Print the table from the records; run nothing.")
]
TablesFolder = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the tables here too: Markdown, CSV, LaTeX, PNG."),
]
Workers = Annotated[int, typer.Option(help="Processes.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the cells and the hours they take; run nothing.")
]


def names(text: str) -> tuple[str, ...]:
    """Return the comma-separated parts of a text.

    >>> names("plain, ppi_wbp,")
    ('plain', 'ppi_wbp')
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Return comma-separated whole numbers.

    Raises:
        UsageError: if a text is not a whole number.

    >>> numbers("0,1,2", "--seeds")
    (0, 1, 2)
    """
    try:
        return tuple(int(part) for part in names(text))
    except ValueError as error:
        raise UsageError(
            f"{option} is {text!r}, expected whole numbers, commas between."
        ) from error


def overrides(texts: Iterable[str] | None) -> dict[str, Any]:
    """Return the ids and values of `--set`; a value that is not JSON is a string.

    Raises:
        UsageError: if an id or a value is missing.

    >>> overrides(["max_epochs=1", "method=plain"])
    {'max_epochs': 1, 'method': 'plain'}
    """
    return dict(_override(text) for text in texts or ())


def log_to_screen() -> None:
    """Show progress as lines with the time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {text}: expected ID=VALUE, such as --set max_epochs=10.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
