"""What makes a run repeatable: seeded loading, random states, complete checkpoints.

`keep_freed_memory` makes steps on a CPU quicker.

`from ppi_med.training import ExactDataLoader`; `ppi_med.handlers.resume` puts it together.
"""

from ppi_med.training.checkpoints import CheckpointStore
from ppi_med.training.loader import EpochSampler, ExactDataLoader, SeededDataset
from ppi_med.training.memory import keep_freed_memory

__all__ = [
    "CheckpointStore",
    "EpochSampler",
    "ExactDataLoader",
    "SeededDataset",
    "keep_freed_memory",
]
