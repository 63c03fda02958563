"""The saliency methods that the contract tests run on: a new one is one more line."""

from __future__ import annotations

from collections.abc import Callable

from ppi_med.saliency import WBP, SaliencyMethod

METHODS: dict[str, Callable[[], SaliencyMethod]] = {
    "WBP": WBP,
}
