"""The parameters of an OCT phantom, and the plan that follows from them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ppi_med.data.manifest import ManifestRow
from ppi_med.data.splits import Splits, make_splits
from ppi_med.errors import UsageError
from ppi_med.phantoms.agreement import Agreement, assign_artefacts
from ppi_med.phantoms.oct.grid import Size
from ppi_med.phantoms.oct.plan import PlannedVolume, plan_volumes
from ppi_med.phantoms.oct.sites import SITES, Site


@dataclass(frozen=True)
class OctPhantomSpec:
    """All that an OCT phantom depends on.

    Attributes:
        sites: the clinics.
        subjects: number of subjects of each site.
        visits: least and greatest number of visits of a subject.
        agreement: of the mark with the label, for all sites or by name; see `Agreement`.
        test_agreement: of the test subjects; "same" as the others', by default.
        size: of the widest site's volumes.
        seed: of the eyes, visits and marks.
        split_seed: of the splits.
        fractions: of subjects, for training, validation and test.
        folds: over training and validation.
    """

    sites: tuple[Site, ...] = SITES
    subjects: int = 60
    visits: tuple[int, int] = (1, 2)
    agreement: Agreement = 0.5
    test_agreement: Agreement | Literal["same"] = "same"
    size: Size = field(default_factory=Size)
    seed: int = 0
    split_seed: int = 0
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    folds: int = 5

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected 0 or more.")
        letters = [site.letter for site in self.sites]
        if len(set(letters)) < len(letters):
            raise UsageError(
                f"Two sites give the same subject ids: {[s.name for s in self.sites]}."
            )

    def plan(self) -> tuple[list[PlannedVolume], Splits]:
        """Return the volumes with their marks, and the splits that the marks were dealt by."""
        volumes = plan_volumes(
            self.sites, subjects=self.subjects, visits=self.visits, seed=self.seed
        )
        rows = [ManifestRow(v.name, subject=v.subject, site=v.site, label=v.label) for v in volumes]
        try:
            splits = make_splits(
                rows, fractions=self.fractions, folds=self.folds, seed=self.split_seed
            )
        except ValueError as error:
            raise UsageError(f"These subjects cannot be parted: {error}") from error
        parts = {s: part for part, subjects in splits.parts.items() for s in subjects}
        by_part: dict[str, Agreement] = {}
        if self.test_agreement != "same":
            by_part["test"] = self.test_agreement
        marked = assign_artefacts(
            volumes, self.agreement, parts=parts, by_part=by_part, seed=self.seed
        )
        return marked, splits

    def parameters(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        values = asdict(self)
        values["spacing_mm"] = dict(
            zip(("lateral", "axial", "between"), self.size.spacing_mm, strict=True)
        )
        return dict(json.loads(json.dumps(values)))
