"""The errors that a command prints as one line, without a traceback."""

from __future__ import annotations


class UsageError(ValueError):
    """Something that the user can put right: a path, an option, the content of a file.

    Raise it with one sentence: what was got, what was expected, what to do next.
    """


class MissingFileError(UsageError, FileNotFoundError):
    """A file that has to be there and is not."""


class UnreachableError(ConnectionError):
    """The tracking store cannot be reached just now; it may be tried again."""
