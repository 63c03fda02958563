"""Records a trainer or evaluator in a run."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

from ppi_med import naming
from ppi_med.handlers.epoch_lines import EpochMeans
from ppi_med.tracking.base import NullTracker, Tracker
from ppi_med.training.state import handlers_of
from ppi_med.training.steps import on_failure

DATASET_KEYS = ("volume_id", "subject", "eye", "visit", "site", "label")
EPOCH_SECONDS = "time/epoch_seconds"

logger = logging.getLogger(__name__)


class TrackingHandler:
    """Records a training or an evaluation: one entry in the trainer's, or evaluator's, handlers.

    An epoch is one request: the means of the loss and of the entries `loss/...` in the engine's
    output (PPI's terms), the learning rates, the metrics of the trainer and of the evaluators that
    ran in it, and the best so far. The run is opened when the engine starts; it ends FINISHED,
    FAILED on an exception, KILLED on Ctrl-C or SIGTERM.

    Args:
        tracker: from `ppi_med.tracking.create_tracker`; None records nothing.
        output_transform: engine output -> further scalars by name, in each iteration.
        state_attributes: attributes of `engine.state` to record at the end of an epoch: scalars
            or dicts of scalars.
        datasets: part -> its cases, such as {"train": datalist}, recorded once by
            `dataset_keys`.
        dataset_keys: keys of the cases to record, if a case has them; no paths.
        source: source of the cases, such as the datalist's name.
        finish: close the run when the engine has completed; False: another handler does.

    Examples:
        >>> trainer = Engine(lambda engine, batch: {"loss": batch})
        >>> TrackingHandler(None).attach(trainer)
        >>> trainer.run([1.0]).epoch
        1
    """

    def __init__(
        self,
        tracker: Tracker | None,
        output_transform: Callable[[Any], Mapping[str, Any]] | None = None,
        state_attributes: Sequence[str] = (),
        datasets: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
        dataset_keys: Sequence[str] = DATASET_KEYS,
        source: str | os.PathLike[str] = "",
        finish: bool = True,
    ) -> None:
        self.tracker = tracker if tracker is not None else NullTracker()
        self.output_transform = output_transform
        self.state_attributes = tuple(state_attributes)
        self.datasets = dict(datasets or {})
        self.dataset_keys = tuple(dataset_keys)
        self.source = source
        self.finish = finish
        self._means = EpochMeans()
        self._rates: dict[str, float] = {}
        self._collected_at = -1
        self._last_terms: Any = None
        self._validated: list[Engine] = []
        self._engine: Engine | None = None
        self._listening = False

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer or an evaluator.

        Raises:
            RuntimeError: if it is attached already.
        """
        if self._engine is not None:
            raise RuntimeError("A TrackingHandler is attached once: make another for this engine.")
        self._engine = engine
        engine.add_event_handler(Events.STARTED, self._start)
        if not self.tracker.active:
            # Known to the engine anyway, so that a run may be resumed with tracking on.
            return
        engine.add_event_handler(Events.EPOCH_STARTED, self._note_rates)
        if (after_backward := _backward_completed(engine)) is not None:
            engine.add_event_handler(after_backward, self._collect)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        on_failure(engine, self._fail)

    def state_dict(self) -> dict[str, Any]:
        """Return the run and the means within the epoch."""
        return {"tracker": self.tracker.state_dict(), "means": self._means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self.tracker.load_state_dict(state["tracker"])
        self._means.load_state_dict(state["means"])

    def _start(self, engine: Engine) -> None:
        if not self.tracker.active:
            return
        self._listen(engine)
        self.tracker.start()
        for part, cases in self.datasets.items():
            rows = [{k: case[k] for k in self.dataset_keys if k in case} for case in cases]
            self.tracker.log_dataset(part, rows, part, self.source)

    def _listen(self, engine: Engine) -> None:
        """Attach to epochs only now: after a validation that was attached later than this."""
        if self._listening:
            return
        self._listening = True
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._record_epoch)
        for evaluator in _evaluators(engine):
            evaluator.add_event_handler(Events.COMPLETED, self._validated.append)

    def _note_rates(self, engine: Engine) -> None:
        """Record the learning rates before a scheduler changes them at the end of the epoch."""
        groups = getattr(getattr(engine, "optimizer", None), "param_groups", [])
        single = len(groups) == 1
        self._rates = {
            "lr" if single else f"lr/{group.get('name', number)}": float(group["lr"])
            for number, group in enumerate(groups)
        }

    def _collect(self, engine: Engine) -> None:
        """Read an iteration's scalars after the backward pass: later they are decollated."""
        if self._collected_at == engine.state.iteration:
            return
        self._collected_at = engine.state.iteration
        output = engine.state.output
        values = _losses(output)
        terms = getattr(engine.state, "ppi_terms", None)
        # In an iteration without PPI the last terms are still there.
        if terms is not None and terms is not self._last_terms:
            self._last_terms = terms
            values.update(_details(terms))
        if self.output_transform is not None:
            values.update(self.output_transform(output))
        self._means.add(values)

    def _record_epoch(self, engine: Engine) -> None:
        values: dict[str, Any] = {**self._means.take(), **self._rates}
        values.update(_scalars(engine.state.metrics))
        for evaluator in self._validated:
            values.update(_scalars(evaluator.state.metrics))
        for evaluator in self._validated:
            values.update(_best(evaluator))
        self._validated.clear()
        for name in self.state_attributes:
            values.update(_attribute(engine, name))
        seconds = engine.state.times.get(Events.EPOCH_COMPLETED.name)
        if seconds is not None:
            values[EPOCH_SECONDS] = seconds
        self.tracker.log_metrics(values, step=engine.state.epoch)

    def _complete(self, engine: Engine) -> None:
        if self.finish:
            self.tracker.finish("FINISHED")

    def _fail(self, engine: Engine, error: BaseException) -> None:
        # ignite calls this twice for one error: when it leaves the epoch and the run.
        from ppi_med.tracking.ending import status_of

        # The kind only: a message may name a patient's file, and this goes to a server.
        self.tracker.set_tags({"error": type(error).__name__})
        self.tracker.finish(status_of(error))


def _backward_completed(engine: Engine) -> Any:
    """Return MONAI's event after the backward pass, if the engine has it."""
    from monai.engines.utils import IterationEvents

    event = IterationEvents.BACKWARD_COMPLETED
    return event if event in engine._allowed_events else None


def _evaluators(engine: Engine) -> list[Engine]:
    held = {
        id(v): v for h in handlers_of(engine) if isinstance(v := getattr(h, "validator", 0), Engine)
    }
    return list(held.values())


def _losses(output: Any) -> dict[str, Any]:
    """Return the total loss and the terms in the output; if decollated, those of one case."""
    if isinstance(output, (list, tuple)) and output and isinstance(output[0], Mapping):
        output = output[0]
    if not isinstance(output, Mapping):
        return {}
    values = {name: value for name, value in output.items() if str(name).startswith("loss/")}
    if "loss" in output:
        values[naming.LOSS_TOTAL] = output["loss"]
        values.setdefault(naming.LOSS_CLS, output["loss"])
    return values


def _details(terms: Any) -> dict[str, Any]:
    """Return further scalars of PPI: a mapping as it is; weights and removed shares by name."""
    if isinstance(terms, Mapping):
        return dict(terms)
    values = {}
    for kind, label in (("weights", "weight"), ("removed", "removed")):
        for name, value in getattr(terms, kind, {}).items():
            values[f"ppi/{label}_{name}"] = value
    return values


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers; tables of numbers belong in artifacts."""
    found = {}
    for name, value in metrics.items():
        single = isinstance(value, Tensor) and value.numel() == 1
        if isinstance(value, (int, float)) or single or getattr(value, "shape", None) == ():
            found[str(name)] = float(value)
    return found


def _best(evaluator: Engine) -> dict[str, float]:
    """Return the best value so far of each metric with kept weights."""
    found = {}
    for handler in handlers_of(evaluator):
        metric, value = getattr(handler, "metric", None), getattr(handler, "value", None)
        if isinstance(metric, str) and isinstance(value, float) and not math.isnan(value):
            found[f"best/{metric}"] = value
            found["best/epoch"] = float(handler.epoch)
    return found


def _attribute(engine: Engine, name: str) -> dict[str, float]:
    value = getattr(engine.state, name, None)
    if value is None:
        return {}
    return _scalars(value if isinstance(value, Mapping) else {name: value})
