"""Write the tables of docs/results.md, and the figure of the maps, from the records alone.

`python docs/figures/result_tables.py`, after the commands that the page names; a test holds the
page against the records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ppi_med.evaluation.figures import save_figure
from ppi_med.experiments.detection import Detection
from ppi_med.experiments.device import Devices
from ppi_med.experiments.figures import comparison_figure
from ppi_med.experiments.lidc_nodules import ENTRIES, LidcNodules
from ppi_med.experiments.maps import Maps, results
from ppi_med.experiments.methods import Methods
from ppi_med.experiments.planted import Planted
from ppi_med.experiments.randomise import Randomisation
from ppi_med.experiments.records import FolderRecords, Record
from ppi_med.experiments.run import Experiment
from ppi_med.experiments.shortcut import Marks, Shortcut
from ppi_med.experiments.table import markdown
from ppi_med.io import write_text

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"


def records_of(folder: str) -> list[Record]:
    """The records of a folder of results/."""
    return FolderRecords(RECORDS / folder).done()


def text(experiment: type[Experiment], folder: str) -> str:
    """The tables of an experiment, without their titles: the page has headings."""
    return "\n".join(table.lines() for table in experiment.tables(records_of(folder)))


def cross_site_text(folder: str) -> str:
    """Summary and matrix of a sweep, as `ppi-med cross-site --output` wrote them."""
    parts = [RECORDS / folder / name for name in ("summary.md", "matrix.md")]
    return "\n\n".join(part.read_text(encoding="utf-8").strip() for part in parts)


def lidc_text() -> str:
    """The nodules of LIDC: seeds that an entry has on all folds that every entry has."""
    found = records_of("lidc_nodules")
    entries: dict[int, set[str]] = {}
    folds: dict[tuple[str, int], set[int]] = {}
    for record in found:
        entries.setdefault(record["fold"], set()).add(record["entry"])
        folds.setdefault((record["entry"], record["seed"]), set()).add(record["fold"])
    whole = {fold for fold, names in entries.items() if names >= set(ENTRIES)}
    if not whole:
        return "No fold is whole yet."
    shown = [r for r in found if r["fold"] in whole and folds[r["entry"], r["seed"]] >= whole]
    first, *masks = LidcNodules.tables(shown)
    return "\n".join([first.lines(), *(markdown(table) for table in masks)])


TABLES: Mapping[str, Callable[[], str]] = {
    "shortcut": lambda: text(Shortcut, "ga_shortcut"),
    "marks": lambda: text(Marks, "ga_marks"),
    "detection": lambda: text(Detection, "detection"),
    "planted": lambda: text(Planted, "planted"),
    "cross-site": lambda: cross_site_text("ga_cross_site"),
    "cross-site-auto": lambda: cross_site_text("ga_cross_site_auto"),
    "vendors": lambda: cross_site_text("lidc_vendors"),
    "vendors-auto": lambda: cross_site_text("lidc_vendors_auto"),
    "devices": lambda: text(Devices, "cxr_devices"),
    "laboratories": lambda: text(Devices, "wbc_laboratories"),
    "lidc": lidc_text,
    "birds": lambda: text(Methods, "cub_ppi/phantom"),
    "cub": lambda: text(Methods, "cub_ppi/sample"),
    "cifar": lambda: text(Methods, "cifar10_ppi"),
    "maps": lambda: text(Maps, "imagenet_sample/maps"),
    "sanity": lambda: text(Randomisation, "imagenet_sample/randomisation"),
}


def put(page: str, name: str, content: str) -> str:
    """Return the page with the text between the two comments of this name."""
    begin, end = f"<!-- {name}: written by docs/figures/result_tables.py -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE} has no place {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{content.strip()}\n\n{end}", page)


def page_from_records(page: str) -> str:
    """Return the page with all its tables made again."""
    for name, made in TABLES.items():
        page = put(page, name, made())
    return page


def main() -> None:
    """Write the page and the figure."""
    found = results(records_of("imagenet_sample/maps"))
    save_figure(comparison_figure(found), ROOT / "docs" / "assets" / "map_comparison.png", dpi=80)
    write_text(PAGE, page_from_records(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
