"""The audit: what would a network learn from these data that it should not?

- `sources`, `pixels`: any form of data set, read alike.
- `evidence`: what the data alone say: header, ring, corners, grid.
- `network`: what a short training says: places, their exchange, clusters of maps.
- `run`: all of it in one call; `page`: what a person reads.
"""

from ppi_med.audit.evidence import Evidence, Measure
from ppi_med.audit.network import Network
from ppi_med.audit.run import Audit, Verdict, audit
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
