"""The plan of the patches: the options, and for a scan its nodules and slices, or why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from ppi_med.data.dicom.tree import DicomFile
from ppi_med.data.lidc.annotations import Nodule, Scan, contour_box, contour_mask

EXTRACTOR_VERSION = 2
"""Version; it rises when the same scan and options would give other patches."""


@dataclass(frozen=True)
class PatchOptions:
    """How patches are cut and labelled.

    Attributes:
        size: rows and columns.
        spacing_mm: spacing of the patch's pixels; `None` keeps the slice's own (0.5 in Kohl et al.
            2018).
        variant: "slices": every slice with an outline; "nodule": the one with the largest union.
        padding_slices: further slices above and below the nodule, with empty masks.
        min_readers: the label is 1 if at least so many readers drew the nodule.
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
        """The label's rule in words, for the manifest."""
        return f"1 if at least {self.min_readers} of 4 readers drew the nodule (pylidc's clusters)"

    @property
    def hash(self) -> str:
        """Hash of the options and of the extractor's version."""
        text = json.dumps([EXTRACTOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


NOT_HERE = "the slice is not here"
SPACING_TOLERANCE_MM = 0.002
"""Tolerance between a slice's pixel spacing and the database's for its scan."""


@dataclass(frozen=True)
class SliceFile:
    """A slice of a series in the index.

    Attributes:
        file: its file.
        z_mm: its position.
        number: InstanceNumber, or `None`.
        instance: SOPInstanceUID.
        shape: rows and columns.
        spacing: mm between rows, between columns.
        copies: further files of the same instance.
    """

    file: DicomFile
    z_mm: float
    number: int | None
    instance: str
    shape: tuple[int, int]
    spacing: tuple[float, ...]
    copies: tuple[DicomFile, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """One patch to be cut.

    Attributes:
        nodule: its nodule.
        z_mm: z of the slice in the database.
        center: row and column in the slice.
        padding: the slice has no outline of this nodule.
    """

    nodule: Nodule
    z_mm: float
    center: tuple[int, int]
    padding: bool = False


@dataclass
class Plan:
    """The patches of a scan, grouped by slice so that each file is opened once.

    Attributes:
        by_slice: file and its patches, from the lowest slice.
        missing: nodule, position and reason of each patch that cannot be cut.
        contours: contours on the slices that exist.
        contour_slices: slices with a contour, existing or not.
    """

    by_slice: list[tuple[SliceFile, list[Wanted]]] = field(default_factory=list)
    missing: list[tuple[str, float, str]] = field(default_factory=list)
    contours: int = 0
    contour_slices: int = 0


def make_plan(
    scan: Scan, nodules: Sequence[Nodule], slices: Sequence[SliceFile], options: PatchOptions
) -> Plan:
    """Plan the patches of a scan.

    Args:
        scan: scan of the database.
        nodules: nodules of the scan.
        slices: the existing slices, in any order.
        options: variant, padding, tolerance, and the rule for two files at one position.

    Returns:
        The plan. A slice that is missing is listed and the others are still cut.
    """
    plan = Plan()
    finder = _Finder(scan, nodules, slices, options)
    wanted: dict[float, list[Wanted]] = {}
    for nodule in nodules:
        for item in _wanted(scan, nodule, finder, options):
            wanted.setdefault(item.z_mm, []).append(item)
    for z_mm, items in sorted(wanted.items()):
        found = finder.at(z_mm)
        if isinstance(found, SliceFile):
            plan.by_slice.append((found, items))
        else:
            plan.missing += [(i.nodule.nodule_id, z_mm, found) for i in items if not i.padding]
    _count_contours(plan, nodules, finder)
    return plan


class _Finder:
    """Finds the slice at a position, if the outlines were drawn on it."""

    def __init__(
        self,
        scan: Scan,
        nodules: Sequence[Nodule],
        slices: Sequence[SliceFile],
        options: PatchOptions,
    ) -> None:
        self.slices = sorted(slices, key=lambda s: (s.z_mm, s.number or 0, s.file.name))
        self.heights = np.array([s.z_mm for s in self.slices])
        self.options, self.spacing = options, scan.pixel_spacing
        drawn = [c for n in nodules for m in n.members for c in m.contours]
        # For the whole scan: one outline outside means that no outline belongs to these pixels.
        self.box = contour_box(drawn) if drawn else (0, 0, 0, 0)

    def at(self, z_mm: float) -> SliceFile | str:
        """Return the slice, or why there is none."""
        near = np.abs(self.heights - z_mm) <= self.options.z_tolerance_mm
        found = [self.slices[i] for i in np.flatnonzero(near)]
        if not found:
            return NOT_HERE
        if len(found) > 1 and self.options.duplicates != "lower_instance":
            return f"{len(found)} slices at this position, expected one (option duplicates)"
        return self._problem(found[0]) or found[0]

    def _problem(self, one: SliceFile) -> str:
        """Return why outlines and pixels do not match, or ""."""
        top, bottom, left, right = self.box
        rows, columns = one.shape
        if min(top, left) < 0 or bottom >= rows or right >= columns:
            return (
                f"the outlines reach rows {top} to {bottom} and columns {left} to {right}, outside "
                f"the slice of {rows} x {columns} pixels"
            )
        if any(abs(mm - self.spacing) > SPACING_TOLERANCE_MM for mm in one.spacing):
            shown = " x ".join(f"{mm:g}" for mm in one.spacing)
            return f"its pixels are {shown} mm, those of the outlines {self.spacing:g} mm"
        return ""


def _wanted(scan: Scan, nodule: Nodule, finder: _Finder, options: PatchOptions) -> list[Wanted]:
    items = [Wanted(nodule, z, _center(nodule, z)) for z in nodule.heights]
    if options.variant == "nodule":
        here = [item for item in items if isinstance(finder.at(item.z_mm), SliceFile)]
        return [max(here or items, key=lambda item: (union_size(nodule, item.z_mm), -item.z_mm))]
    if options.padding_slices:
        items += _padding(scan, nodule, items, options.padding_slices)
    return items


def _padding(scan: Scan, nodule: Nodule, items: Sequence[Wanted], count: int) -> list[Wanted]:
    """Return the slices next to the nodule's ends, as the database lists them."""
    lowest, highest = (int(np.abs(scan.z_mm - items[k].z_mm).argmin()) for k in (0, -1))
    steps = range(1, count + 1)
    below = [(lowest - step, items[0].center) for step in steps]
    above = [(highest + step, items[-1].center) for step in steps]
    return [
        Wanted(nodule, float(scan.z_mm[index]), center, True)
        for index, center in below + above
        if 0 <= index < len(scan.z_mm)
    ]


def union_size(nodule: Nodule, z_mm: float) -> int:
    """Return the number of pixels that any reader marked on a slice."""
    contours = [c for member in nodule.members for c in member.on_slice(z_mm)]
    top, bottom, left, right = contour_box(contours)
    shape = bottom - top + 1, right - left + 1
    masks = [contour_mask(m.on_slice(z_mm), (top, left), shape) for m in nodule.members]
    return int(np.any(masks, axis=0).sum())


def _center(nodule: Nodule, z_mm: float) -> tuple[int, int]:
    """Return the middle of the box of all readers' outlines on the slice."""
    contours = [c for m in nodule.members for c in m.on_slice(z_mm) if c.inclusion]
    top, bottom, left, right = contour_box(contours)
    return (top + bottom) // 2, (left + right) // 2


def _count_contours(plan: Plan, nodules: Sequence[Nodule], finder: _Finder) -> None:
    heights = [c.z_mm for n in nodules for m in n.members for c in m.contours]
    there = {z: isinstance(finder.at(z), SliceFile) for z in set(heights)}
    plan.contour_slices = len(there)
    plan.contours = sum(there[z] for z in heights)
