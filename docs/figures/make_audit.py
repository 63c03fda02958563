"""Make docs/assets/audit.png: the page of an audit of a phantom, as a browser shows it.

`python docs/figures/make_audit.py --data data/ga_marked --work runs/audit_figure`

Needs Chromium on the path. The phantom is made where it is missing: one site, whose mark agrees
with the label in all subjects.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

PICTURE = Path(__file__).resolve().parents[1] / "assets" / "audit.png"
SUBJECTS, SITE, SEED = 120, "site_a", 0
WIDTH, HEIGHT = 1180, 1560


def main() -> None:
    """Make the phantom, audit it, photograph the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/ga_marked"))
    parser.add_argument("--work", type=Path, default=Path("runs/audit_figure"))
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args()

    from ppi_med.audit import audit
    from ppi_med.phantoms.oct.spec import OctPhantomSpec, choose_sites
    from ppi_med.phantoms.oct.write import make_oct_phantom

    if not (options.data / "datalist.json").is_file():
        spec = OctPhantomSpec(
            sites=choose_sites([SITE]), subjects=SUBJECTS, agreement=1.0, seed=SEED
        )
        make_oct_phantom(spec, options.data)
    audit(options.data, options.work, progress=print)
    photograph(options.work / "audit.html", options.output)


def photograph(page: Path, picture: Path) -> None:
    """Write the upper part of a page as a small PNG."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        shown.goto(page.resolve().as_uri())
        content = shown.screenshot()
        browser.close()
    with Image.open(io.BytesIO(content)) as whole:
        whole.convert("P", palette=Image.Palette.ADAPTIVE).save(picture, optimize=True)


if __name__ == "__main__":
    main()
