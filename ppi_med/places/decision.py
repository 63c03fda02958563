"""A person's decision about the places of an audit, read and written as YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.errors import MissingFileError, UsageError
from ppi_med.io import write_text

_HEAD = """\
# What may be taken away in training: set `accepted` to true or false, then train with
#   --method ppi_wbp_place --method_options "{'place': 'THIS FILE'}"
# The places and the clusters of maps are shown, under these names, on the page audit.html.
# The values filled in are those of the rule; a cluster is accepted by a person only.
"""


def write_decision(
    path: str | os.PathLike[str],
    places: Sequence[Mapping[str, Any]],
    clusters: Sequence[Mapping[str, Any]],
    *,
    masks: str = "places.npz",
) -> None:
    """Write the decision with the rule's answers filled in, atomically.

    Args:
        path: path of the file.
        places: `name`, `accepted` and further values of each place, in the masks' order.
        clusters: the same of each cluster.
        masks: the file beside it that holds `masks` and `clusters`, bool `(n, H, W)`.
    """
    import yaml

    content = {"masks": masks, "places": list(places), "clusters": list(clusters)}
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_text(path, _HEAD + body)


def accepted_place(path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """Return the union of all places and clusters that a decision accepts, bool `(H, W)`.

    Args:
        path: `decision.yaml` as an audit wrote it and a person changed it.

    Raises:
        MissingFileError: if it, or the masks' file beside it, is not there.
        UsageError: if it is no decision, or does not fit its masks.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no decision {path}: run `ppi-med audit` first.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        named = {kind: list(content[kind] or ()) for kind in ("places", "clusters")}
        accepted = {kind: [item["accepted"] for item in named[kind]] for kind in named}
        masks_path = path.parent / Path(str(content["masks"])).name
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no decision of an audit ({error}).") from error
    if not all(isinstance(value, bool) for values in accepted.values() for value in values):
        raise UsageError(f"{path.name}: `accepted` is true or false, got {accepted}.")
    if not masks_path.is_file():
        raise MissingFileError(f"{path.name} needs {masks_path.name} beside it, which is missing.")
    with np.load(masks_path, allow_pickle=False) as file:
        masks = {
            kind: file[key].astype(bool) if key in file.files else np.zeros((0, 1, 1), bool)
            for kind, key in (("places", "masks"), ("clusters", "clusters"))
        }
    for kind, values in accepted.items():
        if len(values) != len(masks[kind]):
            raise UsageError(
                f"{path.name} names {len(values)} {kind}, {masks_path.name} holds "
                f"{len(masks[kind])}: change only the values of `accepted`."
            )
    chosen = [
        m for kind in named for m, yes in zip(masks[kind], accepted[kind], strict=True) if yes
    ]
    if not chosen:
        shape = next((m.shape[1:] for m in masks.values() if len(m)), (1, 1))
        return np.zeros(shape, bool)
    return np.asarray(np.any(chosen, axis=0))
