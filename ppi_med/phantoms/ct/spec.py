"""The scanners and parameters of a LIDC phantom, and the plan that follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.annotations import AnnotationDatabase, Nodule, Scan, find_nodules
from ppi_med.data.lidc.plan import PatchOptions
from ppi_med.data.manifest import ManifestRow
from ppi_med.data.splits import Splits, make_splits
from ppi_med.errors import UsageError
from ppi_med.phantoms.agreement import Agreement, assign_artefacts
from ppi_med.phantoms.base import stream

Mark = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]]

MARK_HU = 900.0
"""Value of a mark."""

MARK_REACH_MM = 4.0
"""Half the side of the square that a mark lies in."""


def _cross(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A caliper's cross."""
    near = np.maximum(abs(down), abs(right)) < 3.0
    return np.asarray(near & (np.minimum(abs(down), abs(right)) < 0.6))


def _arrow(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A filled arrow head that points to the left."""
    return np.asarray((right > -2.5) & (right < 2.5) & (abs(down) < 0.5 * (right + 2.5)))


def _frame(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """An empty square."""
    reach = np.maximum(abs(down), abs(right))
    return np.asarray((reach < 3.2) & (reach > 2.1))


def _ticks(down: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A piece of a ruler: ticks on a base line."""
    inside = (abs(right) < 3.5) & (abs(down) < 2.5)
    return np.asarray(inside & ((down > 1.4) | (np.abs(right % 2.0 - 1.0) < 0.45)))


MARKS: Mapping[str, Mark] = MappingProxyType(
    {"cross": _cross, "arrow": _arrow, "frame": _frame, "ticks": _ticks}
)


@dataclass(frozen=True)
class CtSite:
    """One scanner.

    Attributes:
        name: Manufacturer, and so the site.
        model: ManufacturerModelName.
        kernel: ConvolutionKernel.
        share: share of the patients.
        intercept: RescaleIntercept; the stored values are HU minus it.
        blur_mm: deviation of the point spread.
        sharpening: share of the detail that the kernel adds back.
        noise_hu: deviation of the noise at a slice thickness of 2.5 mm.
        grain_mm: size of the noise's grain.
        padding: outside the circle that was reconstructed the stored value is -2000.
        mark: one of `MARKS`.
        mark_offset_mm: offset in mm of its middle from the nodule's: down, right.
    """

    name: str
    model: str
    kernel: str
    share: float
    intercept: int
    blur_mm: float
    sharpening: float
    noise_hu: float
    grain_mm: float
    padding: bool
    mark: str
    mark_offset_mm: tuple[float, float]


CT_SITES: tuple[CtSite, ...] = (
    CtSite("GE MEDICAL SYSTEMS", "Phantom A", "STANDARD", 0.4, -1024, 0.75, 0.0, 24.0, 0.7, True,
           "cross", (9.0, 9.0)),
    CtSite("SIEMENS", "Phantom B", "B45f", 0.25, -1024, 0.6, 0.5, 34.0, 0.45, False,
           "arrow", (-9.0, 9.0)),
    CtSite("Philips", "Phantom C", "C", 0.2, -1000, 0.7, 0.3, 28.0, 0.6, False,
           "frame", (9.0, -9.0)),
    CtSite("TOSHIBA", "Phantom D", "FC10", 0.15, 0, 0.95, 0.0, 18.0, 1.0, True,
           "ticks", (-9.0, -9.0)),
)  # fmt: skip
"""No scanner of these makers is meant: they are names for four ways that images look."""


LABEL_RULE = "1 where at least min_readers of LIDC's readers drew the nodule"


@dataclass(frozen=True)
class PlannedNodule:
    """A nodule that has a label.

    Attributes:
        site: scanner.
        subject: the patient's public pseudonym.
        series_uid: UID of the scan.
        nodule_id: as in the extraction.
        label: 0 or 1.
        artefact: whether the site's mark is burnt in beside it.
    """

    site: str
    subject: str
    series_uid: str
    nodule_id: str
    label: int
    artefact: bool = False


@dataclass(frozen=True)
class PlannedScan:
    """A scan of the database with its scanner."""

    scan: Scan
    nodules: tuple[Nodule, ...]
    site: CtSite


@dataclass(frozen=True)
class LidcPhantomSpec:
    """The parameters of a LIDC phantom, apart from the database.

    Attributes:
        patients: numbers of LIDC-IDRI's patients, such as 1 for LIDC-IDRI-0001; None: `count` of
            them, evenly spread over those with a nodule.
        count: number of patients, if they are not named.
        sites: the scanners, dealt to the patients by their shares.
        agreement: agreement of the marks with the labels, for all sites or by name; see
            `Agreement`.
        test_agreement: agreement of the test patients; "same" as the others', by default.
        padding_slices: slices to write above and below each slice with a contour.
        whole: write every slice of a scan.
        variant: variant of the patches; "nodule" writes the largest slice of each nodule only.
        seed: seed of chests, noise and marks.
        split_seed: seed of the splits.
        fractions: fractions of patients, for training, validation and test.
        folds: over training and validation.
    """

    patients: tuple[int, ...] | None = None
    count: int = 60
    sites: tuple[CtSite, ...] = CT_SITES
    agreement: Agreement = None
    test_agreement: Agreement | Literal["same"] = "same"
    padding_slices: int = 0
    whole: bool = False
    variant: Literal["slices", "nodule"] = "slices"
    seed: int = 0
    split_seed: int = 0
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    folds: int = 5
    options: PatchOptions = field(default_factory=PatchOptions)

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("count", 1), ("padding_slices", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {least} or more.")
        if self.patients is not None and not self.patients:
            raise UsageError("patients is empty, expected numbers such as 1 for LIDC-IDRI-0001.")

    @property
    def patch_options(self) -> PatchOptions:
        """The extraction's options."""
        return PatchOptions(**{**asdict(self.options), "variant": self.variant})

    def scans(self, database: AnnotationDatabase) -> list[PlannedScan]:
        """Return the scans, by patient.

        Raises:
            UsageError: for a patient that the database does not have.
        """
        wanted = None if self.patients is None else {f"LIDC-IDRI-{n:04d}" for n in self.patients}
        known = [scan for uid in database.series_uids() if (scan := database.scan(uid)) is not None]
        if wanted is not None:
            missing = sorted(wanted - {scan.patient_id for scan in known})
            if missing:
                raise UsageError(f"The database has no patient {missing[0]}, expected others.")
            chosen = [scan for scan in known if scan.patient_id in wanted]
            found = [(scan, find_nodules(scan, database.annotations(scan))) for scan in chosen]
        else:
            found = self._spread(database, known)
        return [
            PlannedScan(scan, tuple(nodules), site)
            for (scan, nodules), site in zip(found, self._dealt(found), strict=True)
        ]

    def plan(self, scans: Sequence[PlannedScan]) -> tuple[list[PlannedNodule], Splits | None]:
        """Return the nodules with their marks, and the splits that the marks were dealt by.

        Returns:
            Without splits where the patients are too few for them.

        Raises:
            UsageError: if they are too few and the test patients have another agreement.
        """
        options = self.patch_options
        nodules = [
            PlannedNodule(
                planned.site.name,
                planned.scan.patient_id,
                planned.scan.series_uid,
                nodule.nodule_id,
                int(len(nodule.readers) >= options.min_readers),
            )
            for planned in scans
            for nodule in planned.nodules
            if not nodule.over_four
        ]
        rows = [
            ManifestRow(n.nodule_id, subject=n.subject, site=n.site, label=n.label) for n in nodules
        ]
        splits: Splits | None = None
        try:
            splits = make_splits(
                rows, fractions=self.fractions, folds=self.folds, seed=self.split_seed
            )
        except ValueError as error:
            if self.test_agreement != "same":
                raise UsageError(f"These patients cannot be parted: {error}") from error
        parts = {s: part for part, subjects in splits.parts.items() for s in subjects} if splits \
            else None  # fmt: skip
        by_part: dict[str, Agreement] = {}
        if self.test_agreement != "same":
            by_part["test"] = self.test_agreement
        marked = assign_artefacts(
            nodules, self._named(self.agreement, nodules), parts=parts, by_part=by_part,
            seed=self.seed,
        )  # fmt: skip
        return marked, splits

    def parameters(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return dict(json.loads(json.dumps(asdict(self))))

    def _named(self, agreement: Agreement, nodules: Sequence[PlannedNodule]) -> Agreement:
        """Leave out sites that got no patient, where the agreement names sites."""
        if not isinstance(agreement, Mapping):
            return agreement
        names, here = {site.name for site in self.sites}, {n.site for n in nodules}
        unknown = sorted(set(agreement) - names)
        if unknown:
            raise UsageError(
                f"agreement is given for {unknown[0]!r}, expected some of {sorted(names)}."
            )
        return {name: value for name, value in agreement.items() if name in here}

    def _spread(
        self, database: AnnotationDatabase, known: Sequence[Scan]
    ) -> list[tuple[Scan, list[Nodule]]]:
        """Return `count` scans with nodules at equal steps, one per patient."""
        first: dict[str, Scan] = {}
        for scan in known:
            first.setdefault(scan.patient_id, scan)
        scans, taken = list(first.values()), {}
        for number in range(self.count):
            start = number * len(scans) // self.count
            for index in range(start, len(scans)):
                if index in taken:
                    continue
                nodules = find_nodules(scans[index], database.annotations(scans[index]))
                if nodules:
                    taken[index] = (scans[index], nodules)
                    break
        if len(taken) < self.count:
            raise UsageError(f"count is {self.count}, but {len(taken)} patients have nodules.")
        return [taken[index] for index in sorted(taken)]

    def _dealt(self, found: Sequence[tuple[Scan, Sequence[Nodule]]]) -> list[CtSite]:
        """Deal the patients to the sites by their shares; a patient stays with one scanner."""
        subjects = sorted({scan.patient_id for scan, _ in found})
        order = stream(self.seed, "sites").permutation(len(subjects))
        total = sum(site.share for site in self.sites)
        lacks = [0.0] * len(self.sites)
        site_of: dict[str, CtSite] = {}
        for index in order:
            lacks = [lack + s.share / total for lack, s in zip(lacks, self.sites, strict=True)]
            best = max(range(len(lacks)), key=lambda k: lacks[k])
            lacks[best] -= 1
            site_of[subjects[int(index)]] = self.sites[best]
        return [site_of[scan.patient_id] for scan, _ in found]
