"""What makes a run repeatable: seeded loading, random states, checkpoints that cannot be torn.

:func:`keep_freed_memory` makes steps on a CPU quicker.

``from ppi_med.training import ExactDataLoader``; :mod:`ppi_med.handlers.resume` puts it together.
"""

from ppi_med.training.checkpoints import CheckpointStore
from ppi_med.training.loader import ExactDataLoader
from ppi_med.training.memory import keep_freed_memory
from ppi_med.training.sampler import EpochSampler
from ppi_med.training.seeded_dataset import SeededDataset

__all__ = [
    "CheckpointStore",
    "EpochSampler",
    "ExactDataLoader",
    "SeededDataset",
    "keep_freed_memory",
]
