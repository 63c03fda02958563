"""A phantom of bird photographs: species on habitats, written in the layout of CUB_200_2011.

- `shapes`: the species, and a bird as polygons; `render`: it on its habitat, with its box.
- `spec`: the parameters and the plan that follows; `write`: the data set on the disk.

Its names are imported on first use.
"""

from __future__ import annotations

from ppi_med.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BirdPhantomSpec": "spec",
        "make_bird_phantom": "write",
    },
)
