"""A report opened in the browser, offline, with everything noted that it must not do."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_GREY = """() => {
  const image = document.getElementById("slice");
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data[0];
}"""


@dataclass
class Opened:
    """The page and what was noted."""

    page: Any
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def grey(self) -> int:
        """The brightness of the B-scan shown."""
        self.page.evaluate("document.getElementById('slice').decode()")
        return int(self.page.evaluate(_GREY))

    def number(self) -> int:
        """The number of the B-scan shown, from 0, once its map is drawn too."""
        shown = int(self.page.input_value("#slider")) - 1
        if self.page.locator("#overlay-on").count():
            self.page.wait_for_function(
                "wanted => document.getElementById('overlay').dataset.slice === wanted",
                arg=str(shown),
            )
        return shown

    def frame(self) -> np.ndarray:
        """The B-scan as it is seen, RGB as floats."""
        self.number()
        shot = self.page.locator("#frame").screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), float)

    def colour(self) -> float:
        """How coloured the B-scan is seen: 0 for grey."""
        picture = self.frame()
        return float(np.ptp(picture, axis=2).mean())


@contextmanager
def opened(browser: Any, path: Path, size: tuple[int, int] = (1366, 768)) -> Iterator[Opened]:
    """Open a report; on leaving, nothing that it must not do may have happened."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, offline=True, service_workers="block"
    )
    page = context.new_page()
    view = Opened(page)
    page.on("console", lambda message: view.faults.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: view.faults.append(str(error)))
    page.on("dialog", lambda dialog: view.faults.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: view.requests.append(request.url[:200]))
    try:
        page.goto(path.as_uri())
        yield view
        assert view.faults == []
        outside = [url for url in view.requests if not url.startswith("data:")]
        assert outside == [path.as_uri()]
    finally:
        context.close()
