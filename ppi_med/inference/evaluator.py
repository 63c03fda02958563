"""GA inference as parts of a stock `SupervisedEvaluator`: its inferer and its iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from torch import nn
from torch.utils.data import Dataset

from ppi_med.data.oct.options import ReadOptions
from ppi_med.data.oct.registry import Source
from ppi_med.data.oct.volume import fault_of
from ppi_med.evaluation.familiarity import KnownInputs
from ppi_med.inference.explain import VolumeExplanation, explain_volume
from ppi_med.inference.ga import (
    GaResult,
    NetworkInfo,
    make_result,
    method_name,
    network_hash,
    volume_tensor,
)
from ppi_med.inference.volumes import LoadedVolume, output_names, read_volumes
from ppi_med.saliency.base import SaliencyMethod


@dataclass
class VolumeItem:
    """One volume in the form for the network.

    Attributes:
        volume: the volume.
        image: float32, `(1, S, h, w)`.
        positions: ids of the B-scans, `(S,)`.
    """

    volume: LoadedVolume
    image: torch.Tensor
    positions: torch.Tensor


@dataclass
class SourceItem:
    """The result for one source: its volumes, or the reason why there are none.

    Attributes:
        source: the file or folder, relative to the request.
        name: name of its outputs.
        volumes: one, or several if the format holds several.
        error: reason of a failure, or "".
    """

    source: str
    name: str
    volumes: list[VolumeItem] = field(default_factory=list)
    error: str = ""


class OctFiles(Dataset[SourceItem]):
    """Sources that are read when their turn comes.

    Args:
        data: from `volumes.find_inputs`.
        transform: transform of items `{"image": uint8 (1, S, H, W)}`; it gives `image`, float32,
            and `positions`. See `ga.standard_preprocessing`.
        options: fields of `ReadOptions`, values that the user knows and the files do not state;
            `None` is the default.

    Raises:
        ValueError: for invalid options.
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
        except BaseException as error:  # a fault of one file, of any kind, must not stop the others
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


_BUGS = (TypeError, AttributeError, NameError, AssertionError)


class GaInferer(Inferer):
    """Give logit, slice weights and map of a volume, in bounded memory.

    Args:
        method: for the map, or `None` for no map.
        chunk_size: slices at a time in the map.
        known: `inputs` of the JSON file beside the weights, which describes the training's inputs.
    """

    def __init__(
        self,
        method: SaliencyMethod | None = None,
        chunk_size: int = 16,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.known = KnownInputs.read(known)
        self.method = method
        self.chunk_size = chunk_size

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> VolumeExplanation:
        """Explain volumes `(N, 1, S, H, W)`; see `explain_volume`.

        Args:
            inputs: the volumes.
            network: a `MultiViewClassifier`.
            args: the ids of the slices' places, `(N, S)`, if given.
            kwargs: the same by the name `positions`.
        """
        positions = args[0] if args else kwargs.get("positions")
        return explain_volume(
            cast(nn.Module, network),
            inputs,
            self.method,
            positions=positions,
            chunk_size=self.chunk_size,
        )


@dataclass
class SourceOutput:
    """What an iteration leaves in `engine.state.output`.

    Attributes:
        source: the file or folder, relative to the request.
        results: one per volume.
        error: reason of a failure, or "".
        bug: a fault of the program; it is raised once the others are done.
    """

    source: str
    results: list[GaResult] = field(default_factory=list)
    error: str = ""
    bug: Exception | None = None


def infer_iteration(engine: SupervisedEvaluator, batch: SourceItem) -> SourceOutput:
    """Run the evaluator's inferer on one source; its `iteration_update`.

    Errors of a single file (unreadable, too small for the network, too large for the memory) go
    into the output, and the evaluator continues with the next one.

    Args:
        engine: the evaluator; its `inferer` is a `GaInferer`.
        batch: from `OctFiles`.
    """
    output = SourceOutput(batch.source, error=batch.error)
    engine.state.output = output
    try:
        for item in batch.volumes:
            with engine.mode(engine.network):
                output.results.append(_infer(engine, item))
    except BaseException as error:  # a fault of one file, of any kind, must not stop the others
        output.error = fault_of(error)
        if isinstance(error, _BUGS):
            output.bug = error
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return output


def _infer(engine: SupervisedEvaluator, item: VolumeItem) -> GaResult:
    device = engine.state.device
    explanation = engine.inferer(
        item.image[None].to(device),
        engine.network,
        positions=item.positions[None].to(device),
    )
    info = NetworkInfo(
        type(engine.network).__name__,
        network_hash(engine.network),
        method_name(getattr(engine.inferer, "method", None)),
    )
    seen = {"image": item.image, "positions": item.positions}
    known = getattr(engine.inferer, "known", None)
    return make_result(item.volume, explanation, info, seen, known)
