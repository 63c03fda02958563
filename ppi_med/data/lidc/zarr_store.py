"""Patches in Zarr format 3: one group per scan, one file per array, local or on fsspec's systems.

A patch is one inner chunk, compressed separately, so that it can be read alone; the patches of a
scan share a file (a shard), so that there are few files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppi_med.data.lidc.cut import Patch

FORMAT = {
    "content": "patches of lung nodules of LIDC-IDRI, one group per scan",
    "hu": "int16, Hounsfield units, -2000 where nothing was scanned",
    "readers": "uint8 (patch, slot, row, column), 1 where the reader in the slot marked the pixel",
    "state": "int8 (patch, slot): 0 no such reader, 1 reader without an outline on this slice, "
    "2 reader with one",
    "union": "uint8, marked by any reader",
    "majority": "uint8, marked by the share of the slice's readers named in the options",
}
_LEVEL = 5


def is_url(store: str) -> bool:
    """Say whether a location is a URL of fsspec, not a path."""
    return "://" in store


def open_store(store: str, *, write: bool = False) -> Any:
    """Return Zarr's store at a path or URL.

    Raises:
        ImportError: without zarr.
    """
    try:
        from zarr.storage import FsspecStore, LocalStore
    except ImportError as error:
        raise ImportError("Patches need zarr: pip install 'ppi_med[scale]'.") from error
    if is_url(store):
        return FsspecStore.from_url(store, read_only=not write)
    return LocalStore(Path(store), read_only=not write)


def start_store(store: str, options: dict[str, Any]) -> None:
    """Write the root group before any scan: scans are written below it separately."""
    import zarr

    attributes: dict[str, Any] = {**FORMAT, "options": options}
    root = zarr.open_group(open_store(store, write=True), mode="a")
    if dict(root.attrs) != attributes:
        root.attrs.put(attributes)


def write_patches(
    store: str, group: str, patches: Sequence[Patch], rows: Sequence[dict[str, Any]]
) -> None:
    """Write the patches of a scan; an existing group of that name is replaced.

    Args:
        store: path or URL.
        group: the scan's name.
        patches: at least one, all of one size.
        rows: facts about each; they become the group's attribute `rows`.
    """
    import zarr

    remove_group(store, group)
    target = zarr.create_group(
        open_store(store, write=True), path=group, attributes={"rows": list(rows)}
    )
    arrays: dict[str, NDArray[Any]] = {
        name: np.stack([getattr(patch, name) for patch in patches])
        for name in ("hu", "readers", "state", "union", "majority")
    }
    for name, values in arrays.items():
        _write_array(target, name, values)


def read_patch(store: str, group: str, row: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of one patch by name.

    Raises:
        KeyError: if there is no such group.
        IndexError: if it has no such row.
    """
    return load_patch(store, group, row)[0]


def load_patch(
    store: str, group: str, row: int, names: Collection[str] | None = None, *, keep: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return arrays of one patch by name, and its facts.

    Args:
        store: path or URL.
        group: the scan's name.
        row: row of the patch in it.
        names: names of the arrays; None: all.
        keep: keep groups open for the next patch; only if no group is written any more.

    Raises:
        KeyError: if there is no such group.
        IndexError: if it has no such row.
    """
    arrays, rows = (_kept_open if keep else _opened)(store, group)
    wanted = arrays if names is None else names
    return {name: np.asarray(arrays[name][row]) for name in wanted}, rows[row]


def _opened(store: str, group: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import zarr

    source: Any = zarr.open_group(open_store(store), path=group, mode="r")
    return dict(source.arrays()), list(source.attrs["rows"])


_kept_open = lru_cache(maxsize=64)(_opened)


def remove_group(store: str, group: str) -> None:
    """Remove a scan's group, whole or in parts, if it is there."""
    system, path = _file_system(store)
    if system.exists(f"{path}/{group}"):
        system.rm(f"{path}/{group}", recursive=True)


def group_sizes(store: str, group: str) -> dict[str, int]:
    """Return the files of a group and their bytes, so that a second run can check them."""
    system, path = _file_system(store)
    root = f"{path}/{group}"
    if not system.exists(root):
        return {}
    found = system.find(root, detail=True)
    prefix = len(root.lstrip("/")) + 1
    return {name.lstrip("/")[prefix:]: int(info["size"]) for name, info in sorted(found.items())}


def _file_system(store: str) -> tuple[Any, str]:
    import fsspec  # type: ignore[import-untyped]

    system, path = fsspec.core.url_to_fs(store)
    return system, str(path)


def _write_array(target: Any, name: str, values: NDArray[Any]) -> None:
    from zarr.codecs import ZstdCodec

    array = target.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(1, *values.shape[1:]) if values.ndim > 2 else values.shape,
        shards=values.shape if values.ndim > 2 else None,
        compressors=[ZstdCodec(level=_LEVEL)],
        dimension_names=_DIMENSIONS[name],
        fill_value=0,
    )
    array[:] = values


_DIMENSIONS = {
    "hu": ("patch", "row", "column"),
    "readers": ("patch", "slot", "row", "column"),
    "state": ("patch", "slot"),
    "union": ("patch", "row", "column"),
    "majority": ("patch", "row", "column"),
}
