"""The options of a conversion, each written once: the command line is made of these fields.

The options that affect files are hashed, so that a second run knows what it may keep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ppi_med.data.oct.volume import Laterality, Spacing, implausible

CONVERTER_VERSION = 2
"""Version; it rises when the same source and options would give other files."""

Policy = Literal["refuse", "warn"]
_POLICIES = ("refuse", "warn")


def parse_spacing(text: str) -> Spacing:
    """Read `lateral,axial,between` in mm; an empty place or "?" stays unknown.

    Raises:
        ValueError: if it is not three places.

    Examples:
        >>> parse_spacing("0.0067,0.0045,?")
        Spacing(lateral=0.0067, axial=0.0045, between=None)
    """
    places = [place.strip() for place in text.split(",")]
    try:
        if len(places) != 3:
            raise ValueError
        values = [None if place in ("", "?") else float(place) for place in places]
    except ValueError:
        raise ValueError(
            f"spacing is {text!r}, expected LATERAL,AXIAL,BETWEEN in mm, '?' where unknown."
        ) from None
    return Spacing(*values)


def numbers(kind: Callable[[str], Any], count: int, what: str) -> Callable[[str], tuple[Any, ...]]:
    """Return the reader of `count` comma-separated numbers; `what` names them in its error."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            values = tuple(kind(place) for place in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise ValueError(f"got {text!r}, expected {what}.")
        return values

    return read


