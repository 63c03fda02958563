"""MLflow's own pages in headless Chromium: the list of runs, the comparison, the heat map."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ppi_med.tracking.view import address
from tests.experiments.cross_site.tiny import children_of
from tests.tracking.stores import locate
from tests.tracking.test_outage import free_port, serve, stop

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WIDE = {"width": 1680, "height": 950}
PATIENCE = 180_000


@pytest.fixture(scope="module")
def served(swept: Path) -> Iterator[str]:
    """The address of a server over the tiny sweep, started as the README says."""
    port = free_port()
    server = serve(locate(swept / "store"), port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


@pytest.fixture(scope="module")
def page(served: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path,
            headless=True,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        context = browser.new_context(viewport=WIDE)
        # Nothing outside this machine may be asked for.
        context.route(
            "**/*",
            lambda route: (
                route.continue_() if route.request.url.startswith(served) else route.abort()
            ),
        )
        opened = context.new_page()
        opened.set_default_timeout(PATIENCE)
        yield opened
        browser.close()


def shoot(page: Any, name: str) -> None:
    """Keep a picture where PPI_MED_SCREENSHOTS says, to be looked at."""
    folder = os.environ.get("PPI_MED_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(3000)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_the_list_shows_method_site_and_auc_without_a_click(
    page: Any, served: str, swept: Path
) -> None:
    """At the address that is printed, on a first visit, where MLflow opens a panel of its own."""
    _, (sweep,), runs = children_of(swept)
    location, port = locate(swept / "store"), int(served.rpartition(":")[2])
    url = address(location, sweep.experiment_id, port)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(url)
    page.locator("[role=row] a", has_text="site_b-ppi_wbp_shared-seed0").first.wait_for()
    page.locator("[role=row] [col-id='tags.`method`']", has_text="plain").first.wait_for()
    for column in ("method", "train_site", "test/auc", "test/auc_other_sites"):
        head = page.locator("[role=columnheader]", has_text=column).first.bounding_box()
        assert head["x"] >= 0 and head["x"] + head["width"] <= 1440, column
    shown = {
        tuple(
            row.locator(f"[col-id='{column}']").first.inner_text()
            for column in ("tags.`method`", "tags.`train_site`", "metrics.`test/auc`")
        )
        for row in page.locator(".ag-center-cols-container [role=row]").all()
    }
    rounded = {(m, site, round(float(auc), 3)) for m, site, auc in shown - {("-", "-", "-")}}
    assert rounded == {
        (r.data.tags["method"], r.data.tags["train_site"], round(r.data.metrics["test/auc"], 3))
        for r in runs
    }
    page.set_viewport_size(WIDE)
    shoot(page, "mlflow_runs")


def test_the_comparison_has_the_cells_and_their_method(page: Any, served: str, swept: Path) -> None:
    _, (sweep,), runs = children_of(swept)
    ids = quote(json.dumps([run.info.run_id for run in runs]))
    experiments = quote(json.dumps([sweep.experiment_id]))
    page.goto(f"{served}/#/compare-runs?runs={ids}&experiments={experiments}")
    page.get_by_text("Comparing 4 Runs", exact=False).first.wait_for()
    for name in ("Parallel Coordinates Plot", "site_a-plain-seed0", "method"):
        page.get_by_text(name, exact=False).first.wait_for()
    shoot(page, "mlflow_compare")


def test_the_heat_map_among_the_artifacts(page: Any, served: str, swept: Path) -> None:
    _, (sweep,), _ = children_of(swept)
    base = f"{served}/#/experiments/{sweep.experiment_id}/runs/{sweep.run_id}"
    page.goto(f"{base}/artifacts/tables/heat_map.png")
    page.get_by_text("heat_map.png", exact=False).first.wait_for()
    picture = page.locator("img[src^='blob:'], .image-container img, canvas, .plotly")
    picture.first.wait_for()
    shoot(page, "mlflow_heat_map")


def test_a_cell_has_its_pictures(page: Any, served: str, swept: Path) -> None:
    _, (sweep,), runs = children_of(swept)
    run = next(r for r in runs if r.data.tags["method"] == "ppi_wbp_shared")
    page.goto(f"{served}/#/experiments/{sweep.experiment_id}/runs/{run.info.run_id}/artifacts")
    page.get_by_text("predictions", exact=False).first.wait_for()
    page.get_by_text("pictures", exact=False).first.wait_for()
    shoot(page, "mlflow_cell")
