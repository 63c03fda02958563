"""Write map and weak segmentation of a CT series for viewers; see --help."""

from ppi_med.export.command import main

raise SystemExit(main())
