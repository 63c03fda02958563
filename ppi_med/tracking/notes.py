"""A run in three sentences, as MLflow shows it: what was trained, with which result, and again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ppi_med import naming

NOTE = "mlflow.note.content"
_LONGEST = 7500
_RESULTS = {
    naming.TEST_AUC: "AUC on held-out cases",
    naming.TEST_ACCURACY: "accuracy on held-out cases",
    naming.OTHER_SITES: "mean AUC on other sites",
    naming.SELECTED: "validation AUC",
}


def trained(tags: Mapping[str, Any], epochs: Any = None) -> str:
    """Return what was trained on what, as a sentence; "" where the tags name no bundle.

    Examples:
        >>> trained({"bundle": "ga_ppi", "method": "plain", "train_site": "Köln", "seed": 0}, 2)
        'The bundle ga_ppi: plain, trained on Köln, at most 2 epochs, seed 0.'
    """
    known = {name: str(tags[name]) for name in naming.TAGS if tags.get(name) is not None}
    if naming.TAG_BUNDLE not in known:
        return ""
    site = known.get(naming.TAG_TRAIN_SITE)
    parts = [
        known.get(naming.TAG_METHOD),
        f"trained on {'all sites' if site == 'all' else site}" if site else None,
        None if epochs is None else f"at most {epochs} epochs",
        *(f"{tag} {known[tag]}" for tag in (naming.TAG_FOLD, naming.TAG_SEED) if tag in known),
    ]
    return f"The bundle {known[naming.TAG_BUNDLE]}: {', '.join(part for part in parts if part)}."


def result(values: Mapping[str, Any]) -> str:
    """Return measures as a sentence; `NAME_low` and `NAME_high` are an interval.

    Examples:
        >>> result({"test/auc": 0.9, "test/auc_low": 0.8, "test/auc_high": 1.0})
        'AUC on held-out cases 0.900 (95 % interval 0.800 to 1.000).'
    """
    said = []
    for name in (name for name in _RESULTS if name in values):
        low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
        bounds = "" if low is None else f" (95 % interval {low:.3f} to {high:.3f})"
        said.append(f"{_RESULTS[name]} {values[name]:.3f}{bounds}")
    return f"{', '.join(said)}." if said else ""


def note(sentences: Sequence[str], command: str, run_id: str | None, picture: str = "") -> str:
    """Return a description in Markdown: sentences, the command that repeats it, a picture.

    Args:
        sentences: what was trained, and its result.
        command: as typed in a shell.
        run_id: of the run; None: not known yet.
        picture: path of an image among the run's artifacts, or "".
    """
    said = [*sentences, f"Picture: artifact `{picture}`." if picture else ""]
    text = f"{' '.join(one for one in said if one)} Again:\n\n```\n{_lines(command)}\n```"
    if picture and run_id:
        # MLflow's server hands out artifacts at this address; a data: image it does not show.
        query = f"run_uuid={run_id}&path={quote(picture, safe='')}"
        text += f"\n\n![{picture}](get-artifact?{query})"
    return text[:_LONGEST]


def _lines(command: str) -> str:
    """Return a command with an option a line: a long line widens MLflow's whole page."""
    return re.sub(r"'[^']*'| (?=--)", lambda m: " \\\n  " if m[0] == " " else m[0], command)
