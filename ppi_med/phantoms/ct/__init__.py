"""The LIDC phantom: simulated CT around the real outlines of LIDC-IDRI's readers.

- `chest`: a patient's lungs, vessels, ribs and soft tissue, and what fills the outlines.
- `spec`: four scanners, the parameters and the plan; `writing`: a series through a scanner,
  as DICOM; `lidc`: the whole.

Its names are imported on first use.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "LidcPhantomSpec": "spec",
        "make_lidc_phantom": "lidc",
    },
)
