"""The audit: what would a network learn from these data that it should not?

- `sources`, `pixels`: any form of data set, read in one way.
- `evidence`: evidence from the data alone: header, ring, corners, grid.
- `network`: evidence from a short training: places, their exchange, clusters of maps.
- `result`: the verdict; `write`, `page`: what is left behind.
- `run`: all of it in one call.
"""

from ppi_med.audit.evidence import Evidence, Measure
from ppi_med.audit.network import Network
from ppi_med.audit.result import Audit, Verdict
from ppi_med.audit.run import audit
from ppi_med.audit.sources import Case, Source, read_source

__all__ = [
    "Audit",
    "Case",
    "Evidence",
    "Measure",
    "Network",
    "Source",
    "Verdict",
    "audit",
    "read_source",
]
