"""The result of an audit: what was measured and asked, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.audit.evidence import Evidence
from ppi_med.audit.network import Network
from ppi_med.audit.pixels import Scale
from ppi_med.audit.sources import Source
from ppi_med.places import Place

FEW = 60
"""With fewer validation patients the numbers are called uncertain."""
PLAIN, _DEVICE = "plain", "random_exchange"


@dataclass(frozen=True)
class Verdict:
    """The verdict of an audit.

    Attributes:
        shortcut: whether there is one.
        kind: `none`; `place`; `texture`; `mark` (one that moves); `style` (no place, by the
            network); `device` (by the data alone, the surroundings tell the label); `header`
            (values outside the image do).
        reasons: sentences, the strongest first.
        look: what is worth a look, but is not a shortcut by the rule.
        recommended_method: the recommended training method.
        why: in one sentence.
    """

    shortcut: bool
    kind: str
    reasons: tuple[str, ...]
    look: tuple[str, ...]
    recommended_method: str
    why: str


@dataclass(frozen=True, eq=False)
class Audit:
    """The result of an audit.

    Attributes:
        source: the data set, without the cases that cannot be read.
        scale: the images' common scale.
        evidence: evidence of the data alone.
        network: evidence from a short training; None without one.
        verdict: the verdict.
        validation: patients of the validation part, by class.
        split: source of that part.
        unreadable: a sentence for each case that could not be read.
        command: command of the training that is recommended.
        files: the written files.
    """

    source: Source
    scale: Scale
    evidence: Evidence
    network: Network | None
    verdict: Verdict
    validation: tuple[int, ...]
    split: str
    unreadable: tuple[str, ...]
    command: str
    class_means: NDArray[np.float32]
    files: list[Path] = field(default_factory=list)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences at the top of the page."""
        said = list(self.source.notes)
        if sum(self.validation) < FEW or min(self.validation) < FEW // 4:
            said.append(
                f"The validation part has {sum(self.validation)} patients "
                f"({', '.join(map(str, self.validation))} by class): too few to be sure. Read the "
                "intervals, not the values."
            )
        if self.unreadable:
            said.append(
                f"{len(self.unreadable)} images could not be read and were left out: "
                f"{self.unreadable[0]}"
            )
        images = {case.image.partition("::")[0].lower() for case in self.source.cases}
        if not self.scale.volumes and any(
            one.endswith((".dcm", ".dicom", ".nii", ".nii.gz", ".npy")) for one in images
        ):
            said.append("The bundles for 2-D read PNG, JPEG and TIFF: convert before you train.")
        return tuple(said)

    def summary(self) -> dict[str, Any]:
        """Return the content of `audit.json`."""
        found = self.network.search if self.network else None
        effects = self.network.effects if self.network else ()
        places = [
            {**place_facts(p), "exchange": e}
            for p, e in zip(found.places if found else (), effects, strict=True)
        ]
        return {
            "shortcut": self.verdict.shortcut,
            "kind": self.verdict.kind,
            "reasons": list(self.verdict.reasons),
            "look": list(self.verdict.look),
            "j_net": found.j_net if found else None,
            "j_net_interval": list(found.j_net_interval) if found else None,
            "network_auc": found.auc if found else None,
            "left": found.left if found else None,
            "images": found.neutral.name if found and found.neutral else None,
            "places": places,
            "marks": [
                {
                    "class": self.source.classes[mark.label],
                    "j": round(mark.j, 4),
                    "auc": round(mark.auc, 4),
                    "constancy": round(mark.constancy, 4),
                }
                for mark in (found.marks if found else ())
            ],
            "recommended_method": self.verdict.recommended_method,
            "why": self.verdict.why,
            "command": self.command,
            "data_alone": {
                "measures": self.evidence.rows(),
                "grid_auc": self.evidence.cells.tolist(),
                "grid_low": self.evidence.cells_low.tolist(),
                "grid_high": self.evidence.cells_high.tolist(),
            },
            "clusters": [
                {
                    "class": self.source.classes[c.label],
                    "images": c.count,
                    "asked": c.asked,
                    "edge_share": c.edge_share,
                    "examples": list(c.names),
                }
                for c in (self.network.clusters if self.network else ())
            ],
            "data": {
                "name": self.source.name,
                "form": self.source.form,
                "cases": len(self.source.cases),
                "patients": len(set(self.source.patient)),
                "classes": {
                    name: int((self.source.label == k).sum())
                    for k, name in enumerate(self.source.classes)
                },
                "validation_patients": list(self.validation),
                "split": self.split,
                "image_size": list(self.scale.size),
                "slices_of_a_volume": self.scale.positions,
            },
            "warnings": list(self.warnings),
            "unreadable": list(self.unreadable),
        }


def judge(evidence: Evidence, network: Network | None, classes: Sequence[str] = ()) -> Verdict:
    """Combine the evidence from the data alone and from the network.

    Args:
        evidence: of the data alone.
        network: of a short training.
        classes: their names, for the sentences.
    """
    alarms = [m for m in evidence.measures if m.level == "shortcut"]
    header = [m for m in alarms if m.group in ("header", "file")]
    around = [m for m in alarms if m.group.startswith("around")]
    reasons = []
    found = network.search if network else None
    said, _, advice = found.reason.partition(":") if found else ("", "", "")
    for mark in found.marks if found and classes else ():
        said = said.replace(f"of class {mark.label} ", f"of class {classes[mark.label]} ")
    if found and found.shortcut:
        reasons.append(said + ".")
    if around:
        named = ", ".join(f"{m.name} {m.auc:.2f}" for m in around)
        reasons.append(
            f"The surroundings alone tell the label (AUC of {named}; the whole image "
            f"{evidence.measures[0].auc:.2f}): device, sharpness, grey values or marks."
        )
    if header:
        named = ", ".join(f"{m.name} {m.auc:.2f}" for m in header[:4])
        reasons.append(f"Values outside the image tell the label (AUC of {named}).")
    look = tuple(
        f"{m.name}: AUC {m.auc:.2f} [{m.low:.2f}, {m.high:.2f}]"
        for m in evidence.measures
        if m.level == "look"
    )
    if found and found.shortcut:
        why = f"{said}:{advice}"
        method = found.recommended_method
        return Verdict(True, found.kind, tuple(reasons), look, method, why)
    if around:
        why = (
            "No single place was found, the device as a whole tells the label"
            if found
            else "No network was asked for a place (ask one: leave out --data-only)"
        )
        why += (
            f": of the methods that were tried on chest X-rays of two devices, {_DEVICE} lost "
            "nothing and gained a little (four runs); look for images of both classes from one "
            "device."
        )
        return Verdict(True, "device", tuple(reasons), look, _DEVICE, why)
    if header:
        why = (
            "Training cannot remove what groups the data: balance the classes within each "
            "value, or test on data in which it does not predict the label."
        )
        return Verdict(True, "header", tuple(reasons), look, PLAIN, why)
    why = found.reason if found else "The data alone show no shortcut; no network was asked."
    return Verdict(False, "none", (), look, PLAIN, why)


def place_facts(place: Place) -> dict[str, Any]:
    """Return what is written of a place, as JSON values."""
    return {
        "accepted": bool(place.accepted),
        "j": round(float(place.j), 4),
        "share": round(float(place.share), 4),
        "auc": round(float(place.auc), 4),
        "icc": round(float(place.icc), 4),
        "round": int(place.round),
    }
