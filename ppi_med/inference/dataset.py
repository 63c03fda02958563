"""OCT files as a data set for an evaluator: a file that cannot be read is an item that says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import Dataset

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import fault_of
from ppi_med.inference.ga import volume_tensor
from ppi_med.inference.volumes import LoadedVolume, output_names, read_volumes


@dataclass
class VolumeItem:
    """One volume as the network takes it.

    Attributes:
        volume: what is known of it.
        image: float32, `(1, S, h, w)`.
        positions: ids of the B-scans, `(S,)`.
    """

    volume: LoadedVolume
    image: torch.Tensor
    positions: torch.Tensor


@dataclass
class SourceItem:
    """What came of one source: its volumes, or the reason why there are none.

    Attributes:
        source: the file or folder, relative to what was asked for.
        name: of its outputs.
        volumes: one, or several where the format holds several.
        error: "" where it was read.
    """

    source: str
    name: str
    volumes: list[VolumeItem] = field(default_factory=list)
    error: str = ""


class OctFiles(Dataset[SourceItem]):
    """Sources that are read when their turn comes.

    Args:
        data: from `volumes.find_inputs`.
        transform: of items `{"image": uint8 (1, S, H, W)}`; it gives `image`, float32, and
            `positions`. See `ga.standard_preprocessing`.
        options: fields of `ReadOptions`, what the user knows and the files do not tell; `None` is
            the default.

    Raises:
        ValueError: for options that make no sense.
    """

    def __init__(
        self,
        data: Sequence[Source],
        transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        options: ReadOptions | Mapping[str, Any] | None = None,
    ) -> None:
        self.data = list(data)
        self.names = output_names(self.data)
        self.transform = transform
        if not isinstance(options, ReadOptions):
            known = {k: v for k, v in (options or {}).items() if v is not None}
            options = ReadOptions(**known)
        self.options = options

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> SourceItem:
        source = self.data[index]
        item = SourceItem(source.relative, self.names[index])
        try:
            for volume in read_volumes(source, self.options, item.name):
                ready = self.transform({"image": volume_tensor(volume)})
                item.volumes.append(VolumeItem(volume, ready["image"], ready["positions"]))
        except BaseException as error:  # a file's fault, of whatever kind, is its own
            item.error = fault_of(error)
            item.volumes.clear()
        return item


def single_item(items: Sequence[SourceItem]) -> SourceItem:
    """Collate a batch of one source: volumes differ in size and are never stacked.

    Raises:
        ValueError: for a batch of several.
    """
    if len(items) != 1:
        raise ValueError(f"got a batch of {len(items)} sources, expected batch_size 1.")
    return items[0]
