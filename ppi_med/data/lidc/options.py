"""What shapes the patches, checked once and hashed, so that a re-run knows what it may keep."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

EXTRACTOR_VERSION = 2
"""Counted up whenever the same scan and options would give other patches."""


@dataclass(frozen=True)
class PatchOptions:
    """How patches are cut and labelled.

    Attributes:
        size: rows and columns.
        spacing_mm: of the patch's pixels; `None` keeps the slice's own (0.5 in Kohl et al. 2018).
        variant: "slices": every slice with an outline; "nodule": the one with the largest union.
        padding_slices: slices above and below the nodule to give too, with empty masks.
        min_readers: label 1 where at least so many readers drew the nodule.
        majority: a pixel is in the majority mask if at least this share of the readers with an
            outline on the slice marked it.
        over_four_label: for clusters of more than four annotations: "unknown" gives no label,
            "count" takes them as four readers.
        duplicates: two files at one position: "refuse" that slice, or take the "lower_instance"
            number, as pylidc does.
        z_tolerance_mm: between the outline's position and the slice's.
    """

    size: int = 128
    spacing_mm: float | None = None
    variant: Literal["slices", "nodule"] = "slices"
    padding_slices: int = 0
    min_readers: int = 3
    majority: float = 0.5
    over_four_label: Literal["unknown", "count"] = "unknown"
    duplicates: Literal["refuse", "lower_instance"] = "refuse"
    z_tolerance_mm: float = 0.05

    def __post_init__(self) -> None:
        for name, low, high in (("size", 8, 512), ("padding_slices", 0, 64), ("min_readers", 1, 4)):
            if not low <= getattr(self, name) <= high:
                got = getattr(self, name)
                raise ValueError(f"{name} is {got}, expected {low} to {high}.")
        if self.spacing_mm is not None and not 0.05 <= self.spacing_mm <= 5:
            raise ValueError(f"spacing_mm is {self.spacing_mm}, expected mm from 0.05 to 5.")
        if not 0 < self.majority <= 1:
            raise ValueError(f"majority is {self.majority}, expected a share above 0, at most 1.")
        if not 0 <= self.z_tolerance_mm < 1:
            raise ValueError(f"z_tolerance_mm is {self.z_tolerance_mm}, expected 0 to below 1 mm.")
        for name, known in (
            ("variant", ("slices", "nodule")),
            ("over_four_label", ("unknown", "count")),
            ("duplicates", ("refuse", "lower_instance")),
        ):
            if getattr(self, name) not in known:
                got = getattr(self, name)
                raise ValueError(f"{name} is {got!r}, expected {' or '.join(known)}.")

    @property
    def label_rule(self) -> str:
        """The label's rule in words, as it goes into the manifest."""
        return f"1 if at least {self.min_readers} of 4 readers drew the nodule (pylidc's clusters)"

    @property
    def hash(self) -> str:
        """Hash of the options and of the extractor's version."""
        text = json.dumps([EXTRACTOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
