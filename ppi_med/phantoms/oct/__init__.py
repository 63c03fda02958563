"""The OCT phantom: eyes with and without geographic atrophy, at up to four sites.

- `grid`, `anatomy`, `lesions`: an eye; `render`: its volume through a scanner.
- `artefacts`: the marks. `spec`: four scanners, the parameters and the plan that follows;
  `write`: the files.

Its names are imported on first use.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "OctPhantomSpec": "spec",
        "make_oct_phantom": "write",
    },
)
