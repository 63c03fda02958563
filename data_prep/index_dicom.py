"""Index a tree of DICOM files, one row a series; see --help."""

from ppi_med.data.dicom.command import main

raise SystemExit(main())
