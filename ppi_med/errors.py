"""The errors that a command prints as one line, without a traceback."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable


class UsageError(ValueError):
    """Something that the user can correct: a path, an option, the content of a file.

    Raise it with one sentence: what was got, what was expected, what to do next.
    """


class MissingFileError(UsageError, FileNotFoundError):
    """A required file that is missing."""


class UnreachableError(ConnectionError):
    """The tracking store cannot be reached now; a later attempt may succeed."""


SYSTEM_ERRORS = (OSError, MemoryError, sqlite3.Error)
"""Refused by the machine: a full or read-only disk, a folder in place of a file, no memory."""


def plain_words(error: BaseException) -> str:
    """Return an error as one line for a user, without a traceback.

    Args:
        error: an error that a command may end with: `SYSTEM_ERRORS`, or one with its own message.

    Examples:
        >>> plain_words(OSError(28, "No space left on device", "out/index.csv"))
        'No space left on device: out/index.csv'
        >>> plain_words(MemoryError())
        'there is not enough memory.'
    """
    if isinstance(error, OSError) and error.strerror and not isinstance(error, UsageError):
        place = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{place}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return text or "there is not enough memory."
    return text or f"{type(error).__name__}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known name that is nearest to an unknown one, or an empty string.

    Examples:
        >>> did_you_mean("ga_pii", ["ga_ppi", "lidc_ppi"])
        '; did you mean ga_ppi?'
        >>> did_you_mean("birds", ["ga_ppi", "lidc_ppi"])
        ''
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is none of those known.

    Raises:
        UsageError: with the nearest of them.

    Examples:
        >>> require_known("sign", "puls", ["plus", "minus"])
        Traceback (most recent call last):
        ppi_med.errors.UsageError: sign is 'puls', expected one of plus, minus; did you mean plus?
    """
    listed = list(known)
    if name not in listed:
        hint = did_you_mean(name, listed) or "."
        raise UsageError(f"{what} is {name!r}, expected one of {', '.join(listed)}{hint}")
