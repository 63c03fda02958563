"""The common parts of phantoms: named random numbers, and a folder with its parameters.

A stream of random numbers depends on the seed and its purpose, never on the order of the work or
the number of workers, so a volume does not depend on the others.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ppi_med.errors import UsageError
from ppi_med.io import exclusive, write_json

PARAMETERS_FILE = "phantom.json"
_LOCK = ".lock"


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random generator of `names` under `seed`.

    Args:
        seed: seed of the whole phantom, 0 or more.
        names: what is drawn, for example `"site_a", "A001", "anatomy"`.

    Examples:
        >>> a, b = stream(1, "site_a", "A001"), stream(1, "site_a", "A001")
        >>> bool(a.random() == b.random())
        True
        >>> bool(stream(1, "A001").random() == stream(1, "A002").random())
        False
    """
    key = tuple(zlib.crc32(str(name).encode("utf-8")) for name in names)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@contextmanager
def phantom_folder(
    output: Path, content: Mapping[str, Any], made: Iterable[str] = (), overwrite: bool = False
) -> Iterator[bool]:
    """Hold a phantom's folder, with its parameters in it; give whether they already existed.

    Args:
        output: the folder; made if it is not there.
        content: content of `phantom.json`.
        made: files and folders in it that are removed with another phantom.
        overwrite: replace another phantom.

    Raises:
        UsageError: if another process writes to the folder, or it holds a phantom with other
            parameters, or other files.
    """
    with exclusive(output, "phantom", name=_LOCK):
        yield _begun(output, content, made, overwrite)


def _begun(output: Path, content: Mapping[str, Any], made: Iterable[str], overwrite: bool) -> bool:
    path = output / PARAMETERS_FILE
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) == content:
            return True
        if not overwrite:
            raise UsageError(
                f"{output} holds a phantom of other parameters, see its {PARAMETERS_FILE}; choose "
                f"another folder{', or ask for overwriting' if made else ''}."
            )
        for name in made:
            if (output / name).is_dir():
                shutil.rmtree(output / name)
            (output / name).unlink(missing_ok=True)
    elif any(found.name != _LOCK for found in output.iterdir()):
        raise UsageError(f"{output} is not empty and holds no phantom; choose a new folder for it.")
    write_json(path, content)
    return False
