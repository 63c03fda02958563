"""Make a simulated data set: `python data_prep/make_phantom.py oct --output DIR`; see --help."""

from ppi_med.cli import run
from ppi_med.cli.data import phantom

if __name__ == "__main__":
    run(phantom, "make_phantom.py")
