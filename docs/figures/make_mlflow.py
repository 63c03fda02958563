"""Make docs/assets/mlflow_PAGE_WIDTH.png: MLflow's pages over a small sweep.

`python docs/figures/make_mlflow.py`

Makes a phantom of two sites, trains plain and with PPI on each, starts MLflow's server on
127.0.0.1 and photographs its pages in headless Chromium, which must be on the path. All but the
pictures is in a temporary folder; `--work FOLDER` keeps it, and uses the runs that are there.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "docs" / "assets"
SITES = ("Köln", "Zürich")
MODEL = "ga_phantom"
WIDTHS, HEIGHT = (1440, 800), 860
PATIENCE = 180_000
SMALL = {
    "device": "$torch.device('cpu')",
    "image_size": [32, 40],
    "num_slices": 3,
    "batch_size": 8,
    "max_epochs": 5,
    "lr_step": 4,
    "network_def#backbone_options": {"widths": [4, 8], "downsampling": "stride"},
    "register_model": MODEL,
}
# The panel that MLflow opens at the first visit is closed, as a user closes it.
CLOSED = """
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"');
"""

# A picture says nothing about the machine that it was made on.
WITHOUT_PATHS = """
for (const one of document.querySelectorAll('*')) {
  if (one.childElementCount <= 3 && /^(Path|Full path): ?/i.test(one.textContent)) {
    one.style.visibility = 'hidden';
  }
}
"""


def main() -> None:
    """Make what is missing, photograph the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--output", type=Path, default=ASSETS)
    options = parser.parse_args()
    os.chdir(ROOT)  # the recorded commands name the bundle from here
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).absolute()
        uri = f"sqlite:///{work}/mlruns.db"
        make_runs(work, uri)
        with server(uri) as port:
            photograph(pages(uri, port), options.output)


def make_runs(work: Path, uri: str) -> None:
    """Train each method on each site; finished trainings are kept."""
    from ppi_med.experiments.cross_site import Request, start
    from ppi_med.phantoms.oct.grid import Size
    from ppi_med.phantoms.oct.spec import SITES as SIMULATED
    from ppi_med.phantoms.oct.spec import OctPhantomSpec
    from ppi_med.phantoms.oct.write import make_oct_phantom

    if not (work / "data" / "datalist.json").is_file():
        sites = tuple(
            replace(site, name=name) for site, name in zip(SIMULATED, SITES, strict=False)
        )
        spec = OctPhantomSpec(sites, 30, (1, 1), size=Size(32, 40, 8), seed=1)
        make_oct_phantom(spec, work / "data")
    request = Request(
        bundle=Path("bundles/ga_ppi"),
        dataset_dir=str(work / "data"),
        methods=("plain", "ppi_wbp_shared"),
        seeds=(0,),
        overrides=SMALL,
        tracking_uri=uri,
        work=work / "work",
        output=work / "tables",
        workers=0,
        command="python docs/figures/make_mlflow.py",
    )
    start(request)


@contextmanager
def server(uri: str) -> Iterator[int]:
    """Run MLflow's server inside the block; yield its port."""
    from ppi_med.tracking.location import locate
    from ppi_med.tracking.view import server_command

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    started = subprocess.Popen(
        server_command(locate(".", uri), port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield port
    finally:
        # With the processes that it has started.
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(PATIENCE / 1000)


def _wait_for(url: str) -> None:
    limit = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(1)


def pages(uri: str, port: int) -> dict[str, tuple[str, str]]:
    """Return the pages: name -> address, and a text that is there once it is whole."""
    from ppi_med.experiments import sweep_records
    from ppi_med.tracking.location import locate
    from ppi_med.tracking.store import Store
    from ppi_med.tracking.view import address

    location = locate(".", uri)
    client = Store(location, "").client
    *_, sweep = sweep_records.find_sweeps(client)
    cells = sorted(sweep_records.children(client, sweep), key=lambda run: run.info.run_name)
    listed = address(location, sweep.experiment_id, port)
    site = listed.partition("#")[0]
    ids = quote(json.dumps([run.info.run_id for run in cells]))
    parent = f"{site}#/experiments/{sweep.experiment_id}/runs/{sweep.run_id}"
    cell = f"{site}#/experiments/{sweep.experiment_id}/runs/{cells[1].info.run_id}"
    compared = f"{site}#/compare-runs?runs={ids}&experiments=%5B%22{sweep.experiment_id}%22%5D"
    return {
        "list": (listed, "Köln-plain"),
        "chart": (f"{listed}&compareRunsMode=CHART", "Köln-plain"),
        "compare": (compared, "train_site"),
        "run": (cell, "AUC on held-out cases"),
        "model": (f"{site}#/models/{MODEL}", "train_site"),
        "artifact": (f"{parent}/artifacts/tables/heat_map.png", "heat_map.png"),
        "table": (f"{parent}/artifacts/tables/all_runs.json", "all_runs.json"),
    }


def photograph(shown: dict[str, tuple[str, str]], output: Path) -> None:
    """Write each page at each width as a small PNG; nothing outside this machine is asked for."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    own = next(iter(shown.values()))[0].partition("#")[0]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        for width in WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": HEIGHT})
            context.add_init_script(CLOSED)
            context.route("**/*", lambda route: _within(route, own))
            for name, (url, text) in shown.items():
                page = context.new_page()
                page.set_default_timeout(PATIENCE)
                page.goto(url)
                found = page.get_by_text(text, exact=False).first
                found.wait_for()
                # The pages never cease to ask for news: what is drawn after the text has 5 s.
                page.wait_for_timeout(5000)
                if name == "run":
                    found.scroll_into_view_if_needed()
                page.evaluate(WITHOUT_PATHS)
                _save(page.screenshot(), output / f"mlflow_{name}_{width}.png")
                page.close()
        browser.close()


def _within(route: Any, own: str) -> None:
    if route.request.url.startswith(own):
        route.continue_()
    else:
        route.abort()


def _save(content: bytes, picture: Path) -> None:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as whole:
        colours = whole.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        colours.save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
