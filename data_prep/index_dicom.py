"""Index a tree of DICOM files, one row per series; see --help."""

from ppi_med.data.dicom.command import main

if __name__ == "__main__":
    raise SystemExit(main())
