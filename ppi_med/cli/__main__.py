"""`python -m ppi_med.cli`: the command if its script is not on the path."""

from __future__ import annotations

from ppi_med.cli import main

if __name__ == "__main__":
    main()