def option(
    default: Any,
    text: str,
    group: str,
    metavar: str | None = None,
    parse: Callable[[str], Any] | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Return a field of a class of options.

    Args:
        default: default of the field.
        text: what the option does, for the help.
        group: heading in the help.
        metavar: placeholder of the value in the help.
        parse: from the command line's text to the value; raises ValueError.
        choices: the values allowed.
    """
    about = {"text": text, "group": group, "metavar": metavar, "parse": parse, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class ReadOptions:
    """Options for the pixels and the geometry of one volume; `--help` explains each field.

    `spacing` may be a `Spacing`, three numbers in mm, or text.

    Raises:
        ValueError: for invalid values.

    Examples:
        >>> ReadOptions(spacing="0.006,0.004,?", pad_width=1000).spacing.axial
        0.004
    """

    spacing: Spacing = option(
        Spacing(),
        "mm, '?' where unknown; used if the file does not state it",
        "facts that the files do not state",
        "LATERAL,AXIAL,BETWEEN",
        parse_spacing,
    )
    spacing_overrides: bool = option(
        False, "let --spacing win over the files", "facts that the files do not state"
    )
    laterality: Laterality | None = option(
        None,
        "for files that do not state it",
        "facts that the files do not state",
        choices=("OD", "OS"),
    )
    shape: tuple[int, int, int] | None = option(
        None,
        "sizes for formats without a header (Zeiss .img)",
        "facts that the files do not state",
        "DEPTH,WIDTH,B-SCANS",
        numbers(int, 3, "DEPTH,WIDTH,B-SCANS"),
    )
    pad_width: int | None = option(
        None, "widen narrower volumes by repeating the edge", "reading", "N", int
    )
    variable: str | None = option(
        None, "volume in a .mat file (default images, or the only one)", "reading", "NAME"
    )
    mask_variable: str | None = option(None, "lesion mask in a .mat file", "reading", "NAME")
    axes: str = option("dwn", "axes in a .mat file: d(epth), w(idth), n (B-scans)", "reading")
    window: tuple[float, float] | None = option(
        None,
        "pixel values that become 0 and 255",
        "reading",
        "LOW,HIGH",
        numbers(float, 2, "LOW,HIGH"),
    )
    colour: Policy = option("refuse", "coloured pictures", "checks", choices=_POLICIES)

    def __post_init__(self) -> None:
        for name in ("shape", "window"):  # lists, from JSON
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "spacing", _spacing(self.spacing))
        for name, value in self.spacing._asdict().items():
            if value is not None and (why := implausible(name, value)):
                raise ValueError(f"spacing: {why}.")
        if self.laterality not in (None, "OD", "OS"):
            raise ValueError(f"laterality is {self.laterality!r}, expected OD or OS.")
        if self.shape is not None and (len(self.shape) != 3 or min(self.shape) < 1):
            raise ValueError(f"shape is {self.shape}, expected DEPTH,WIDTH,B-SCANS.")
        if self.pad_width is not None and self.pad_width < 1:
            raise ValueError(f"pad_width is {self.pad_width}, expected a number of A-scans.")
        if sorted(self.axes) != ["d", "n", "w"]:
            raise ValueError(f"axes is {self.axes!r}, expected d, w and n in some order.")
        if self.window is not None and not self.window[1] > self.window[0]:
            raise ValueError(f"window is {self.window}, expected LOW,HIGH with HIGH above LOW.")
        if self.colour not in _POLICIES:
            raise ValueError(f"colour is {self.colour!r}, expected refuse or warn.")

    @property
    def hash(self) -> str:
        """Hash of the options and of the converter's version."""
        text = json.dumps([CONVERTER_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _spacing(value: Any) -> Spacing:
    if value is None:
        return Spacing()
    if isinstance(value, str):
        return parse_spacing(value)
    if len(value) != 3:
        raise ValueError(f"spacing is {value!r}, expected (lateral, axial, between) in mm.")
    return Spacing(*value)


@dataclass(frozen=True)
class SplitOptions:
    """Options of the splits; see `ppi_med.data.splits.make_splits`."""

    fractions: Sequence[float] = option(
        (0.6, 0.2, 0.2),
        "shares of the subjects (default 0.6,0.2,0.2)",
        "splits, made once",
        "TRAIN,VAL,TEST",
        numbers(float, 3, "TRAIN,VAL,TEST"),
    )
    folds: int = option(5, "over training and validation", "splits, made once", parse=int)
    seed: int = option(0, "of the shuffle", "splits, made once", parse=int)
    stratify: Sequence[str] = option(
        ("site", "label"),
        "kept in equal shares in all parts (default site,label)",
        "splits, made once",
        "COLUMNS",
        lambda text: tuple(name for name in text.split(",") if name),
    )
    new_splits: bool = option(False, "replace an existing splits.json", "splits, made once")


@dataclass(frozen=True)
class ConvertOptions:
    """The options of a conversion; `ConvertOptions.of` takes all of them by name.

    `source` is a folder, or one file; `output`, the data set's folder, may be inside it. The other
    fields are explained by `--help`.

    Examples:
        >>> ConvertOptions.of("scans", "data", pad_width=1000, folds=3).read.pad_width
        1000
    """

    source: Path
    output: Path
    labels: Path | None = option(
        None,
        "columns file, subject, eye, visit, site, label, label_rule; others are kept",
        "facts that the files do not state",
        "CSV",
        Path,
    )
    pattern: str | None = option(
        None,
        "the same from the path, by named groups: '(?P<site>[^/]+)/(?P<subject>[^_]+)'",
        "facts that the files do not state",
        "REGEX",
    )
    salt: str = option(
        "", "part of the hash that replaces a patient's id", "facts that the files do not state"
    )
    images: Literal["stack", "single"] = option(
        "stack",
        "the pictures of a folder are one volume, or one volume each",
        "reading",
        choices=("stack", "single"),
    )
    expect_slices: int | None = option(
        None, "B-scans that every volume must have", "checks", "N", int
    )
    slices_policy: Policy = option(
        "refuse", "another number of B-scans", "checks", choices=_POLICIES
    )
    laterality_policy: Policy = option(
        "refuse", "file and table contradict each other on the eye", "checks", choices=_POLICIES
    )
    subject_policy: Policy = option(
        "refuse",
        "one patient's id in the files, two subjects in table or pattern",
        "checks",
        choices=_POLICIES,
    )
    workers: int | None = option(None, "processes (default one per core)", "running", "N", int)
    overwrite: bool = option(False, "convert again what is done", "running")
    prune: bool = option(False, "remove volumes whose source no longer exists", "running")
    progress: bool = option(True, "no progress bar", "running")
    read: ReadOptions = ReadOptions()
    splits: SplitOptions = SplitOptions()

    @classmethod
    def of(cls, source: str | Path, output: str | Path, **options: Any) -> ConvertOptions:
        """Return the options by their names, those of reading and of the splits among them.

        Raises:
            TypeError: for an unknown option.
            ValueError: for invalid values.
        """
        parts: dict[str, Any] = {}
        for name, kind in (("read", ReadOptions), ("splits", SplitOptions)):
            own = {f.name: options.pop(f.name) for f in fields(kind) if f.name in options}
            if own:
                parts[name] = kind(**own)
        if options.get("labels") is not None:
            options["labels"] = Path(options["labels"])
        return cls(Path(source), Path(output), **parts, **options)

    @property
    def hash(self) -> str:
        """Hash of everything that shapes a volume's files."""
        text = f"{self.read.hash}|{self.expect_slices}|{self.slices_policy}|{self.salt}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]
