"""Write map and weak segmentation of a CT series for viewers; see --help."""

from ppi_med.export.command import main

if __name__ == "__main__":
    raise SystemExit(main())
