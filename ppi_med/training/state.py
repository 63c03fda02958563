"""The parts of a trainer that have a state, found without a list.

A MONAI trainer holds its network, optimiser and scaler itself; its schedulers, handlers and
evaluators are attached to its events. All of these with `state_dict` and `load_state_dict` count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ignite.engine import Engine
from ignite.metrics import Metric
from torch import nn

_BEST = ("best_metric", "best_metric_epoch")


class EngineBest:
    """The best metric that a MONAI engine remembers, as something with a state.

    Args:
        engine: a trainer or evaluator.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def state_dict(self) -> dict[str, Any]:
        """Return the best metric and its epoch, if the engine keeps them."""
        return {k: getattr(self.engine.state, k) for k in _BEST if hasattr(self.engine.state, k)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        for key, value in state.items():
            setattr(self.engine.state, key, value)

    def forget(self) -> None:
        """Forget the best metric, if the engine keeps one."""
        self.load_state_dict(dict.fromkeys(self.state_dict(), -1))  # MONAI's value before the first


def stateful_parts(trainer: Engine, ignore: Any = None) -> dict[str, Any]:
    """Return what has a state in and around a trainer, by name.

    Names: "network", "optimizer", "scaler"; "trainer" and "evaluator" for their best metric;
    "<Class>" for a handler and for a scheduler of a `LrScheduleHandler`, with ".2" and so on for
    further ones of a class, in the order of attachment. Handlers of evaluators are found through
    handlers that hold one as `validator`.

    Returns:
        Name -> object with `state_dict` and `load_state_dict`.
    """
    parts: dict[str, Any] = {}
    for name in ("network", "optimizer", "scaler"):
        if _has_state(part := getattr(trainer, name, None)):
            parts[name] = unwrapped(part)
    _put(parts, "trainer", EngineBest(trainer))
    known = {id(part) for part in parts.values()} | {id(ignore)}
    for engine in engines_of(trainer):
        if engine is not trainer:
            _put(parts, "evaluator", EngineBest(engine))
        for handler in handlers_of(engine):
            for part in (handler, getattr(handler, "lr_scheduler", None)):
                if _has_state(part) and id(part) not in known:
                    known.add(id(part))
                    _put(parts, type(part).__name__, part)
    return parts


def unwrapped(part: Any) -> Any:
    """Return the module inside a wrapper for parallel training, else the part itself."""
    if isinstance(part, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return part.module
    return part


def handlers_of(engine: Engine) -> Iterator[Any]:
    """Yield the objects that the engine's events call, or whose methods they call."""
    seen = set()
    for entries in engine._event_handlers.values():
        for call, _, _ in entries:
            # A filtered event, such as "every 2 epochs", wraps the call and keeps it as its parent.
            call = call._parent() if hasattr(call, "_parent") else call
            owner = getattr(call, "__self__", call)
            if id(owner) not in seen:
                seen.add(id(owner))
                yield owner


def engines_of(trainer: Engine) -> list[Engine]:
    """Return the trainer and the evaluators that its handlers hold."""
    held = (getattr(handler, "validator", None) for handler in handlers_of(trainer))
    engines = [trainer]
    for engine in held:
        if isinstance(engine, Engine) and engine not in engines:
            engines.append(engine)
    return engines


def _has_state(part: Any) -> bool:
    # Engines are handled separately; metrics start again each epoch.
    if isinstance(part, (Engine, Metric, type)):
        return False
    return callable(getattr(part, "state_dict", None)) and callable(
        getattr(part, "load_state_dict", None)
    )


def _put(parts: dict[str, Any], name: str, part: Any) -> None:
    number = 1
    while (key := name if number == 1 else f"{name}.{number}") in parts:
        number += 1
    parts[key] = part
