"""The patient's id in the files beside the subjects that the user tells.

Both say whose volume it is. A patient with two subjects could stand in two parts of the splits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ppi_med.data.oct.labels import Facts
from ppi_med.data.oct.worker import Result


@dataclass(frozen=True)
class Statement:
    """What the user says of one source; as text a clause for messages.

    Attributes:
        subject: whose eye.
        relative: the source.
        origin: where the user says so.

    Examples:
        >>> str(Statement("s1", "a.dcm", "user: labels.csv"))
        "user: labels.csv says 's1' of a.dcm"
    """

    subject: str
    relative: str
    origin: str

    def __str__(self) -> str:
        return f"{self.origin} says {self.subject!r} of {self.relative}"


class Patients:
    """The subjects that the user tells for each patient's id of the files.

    Args:
        told: the results and what the user tells of each, in the order of the sources.
    """

    def __init__(self, told: Iterable[tuple[Result, Facts]]) -> None:
        self._told: dict[str, dict[str, Statement]] = {}
        for result, facts in told:
            if not facts.subject:
                continue
            statement = Statement(
                facts.subject, result.relative, facts.origin.get("subject", "the user")
            )
            for record in result.volumes:
                if record.subject_key:
                    subjects = self._told.setdefault(record.subject_key, {})
                    subjects.setdefault(facts.subject, statement)

    def subjects(self, key: str) -> list[Statement]:
        """Return the first statement of each subject told for a patient's (hashed) id."""
        return list(self._told.get(key, {}).values())
