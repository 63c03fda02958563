"""Write the tables and the figure of the maps into docs/results.md, from the records alone.

`python docs/figures/map_results.py`, after `ppi-med compare-maps` and `ppi-med randomise-maps`.
"""

from __future__ import annotations

import re
from pathlib import Path

from ppi_med.evaluation.figures import save_figure
from ppi_med.experiments.cells import Records
from ppi_med.experiments.map_comparison import randomisation_table
from ppi_med.experiments.map_comparison.figure import comparison_figure
from ppi_med.experiments.map_comparison.randomisation import KINDS
from ppi_med.experiments.map_comparison.table import markdown, results
from ppi_med.io import write_text

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results" / "imagenet_sample"
PAGE = ROOT / "docs" / "results.md"


def put(page: str, name: str, text: str) -> str:
    """Return the page with the text between the two comments of this name."""
    begin, end = f"<!-- {name}: written by docs/figures/map_results.py -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE} has no place {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", page)


def main() -> None:
    """Write the page and the figure."""
    found = results(Records(RECORDS / "maps").done())
    save_figure(comparison_figure(found), ROOT / "docs" / "assets" / "map_comparison.png", dpi=80)
    randomised = Records(RECORDS / "randomisation").done()
    sanity = [randomisation_table.markdown(randomised, kind) for kind in KINDS]
    page = put(PAGE.read_text(encoding="utf-8"), "maps", markdown(found))
    write_text(PAGE, put(page, "sanity", "\n".join(sanity)))


if __name__ == "__main__":
    main()
