"""Write the tables of docs/results.md, and the figure of the maps, from the records alone.

`python docs/figures/result_tables.py`, after the commands that the page names; a test holds the
page against the records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ppi_med.evaluation.figures import save_figure
from ppi_med.experiments import (
    lidc_benchmark,
    lidc_benchmark_masks,
    lidc_benchmark_table,
    method_comparison,
    method_comparison_table,
    shortcut,
    shortcut_table,
)
from ppi_med.experiments.cells import Records, in_order
from ppi_med.experiments.map_comparison import randomisation_table
from ppi_med.experiments.map_comparison.figure import comparison_figure
from ppi_med.experiments.map_comparison.randomisation import KINDS
from ppi_med.experiments.map_comparison.table import markdown, results
from ppi_med.io import write_text

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"


def shortcut_text() -> str:
    """The artefact that is unlearned, or not."""
    found = Records(RECORDS / "ga_shortcut").done()
    return shortcut_table.markdown(shortcut_table.rows(in_order(found, shortcut.DEFAULT_METHODS)))


def comparison_text(folder: str) -> str:
    """Plain training and PPI by every map on one data set."""
    found = Records(RECORDS / folder).done()
    ordered = in_order(found, method_comparison.DEFAULT_METHODS)
    return method_comparison_table.markdown(method_comparison_table.entries(ordered))


def cross_site_text(folder: str) -> str:
    """Summary and matrix of a sweep, as `ppi-med cross-site --output` wrote them."""
    parts = [RECORDS / folder / name for name in ("summary.md", "matrix.md")]
    return "\n\n".join(part.read_text(encoding="utf-8").strip() for part in parts)


def lidc_text() -> str:
    """The nodules of LIDC: seeds that an entry has on all folds that every entry has."""
    found = Records(RECORDS / "lidc_nodules").done()
    entries: dict[int, set[str]] = {}
    folds: dict[tuple[str, int], set[int]] = {}
    for record in found:
        entries.setdefault(record["fold"], set()).add(record["entry"])
        folds.setdefault((record["entry"], record["seed"]), set()).add(record["fold"])
    whole = {fold for fold, names in entries.items() if names >= set(lidc_benchmark.ENTRIES)}
    if not whole:
        return "No fold is whole yet."
    shown = [r for r in found if r["fold"] in whole and folds[r["entry"], r["seed"]] >= whole]
    tables = lidc_benchmark_masks.mask_tables(shown)
    parts = [lidc_benchmark_table.markdown(lidc_benchmark_table.rows(shown))]
    return "\n".join([*parts, *(table.markdown() for table in tables)])


def maps_text() -> str:
    """Saliency methods on photographs."""
    return markdown(results(Records(RECORDS / "imagenet_sample" / "maps").done()))


def sanity_text() -> str:
    """Maps while the network is randomised."""
    found = Records(RECORDS / "imagenet_sample" / "randomisation").done()
    return "\n".join(randomisation_table.markdown(found, kind) for kind in KINDS)


TABLES: Mapping[str, Callable[[], str]] = {
    "shortcut": shortcut_text,
    "cross-site": lambda: cross_site_text("ga_cross_site"),
    "vendors": lambda: cross_site_text("lidc_vendors"),
    "lidc": lidc_text,
    "birds": lambda: comparison_text("cub_ppi/phantom"),
    "cub": lambda: comparison_text("cub_ppi/sample"),
    "cifar": lambda: comparison_text("cifar10_ppi"),
    "maps": maps_text,
    "sanity": sanity_text,
}


def put(page: str, name: str, text: str) -> str:
    """Return the page with the text between the two comments of this name."""
    begin, end = f"<!-- {name}: written by docs/figures/result_tables.py -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"{PAGE} has no place {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", page)


def page_from_records(page: str) -> str:
    """Return the page with all its tables made anew."""
    for name, text in TABLES.items():
        page = put(page, name, text())
    return page


def main() -> None:
    """Write the page and the figure."""
    found = results(Records(RECORDS / "imagenet_sample" / "maps").done())
    save_figure(comparison_figure(found), ROOT / "docs" / "assets" / "map_comparison.png", dpi=80)
    write_text(PAGE, page_from_records(PAGE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
