"""Pseudonyms: replacements of patients, UIDs, paths and free text in all output of the index.

A header's text is kept if each of its words is known here: a maker, a model, a kernel, a term of
DICOM. Any other text may name a person and is replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

_LENGTH = 32

_MAKERS = """
agfa canon carestream elekta fujifilm ge general electric healthcare healthineers hitachi
hologic imatron koning marconi medical neurologica neusoft philips picker planmed samsung
shimadzu siemens systems technologies toshiba uih united imaging varian corporation company gmbh
inc ltd nv ag co
"""
_MODELS = """
activion alexion ambition aquilion as asteion bodytom brightspeed brilliance biograph ceretom ct
ct/i ctsa definition discovery drive duo edge elite emotion evo evolution exel exceed flash
fidex force gemini genesis go hd hispeed ict incisive ingenuity insight iqon jupiter lightning
lightspeed mct mx mx8000 naeotom neuviz now idt one open optima perspective phantom plus power
pq prime pro qx qx/i revolution rt rxl scenaria scope select sensation sierra somatom spirit
supria system tf top ultra up uct vct vision volume x xi xt xte zoom alpha pet spectral big bore
premium scanner a b c d e
"""
_KERNELS = """
standard std bone boneplus lung chest chst soft detail edge sharp smooth body head brain none b
c d e f l s ya yb yc yd yd ua ub uc sa sb e1 e2 e3 ea eb ec p
"""
_TERMS = """
ar bi bmd cr ct dx ecg es gm io ivoct ivus ko mg mr nm oct op opm opt opv ot pr pt px reg rf rg
rtdose rtimage rtplan rtstruct rwv sc seg sm sr us xa xc
monochrome1 monochrome2 rgb palette color ybr_full ybr_full_422 ybr_ict ybr_rct ybr_partial_420
"""
_KNOWN = frozenset(" ".join((_MAKERS, _MODELS, _KERNELS, _TERMS)).split())
# Few letters and digits, as in kernels and models: B30f, FC01, 64.
_CODE = re.compile(r"[a-z]{0,3}\d{1,3}[a-z]{0,2}")
_MOST_WORDS = 6


def is_known_text(text: str) -> bool:
    """Say whether a header's text holds only words that name no person.

    Examples:
        >>> is_known_text("GE MEDICAL SYSTEMS"), is_known_text("LightSpeed16 B30f")
        (True, True)
        >>> is_known_text("Siemens of Jane Doe"), is_known_text("4711008")
        (False, False)
    """
    words = re.split(r"[\s,.;:()+-]+", text.lower().strip(" .()"))
    return len(words) <= _MOST_WORDS and all(_is_known(word) for word in words)


def _is_known(word: str) -> bool:
    bare = re.sub(r"\d{1,3}[a-z]?$", "", word)
    return word in _KNOWN or (len(bare) > 3 and bare in _KNOWN) or bool(_CODE.fullmatch(word))


def known_or_token(text: str) -> str:
    """Return a header's text if it is known, else a token that is the same for the same text.

    For data sets without a project's key; see `Pseudonyms.text`.

    Examples:
        >>> known_or_token("TOSHIBA"), len(known_or_token("Doe^Jane"))
        ('TOSHIBA', 8)
    """
    if not text or is_known_text(text):
        return text
    return f"X-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def dicom_uid(text: str) -> str:
    """Return a text that has a UID's form, "" for another.

    Examples:
        >>> dicom_uid("1.2.840"), dicom_uid("Doe^Jane")
        ('1.2.840', '')
    """
    return text if re.fullmatch(r"[0-2](\.\d+)+", text) and len(text) <= 64 else ""


class Pseudonyms:
    """Names made by HMAC-SHA256 under a project's key: the same in every run of the project.

    Without the key they cannot be linked to the patients, nor to another project's names.

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

    def text(self, value: str) -> str:
        """Return a text that names no person as it is, `X-` and 8 digits for another."""
        known = is_known_text(value) or dicom_uid(value).startswith("1.2.840.10008.")
        return value if known or not value else f"X-{self._digest('text', value).hex()[:8]}"


class TrueNames:
    """The same interface without replacement: for data that is public or stays in-house."""

    def patient(self, value: str) -> str:
        """Return the patient's id."""
        return value

    def file(self, value: str) -> str:
        """Return the path."""
        return value

    def uid(self, value: str) -> str:
        """Return the UID."""
        return value

    def text(self, value: str) -> str:
        """Return the text."""
        return value


Names = Pseudonyms | TrueNames


def load_key(path: str | Path) -> bytes:
    """Read a project's key; make it, readable by its owner only, if there is none.

    Args:
        path: path of the key. Keep it: without it the next run gives other pseudonyms.

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
