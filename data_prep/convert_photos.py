"""Index photographs: `python data_prep/convert_photos.py --source DIR --output DIR`."""

from ppi_med.cli import run
from ppi_med.cli.data import photos

if __name__ == "__main__":
    run(photos, "convert_photos.py")
