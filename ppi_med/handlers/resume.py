"""Exact resume: a killed run ends as it would have without the kill."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events

from ppi_med.distributed import of_all, rank
from ppi_med.io import hold
from ppi_med.training.checkpoints import CheckpointStore
from ppi_med.training.loader import ExactDataLoader
from ppi_med.training.rng import give_state, take_state
from ppi_med.training.state import stateful_parts, unwrapped

FORMAT = 1

logger = logging.getLogger(__name__)


class ResumeHandler:
    """Write checkpoints of everything, and continue from the newest complete one.

    The state of network, optimiser, gradient scaler, schedulers, handlers, evaluators' best
    metrics and random generators is found automatically (see
    `ppi_med.training.state.stateful_parts`). With an
    `ExactDataLoader`, a run that was killed anywhere and started again by the same command ends
    with the same weights, bit for bit on the CPU.

    Name it first in `train#handlers`: it loads before the other handlers start. It always saves
    after all of them have handled the end of an epoch.

    Args:
        directory: folder of the checkpoints, one for each run.
        objects: further objects with `state_dict` and `load_state_dict`, by name.
        resume: True: continue if there is a checkpoint; False: remove the folder's checkpoints and
            start from the beginning.
        epochs: save after every so many epochs, and after the last.
        iterations: also save after about this many iterations within an epoch (never between the
            parts of an accumulated step). None: at the ends of epochs only.
        keep: how many checkpoints to keep, at least 2.

    Raises:
        ValueError: if `epochs` or `iterations` is not positive.
        UsageError: at the start, where another process trains into the folder.

    Examples:
        >>> import tempfile
        >>> trainer = Engine(lambda engine, batch: None)
        >>> handler = ResumeHandler(tempfile.mkdtemp())
        >>> handler.attach(trainer)
        >>> _ = trainer.run([1, 2], max_epochs=3)
        >>> handler.store.load()["iteration"]
        6
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        objects: Mapping[str, Any] | None = None,
        resume: bool = True,
        epochs: int = 1,
        iterations: int | None = None,
        keep: int = 2,
    ) -> None:
        if epochs < 1 or (iterations is not None and iterations < 1):
            raise ValueError(
                f"Got epochs={epochs} and iterations={iterations}, expected 1 or more "
                "(iterations may be null)."
            )
        self.store = CheckpointStore(directory, keep=keep)
        self.objects = dict(objects or {})
        self.resume = resume
        self.epochs = epochs
        self.iterations = iterations
        self._saved_at: int | None = None
        self._random: Mapping[str, Any] | None = None
        self._engine: Engine | None = None
        self._listening = False
        self._first_epoch = True

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer.

        Raises:
            RuntimeError: if it is attached already.
        """
        if self._engine is not None:
            raise RuntimeError("A ResumeHandler is attached once: make another for this trainer.")
        self._engine = engine
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._epoch_started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._give_random)

    # Loading

    def _start(self, engine: Engine) -> None:
        """Load, or begin: runs before the first epoch, when the gradient scaler exists."""
        self._first_epoch = True
        _warn_of_loader(engine)
        if rank() == 0:
            # Locked until the process ends: later steps write beside the checkpoints.
            hold(self.store.directory, "training")
            self.store.remove_left_overs() if self.resume else self.store.clear()
        state = self.store.load() if self.resume else None
        if state is None:
            # So that a run killed in the first epoch repeats it from the same initial weights.
            self._save(engine)
            return
        self._check(engine, state)
        for name, part in self._parts(engine).items():
            part.load_state_dict(state["objects"][name])
        done = state["iteration"]
        engine.state.iteration = self._saved_at = done
        engine.state.epoch, within = divmod(done, _length(engine))
        self._random = _of_this_rank(state["random"])
        if within and isinstance(engine.state.dataloader, ExactDataLoader):
            engine.state.dataloader.start_at(within)
        if state["stopped"]:
            engine.terminate()
        logger.info("Resumed at epoch %d, iteration %d.", engine.state.epoch, done)

    def _check(self, engine: Engine, state: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that does not fit this run, before anything is changed."""
        where = self.store.directory
        if state.get("format") != FORMAT:
            raise RuntimeError(
                f"The checkpoint in {where} has format {state.get('format')}, expected {FORMAT}: "
                "it is of another version; set resume to false to start over."
            )
        if state["epoch_length"] != _length(engine):
            raise RuntimeError(
                f"The checkpoint in {where} has {state['epoch_length']} iterations an epoch, this "
                f"run {_length(engine)}: resume with the same data and batch size, or choose "
                "another folder."
            )
        saved, here = set(state["objects"]), set(self._parts(engine))
        if saved != here:
            raise RuntimeError(
                f"The checkpoint in {where} lacks the state of {sorted(here - saved)} and has "
                f"that of {sorted(saved - here)} besides: resume with the same handlers, or "
                "choose another folder."
            )

    def _epoch_started(self, engine: Engine) -> None:
        self._listen(engine)
        loader = engine.state.dataloader
        if isinstance(loader, ExactDataLoader):
            loader.set_epoch(engine.state.epoch)
            if not self._first_epoch and len(loader) != _length(engine):
                # ignite would continue the last epoch's iterator, which a resume could not restore.
                engine.set_data(loader)
        self._first_epoch = False
        if engine.state.iteration % _length(engine) == 0:
            # Within an epoch this waits for the first batch: when the checkpoint was written, the
            # start of the epoch had already drawn its numbers.
            self._give_random(engine)

    def _give_random(self, engine: Engine) -> None:
        if self._random is not None:
            give_state(self._random)
            self._random = None

    # Saving

    def _listen(self, engine: Engine) -> None:
        """Attach only now, so that every other handler is called before this one."""
        if self._listening:
            return
        self._listening = True
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        if self.iterations is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration_completed)

    def _epoch_completed(self, engine: Engine) -> None:
        last = engine.state.epoch == engine.state.max_epochs or bool(engine.should_terminate)
        if last or engine.state.epoch % self.epochs == 0:
            self._save(engine)

    def _iteration_completed(self, engine: Engine) -> None:
        within = engine.state.iteration % _length(engine)
        between_steps = within % int(getattr(engine, "accumulation_steps", 1)) == 0
        due = engine.state.iteration - (self._saved_at or 0) >= (self.iterations or 0)
        if within and between_steps and due:
            self._save(engine)

    def _save(self, engine: Engine) -> None:
        state = {
            "format": FORMAT,
            "iteration": engine.state.iteration,
            "epoch_length": _length(engine),
            "stopped": bool(engine.should_terminate),
            "random": of_all(take_state()),
            "objects": {n: part.state_dict() for n, part in self._parts(engine).items()},
        }
        self._saved_at = engine.state.iteration
        if rank() == 0:
            self.store.save(state, engine.state.iteration)

    def _parts(self, engine: Engine) -> dict[str, Any]:
        parts = stateful_parts(engine, ignore=self)
        known = {id(part) for part in parts.values()}
        for name, given in self.objects.items():
            part = unwrapped(given)
            if id(part) in known:
                continue
            if name in parts:
                raise ValueError(
                    f"objects names {name!r}, which is the trainer's own {name}: choose another."
                )
            parts[name] = part
        return parts


def _length(engine: Engine) -> int:
    length = engine.state.epoch_length
    if not length:
        raise RuntimeError(
            "The trainer has no epoch_length, which resuming needs: give it a loader with a "
            "length, or epoch_length."
        )
    return int(length)


def _of_this_rank(states: list[Any]) -> Mapping[str, Any] | None:
    if rank() < len(states):
        return states[rank()]  # type: ignore[no-any-return]
    logger.warning(
        "The checkpoint was written by %d processes, this is process %d: its random states start "
        "again, the resumed run is not exact.",
        len(states),
        rank(),
    )
    return None


def _warn_of_loader(engine: Engine) -> None:
    if not isinstance(engine.state.dataloader, ExactDataLoader):
        logger.warning(
            "The trainer reads from a %s: a resumed run repeats its batches only with "
            "ppi_med.training.ExactDataLoader.",
            type(engine.state.dataloader).__name__,
        )
