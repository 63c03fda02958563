"""Loading a network's weights from a file; an error lists everything that does not fit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

StateDict = dict[str, Tensor]

# The keys of the network in larger checkpoints of training programs.
_NESTED_KEYS = ("state_dict", "model", "network", "model_state_dict")
_PARALLEL_PREFIX = "module."
_NAMES_SHOWN = 5


def read_state_dict(path: str | os.PathLike[str]) -> StateDict:
    """Read a state dict of any floating point precision from a file.

    Only tensors and plain containers are read, never code. A checkpoint that holds the state dict
    under "state_dict", "model", "network" or "model_state_dict" is unwrapped. If all names begin
    with "module.", which parallel training adds, the prefix is removed.

    Args:
        path: file written by `torch.save`.

    Raises:
        FileNotFoundError: if there is no such file; nothing is ever downloaded.
        ValueError: if the file holds something else, or values that are not finite.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no weights file {file}: give the path of a state dict on this machine "
            "(weights are never downloaded)."
        )
    state = _without_prefix(_unwrapped(_load(file), file))
    _check_finite(state, file)
    return state


def load_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    source: str | os.PathLike[str],
    ignore: Sequence[str] = (),
) -> None:
    """Copy a state dict into a network; everything must fit, except what `ignore` names.

    Args:
        network: receives the weights, converted to its own precision.
        state: the state dict.
        source: the file it was read from, for the error.
        ignore: prefixes of names that may be missing on either side.

    Raises:
        ValueError: if names are missing or unexpected or shapes differ; the error lists them.
    """
    prefixes = tuple(ignore)
    wanted = {k: v for k, v in network.state_dict().items() if not k.startswith(prefixes)}
    given = {k: v for k, v in state.items() if not k.startswith(prefixes)}
    # Old checkpoints lack these counters; only their start depends on them.
    optional = {k for k in wanted if k.endswith("num_batches_tracked")}
    shapes = [
        f"{k} {tuple(given[k].shape)} for {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in given and given[k].shape != v.shape
    ]
    problems = [
        _listing("missing", [k for k in wanted if k not in given and k not in optional]),
        _listing("unexpected", [k for k in given if k not in wanted]),
        _listing("of another shape", shapes),
    ]
    found = "; ".join(problem for problem in problems if problem)
    if found:
        raise ValueError(
            f"The weights in {source} do not fit {type(network).__name__}: {found}. "
            "Choose the network that they were saved from, or another file."
        )
    network.load_state_dict(given, strict=False)


def _load(file: Path) -> object:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # arbitrary bytes can raise anything in the reader, even a KeyError
        raise ValueError(
            f"{file} could not be read as weights ({type(error).__name__}): expected a state dict "
            "of tensors, written by torch.save(network.state_dict(), path)."
        ) from error


def _unwrapped(content: object, file: Path) -> StateDict:
    if isinstance(content, Mapping):
        for key in _NESTED_KEYS:
            if isinstance(content.get(key), Mapping):
                return _unwrapped(content[key], file)
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        names = ", ".join(str(key) for key in list(content)[:_NAMES_SHOWN])
        found = f"a dictionary of {names or 'nothing'}"
    else:
        found = type(content).__name__
    raise ValueError(
        f"{file} holds {found}, expected a state dict: names with tensors, alone or under one of "
        f"{', '.join(_NESTED_KEYS)}."
    )


def _without_prefix(state: StateDict) -> StateDict:
    if all(name.startswith(_PARALLEL_PREFIX) for name in state):
        return {name.removeprefix(_PARALLEL_PREFIX): value for name, value in state.items()}
    return state


def _check_finite(state: StateDict, file: Path) -> None:
    broken = [
        name
        for name, value in state.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if broken:
        raise ValueError(
            f"{file} holds values that are not finite ({_listing('in', broken)}): "
            "save the weights again in a precision that holds them."
        )


def _listing(what: str, names: Sequence[str]) -> str:
    """Return "what: a, b, ... (n in all)", or an empty string for no names."""
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_NAMES_SHOWN])}{more}"
