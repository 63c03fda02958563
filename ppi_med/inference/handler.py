"""Write an evaluator's results volume by volume, and report on every file."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ignite.engine import Engine, Events

from ppi_med.data.oct.volume import fault_of
from ppi_med.errors import UsageError, plain_words
from ppi_med.inference.evaluator import SourceOutput
from ppi_med.inference.ga import GaResult
from ppi_med.inference.outputs import REPORT, write_outputs
from ppi_med.io import exclusive, write_text
from ppi_med.pace import Pace
from ppi_med.places import Account

logger = logging.getLogger(__name__)

SUMMARY = "predictions.csv"


@dataclass(frozen=True)
class SummaryRow:
    """One line of `predictions.csv`.

    Attributes:
        source: the file, relative to the request.
        volume_id: name of its folder, "" where it failed.
        status: "ok" or "failed".
        probability: probability of GA, "" where it failed.
        logit: before the sigmoid, "" where it failed.
        n_slices: number of B-scans, "" where it failed.
        reason: why it failed.
        warning: that it is unlike the training's data, or "".
    """

    source: str
    volume_id: str = ""
    status: str = "ok"
    probability: float | str = ""
    logit: float | str = ""
    n_slices: int | str = ""
    reason: str = ""
    warning: str = ""


class GaOutputs:
    """One of an evaluator's handlers: `<output_dir>/<volume_id>/` with map, result and report.

    A file that failed is named with the reason, and the others are still done. At the end
    `<output_dir>/predictions.csv` has one line per volume or failed file.

    Args:
        output_dir: output folder, made if missing.
        report: write `report.html` too.
        notes: sentences for the reader of the reports, such as what the network was trained on.
        checkpoint: the weights' file; its name goes into the results.
        place: `trained.place` of the JSON file beside the weights: the shortcut that the training
            found, and what it did about it.

    Attributes:
        rows: rows of the last run.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        report: bool = True,
        notes: Sequence[str] = (),
        checkpoint: str | Path = "",
        place: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.report = report
        self.notes = tuple(notes)
        self.checkpoint = Path(checkpoint).name
        self.account = Account.of(place)
        self.rows: list[SummaryRow] = []
        self._bug: Exception | None = None
        self._pace = Pace(0)
        self._held = ExitStack()

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose iteration is `infer_iteration`.

        Raises:
            RuntimeError: if it is attached to it already.
        """
        if engine.has_event_handler(self._write, Events.ITERATION_COMPLETED):
            raise RuntimeError("A GaOutputs is attached once: name it once in handlers.")
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    @property
    def failures(self) -> list[SummaryRow]:
        """The files that failed."""
        return [row for row in self.rows if row.status != "ok"]

    def verdict(self) -> str:
        """Return one line on all files, the exit message if there are failures."""
        failed = self.failures
        done = f"{_counted(len(self.rows) - len(failed), 'volume')} done."
        if not failed:
            return done
        first = failed[0]
        return (
            f"{_counted(len(failed), 'file')} failed, {done} First failure: "
            f"{first.source}: {first.reason}"
        )

    def _start(self, engine: Engine) -> None:
        self.rows.clear()
        self._pace = Pace(engine.state.epoch_length or 0, "files")
        self._bug = None
        self._held.close()  # for a run that an error ended
        try:
            self._held.enter_context(exclusive(self.output_dir, "inference"))
        except OSError as error:
            raise UsageError(f"no output in {self.output_dir}: {plain_words(error)}") from error

    def _write(self, engine: Engine) -> None:
        output = cast(SourceOutput, engine.state.output)
        for result in output.results:
            try:
                self._add(output.source, result)
            except BaseException as error:  # one volume's outputs, for whatever reason
                self._fail(output.source, f"its outputs cannot be written: {fault_of(error)}")
        self._bug = self._bug or output.bug
        if output.error:
            self._fail(output.source, output.error)
        output.results = []  # the pixels and maps are not needed any more
        self._pace.step()

    def _add(self, source: str, result: GaResult) -> None:
        volume = result.volume
        folder = self.output_dir / volume.volume_id
        for row in self.rows:
            if row.volume_id.casefold() == volume.volume_id.casefold():
                self._fail(source, f"its outputs would replace those of {row.source} in {folder}.")
                return
        write_outputs(
            result,
            folder,
            report=self.report,
            notes=self.notes,
            checkpoint=self.checkpoint,
            account=self.account,
        )
        self.rows.append(
            SummaryRow(
                source=source,
                volume_id=volume.volume_id,
                probability=result.probability,
                logit=result.logit,
                n_slices=volume.shape[0],
                warning=result.likeness.warning,
            )
        )
        seen = folder / REPORT if self.report else folder
        logger.info("ok      %s: probability %.3f, see %s", source, result.probability, seen)
        for warning in result.warnings:
            logger.info("        %s: %s", source, warning)

    def _fail(self, source: str, why: str) -> None:
        self.rows.append(SummaryRow(source, status="failed", reason=why))
        logger.error("failed  %s: %s", source, why)

    def _finish(self) -> None:
        stream = io.StringIO()
        fields = list(SummaryRow.__dataclass_fields__)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows([getattr(row, name) for name in fields] for row in self.rows)
        self._held.close()
        try:
            write_text(self.output_dir / SUMMARY, stream.getvalue())
        except OSError as error:
            raise UsageError(f"{SUMMARY} cannot be written: {plain_words(error)}") from error
        logger.info(self.verdict())
        if self._bug is not None:
            raise self._bug


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
