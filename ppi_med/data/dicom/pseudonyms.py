"""Pseudonyms: what stands for patients, UIDs and paths in everything that leaves the index."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

_LENGTH = 32


class Pseudonyms:
    """Names made by HMAC-SHA256 under a project's key: the same in every run of the project.

    Without the key they cannot be joined to the patients, nor to another project's.

    Args:
        key: at least 16 bytes, secret.

    Raises:
        ValueError: for a shorter key.

    Examples:
        >>> names = Pseudonyms(b"0123456789abcdef")
        >>> names.patient("Doe^Jane") == names.patient("Doe^Jane")
        True
        >>> names.patient("Doe^Jane") == Pseudonyms(b"another project!").patient("Doe^Jane")
        False
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError(f"the project key has {len(key)} bytes, expected at least 16.")
        self._key = key

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.new(self._key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()

    def patient(self, value: str) -> str:
        """Return `P-` and 16 digits; "" stays "": an unknown patient is not one patient."""
        return f"P-{self._digest('patient', value).hex()[:16]}" if value else ""

    def file(self, value: str) -> str:
        """Return `F-` and 16 digits for a path."""
        return f"F-{self._digest('file', value).hex()[:16]}"

    def uid(self, value: str) -> str:
        """Return a valid UID of the root 2.25; "" stays ""."""
        if not value:
            return ""
        return f"2.25.{int.from_bytes(self._digest('uid', value)[:16], 'big')}"


class TrueNames:
    """The same form, with nothing replaced: for data that is public or stays in the house."""

    def patient(self, value: str) -> str:
        """Return the patient's id."""
        return value

    def file(self, value: str) -> str:
        """Return the path."""
        return value

    def uid(self, value: str) -> str:
        """Return the UID."""
        return value


Names = Pseudonyms | TrueNames


def load_key(path: str | Path) -> bytes:
    """Read a project's key; make it, readable by its owner only, if there is none.

    Args:
        path: of the key. Keep it: without it the next run gives other pseudonyms.

    Returns:
        The key.

    Raises:
        ValueError: for a file that holds no key.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_key(path)
    with os.fdopen(handle, "w") as stream:
        stream.write(secrets.token_hex(_LENGTH) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (UnicodeDecodeError, ValueError):
        key = b""
    if len(key) < 16:
        raise ValueError(
            f"{path.name} holds no project key, expected at least 32 hexadecimal digits: name "
            "another file, or remove it to have one made."
        )
    return key
