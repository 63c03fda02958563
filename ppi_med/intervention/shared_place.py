"""The shared place: one map for the batch; artefacts of a site share a place, lesions don't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from ppi_med.intervention.numeric import at_least_float32, check_map, no_autocast, plain


def _world_size() -> int:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


class SharedPlace:
    """Running mean over batches of the batch mean of normalised, smoothed maps.

    mean <- momentum * mean + (1 - momentum) * batch mean; the first batch starts it. Under
    `torch.distributed` the batch mean is that of all processes, weighted by their batch sizes, so
    that all hold the same place; its gradient is that of the process's own maps.

    A network that has unlearned an artefact no longer shows it, so the mean moves away and the
    artefact is learned again. With `release` the place is held:

        held <- max(release * held, mean)

    from batch number 2 / (1 - momentum) on; before that the network has learned too little.

    Args:
        momentum: momentum of the running mean (default 0.9); 0 uses each batch alone.
        axes: averaged axes of `(N, 1, *spatial)`; must hold 0. `(0, 2)` also averages the slices
            of a volume `(N, 1, S, H, W)`, whose number may then vary.
        detach: cut the gradient of the mean (default): the place is a constant. False keeps the
            gradient of the current batch; L_ad can then be lowered by moving the maps away from
            what they share, instead of by not needing it.
        release: remaining share of a held place after a batch, in [0, 1); 0.999 halves it in about
            700 batches; 0 = nothing is held (default).

    Raises:
        ValueError: a momentum or release outside [0, 1), or axes without 0 or with 1.

    Examples:
        >>> place = SharedPlace(momentum=0.5)
        >>> place.update(torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]]]))
        tensor([[[0.0000, 0.5000]]])
        >>> place.update(torch.tensor([[[1.0, 1.0]]]))
        tensor([[[0.5000, 0.7500]]])
    """

    def __init__(
        self,
        momentum: float = 0.9,
        axes: Sequence[int] = (0,),
        detach: bool = True,
        release: float = 0.0,
    ) -> None:
        for name, value in (("momentum", momentum), ("release", release)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}, expected 0 <= {name} < 1.")
        if 0 not in axes or 1 in axes or min(axes) < 0:
            raise ValueError(
                f"axes are {list(axes)}, expected 0 (the batch) and spatial axes from 2 on."
            )
        self.momentum = float(momentum)
        self.axes = tuple(axes)
        self.detach = detach
        self.release = float(release)
        self.mean: Tensor | None = None
        self.held: Tensor | None = None
        self._batches = 0

    def rests_on_one_map(self, maps: Tensor) -> bool:
        """Say whether `update(maps)` would be the map of a single image only."""
        no_history = self.mean is None or self.momentum == 0
        return maps.shape[0] == 1 and no_history and _world_size() == 1

    def update(self, maps: Tensor) -> Tensor:
        """Add the maps of a batch and return the place, `(1, 1, *spatial)`, averaged axes 1.

        Args:
            maps: `(N, 1, *spatial)`, normalised and smoothed.

        Raises:
            TypeError: the maps are not floating.
            ValueError: they are not maps, an averaged axis is missing, or the spatial shape is not
                that of the batches before.
        """
        check_map(maps, "maps")
        if max(self.axes) >= maps.dim():
            raise ValueError(
                f"axes {list(self.axes)} don't exist in maps of shape {tuple(maps.shape)}: for 2D "
                "images use axes=[0]."
            )
        maps = at_least_float32(plain(maps))
        with no_autocast(maps):
            batch_mean = self._batch_mean(maps.detach() if self.detach else maps)
            mean = self._run_on(batch_mean)
        self.mean = mean.detach()
        return self._hold(mean)

    def _hold(self, mean: Tensor) -> Tensor:
        """Return the larger of the mean and the rest of the held place."""
        self._batches += 1
        if self.release == 0 or self._batches < 2 / (1 - self.momentum):
            return mean
        if self.held is not None:
            mean = torch.maximum(mean, self.release * self.held.to(mean))
        self.held = mean.detach()
        return mean

    def _run_on(self, batch_mean: Tensor) -> Tensor:
        """Continue the running mean with one batch's."""
        if self.mean is None or self.momentum == 0:
            return batch_mean
        if self.mean.shape != batch_mean.shape:
            raise ValueError(
                f"the shared place has shape {tuple(self.mean.shape)} but this batch's maps "
                f"average to {tuple(batch_mean.shape)}: bring images to one size, average the "
                "varying axis (axes), or use momentum=0."
            )
        return self.momentum * self.mean.to(batch_mean) + (1 - self.momentum) * batch_mean

    def _batch_mean(self, maps: Tensor) -> Tensor:
        """Return the mean over the axes, over all processes."""
        local = maps.mean(self.axes, keepdim=True)
        if _world_size() == 1:
            return local
        count = maps.shape[0]
        packed = torch.cat([local.detach().flatten() * count, local.new_tensor([float(count)])])
        distributed.all_reduce(packed)
        everywhere = (packed[:-1] / packed[-1]).view(local.shape)
        # The value of all processes, the gradient of this one's maps.
        return everywhere + (local - local.detach()) * (count / packed[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return running mean and held place (None before the first), and the batches so far."""
        return {"mean": _copy(self.mean), "held": _copy(self.held), "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict()`."""
        self.mean, self.held = _copy(state["mean"]), _copy(state["held"])
        self._batches = int(state["batches"])


def _copy(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach().cpu().clone()
