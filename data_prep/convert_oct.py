"""Convert a folder of OCT files to NIfTI with manifest, datalist and splits; see --help."""

from ppi_med.data.oct.command import main

if __name__ == "__main__":
    raise SystemExit(main())
