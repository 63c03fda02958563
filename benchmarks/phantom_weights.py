"""Keep the weights of a training on the phantom beside its bundle, for `ppi-med pack`.

Usage, after `ppi-med demo` in a folder of its own (or for lidc_ppi: `ppi-med make-phantom lidc
--output data/lidc_phantom --count 240 --variant nodule` and the bundle's training):
    python benchmarks/phantom_weights.py FOLDER/bundles/ga_ppi bundles/ga_ppi
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from ppi_med.bundle_tools.phantom_weights import FILE, keep_phantom_weights


def main(trained: Path, bundle: Path) -> None:
    """Copy the weights and enter the AUC of the run in the bundle's metadata."""
    tests = sorted((trained / "runs").glob("*/test.json"))
    facts = json.loads(tests[-1].read_text(encoding="utf-8")) if tests else {}
    auc = facts.get("test/auc", facts.get("auc"))
    made = keep_phantom_weights(trained, {} if auc is None else {"test_auc": round(auc, 4)})
    shutil.copyfile(made, bundle / FILE)
    print(f"{bundle / FILE}: {made.stat().st_size} bytes, AUC {auc}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
