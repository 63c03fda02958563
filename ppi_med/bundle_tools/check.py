"""Resolve every id of a bundle's configurations and name the keys that fail, with the reason."""

from __future__ import annotations

import ast
import difflib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppi_med.bundle_tools.installed import Bundle
from ppi_med.bundle_tools.preflight import in_one_line, root_cause
from ppi_med.errors import UsageError

if TYPE_CHECKING:
    from monai.bundle import ConfigParser


# MONAI runs these; a check must not train.
LIFECYCLE = ("initialize", "run", "finalize")


@dataclass(frozen=True)
class Failure:
    """One key that cannot be resolved, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The result for one workflow: its files in merging order, and what fails."""

    files: tuple[Path, ...]
    resolved: int
    failures: tuple[Failure, ...]

    @property
    def title(self) -> str:
        """The workflow by the names of its files, such as "train.json + paper.json"."""
        return title_of(self.files)


def title_of(files: Sequence[Path]) -> str:
    """Return the names of a workflow's files, such as "train.json + paper.json"."""
    return " + ".join(file.name for file in files)


def check_bundle(
    bundle: Bundle,
    overlays: Sequence[Path] = (),
    overrides: Mapping[str, Any] | None = None,
    say: Callable[[str], object] | None = None,
) -> list[Report]:
    """Check the train, evaluate, inference and extract configurations of a bundle.

    A configuration that refers to ids that only `train.json` has is checked on top of it, as MONAI
    merges a list of files.

    Args:
        bundle: from `open_bundle`.
        overlays: files merged over `train.json` for one more workflow, such as `paper.json`.
        overrides: values by id, merged over every workflow that has the id; an unknown id is
            refused.
        say: called with the line of each workflow before it is checked, since large data sets are
            read then; None is silent.

    Returns:
        One report for each workflow.

    Raises:
        UsageError: if a file is missing or not a configuration, or an override has no such id.
    """
    workflows = [_with_base(bundle, file) for file in bundle.workflows()]
    if overlays:
        workflows.append((_train_file(bundle), *overlays))
    accepted = [accepted_by(_parse(f, bundle.metadata, None), overrides or {}) for f in workflows]
    for key in overrides or {}:
        if not any(key in given for given in accepted):
            raise UsageError(f"An override has no such id: no configuration knows {key!r}.")
    reports = []
    with _on_path(bundle.root):
        for files, given in zip(workflows, accepted, strict=True):
            if say:
                say(f"checking {title_of(files)}")
            reports.append(check_workflow(files, bundle.metadata, given))
    return reports


def check_workflow(
    files: Sequence[Path], metadata: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Report:
    """Resolve each id of the merged files, instantiating every component and expression.

    The keys `initialize`, `run` and `finalize` are not executed: only their syntax and their ids
    are checked. Everything else is built and has its usual effects.

    Args:
        files: configuration files; later ones override earlier ones.
        metadata: the bundle's metadata, which ids can refer to; ignored if it does not exist.
        overrides: values by id, merged last.

    Returns:
        The report. A key that only depends on a failing one is not listed.
    """
    parser = _parse(files, metadata, overrides)
    checker = _Checker(parser, files[0].parent)
    for key in list(parser.ref_resolver.items):
        if key and not key.startswith("_meta_"):
            checker.visit(key)
    return Report(tuple(files), len(checker.good), tuple(checker.failures))


class _IncompleteError(UsageError):
    """A file that changes keys of another one, read without it."""


class _Checker:
    """Depth first over the references, so that the first failure is the one to mend."""

    def __init__(self, parser: ConfigParser, folder: Path) -> None:
        self.parser = parser
        # `config_folder` reads it, as from MONAI's own workflow.
        self.config_root_path = folder
        self.items = parser.ref_resolver.items
        # Read before anything is resolved: resolving replaces an item's references by objects.
        self.references = {
            key: list(parser.ref_resolver.find_refs_in_config(item.get_config(), key))
            for key, item in self.items.items()
        }
        self.good: set[str] = set()
        self.bad: set[str] = set()
        self.open: list[str] = []
        self.failures: list[Failure] = []

    def visit(self, key: str) -> bool:
        """Resolve `key` after its references; return whether that worked."""
        if key in self.good:
            return True
        if key in self.bad:
            return False
        if key in self.open:
            circle = " -> ".join([*self.open[self.open.index(key) :], key])
            return self._fail(key, f"refers to itself: {circle}; break the circle.")
        self.open.append(key)
        try:
            found = [self._reference(key, wanted) for wanted in self.references[key]]
            return self._resolve(key) if all(found) else self._blocked(key)
        finally:
            self.open.pop()

    def _reference(self, key: str, wanted: str) -> bool:
        if wanted in self.items:
            return self.visit(wanted)
        # A dictionary or list only passes on the references of its texts.
        if isinstance(self.items[key].get_config(), str):
            hint = near_name(wanted, self.items)
            self._fail(key, f"refers to @{wanted}, which does not exist{hint}.")
        return False

    def _resolve(self, key: str) -> bool:
        if key.split("::")[0] in LIFECYCLE:
            fault = compile_error(self.items[key].get_config())
            return self._fail(key, fault) if fault else self._pass(key)
        try:
            self.parser.get_parsed_content(key)
        except Exception as error:  # any error of a component is reported
            return self._fail(key, in_one_line(root_cause(error)))
        return self._pass(key)

    def _pass(self, key: str) -> bool:
        self.good.add(key)
        return True

    def _blocked(self, key: str) -> bool:
        self.bad.add(key)
        return False

    def _fail(self, key: str, reason: str) -> bool:
        if key not in self.bad:
            self.failures.append(Failure(key, reason))
        return self._blocked(key)


def _parse(
    files: Sequence[Path], metadata: Path | None, overrides: Mapping[str, Any] | None
) -> ConfigParser:
    from ppi_med.networks.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    names = ", ".join(str(file) for file in files)
    try:
        with warnings.catch_warnings():
            # MONAI warns and the last one wins, which is never intended.
            warnings.filterwarnings("error", message="Duplicate key")
            # An overlay read alone; its base has the entry.
            warnings.filterwarnings("ignore", message="Can't merge entry")
            parser.read_config([str(file) for file in files])
            if metadata is not None and metadata.is_file():
                parser.read_meta(str(metadata))
    except KeyError as error:
        raise _IncompleteError(f"{names}: changes a key that no file has: {error}") from error
    except (ValueError, OSError, UserWarning) as error:
        raise UsageError(f"{names}: cannot be read as a configuration: {error}") from error
    try:
        parser.update(dict(overrides or {}))
    except (KeyError, ValueError) as error:
        raise UsageError(f"{names}: an override has no such id: {error}") from error
    try:
        parser.parse(reset=True)
    except (KeyError, ValueError, OSError) as error:
        raise UsageError(f"{names}: a macro (%...) cannot be replaced: {error}") from error
    return parser


def _with_base(bundle: Bundle, file: Path) -> tuple[Path, ...]:
    """Return the file alone if it is complete, else on top of `train.json` if that helps."""
    if file.stem == "train":
        return (file,)
    train = next((f for f in bundle.workflows() if f.stem == "train"), None)
    try:
        missing = missing_references(_parse([file], bundle.metadata, None))
    except _IncompleteError:
        if train is None:
            raise
        return (train, file)
    if train is None or not missing:
        return (file,)
    remaining = missing_references(_parse([train, file], bundle.metadata, None))
    return (train, file) if len(remaining) < len(missing) else (file,)


def _train_file(bundle: Bundle) -> Path:
    for file in bundle.workflows():
        if file.stem == "train":
            return file
    raise UsageError(f"{bundle.config_folder} has no train configuration to lay the overlay on.")


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """Put the bundle's folder on the path, as MONAI does before it runs one."""
    entry = str(folder.resolve())
    sys.path.insert(1, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


_REFERENCE = re.compile(r"@\w*(?:(?:::|#)\w*)*")


def missing_references(parser: ConfigParser) -> set[str]:
    """Return the ids that a parsed configuration refers to but does not have."""
    resolver = parser.ref_resolver
    wanted: set[str] = set()
    for key, item in resolver.items.items():
        wanted.update(resolver.find_refs_in_config(item.get_config(), key))
    return wanted - set(resolver.items)


def accepted_by(parser: ConfigParser, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides that fit a configuration.

    A top key must exist or be referred to; a nested key needs its outer key.

    Args:
        parser: parser of the configuration.
        overrides: values by id, separated by `#` or `::`.
    """
    known = set(parser.get()) | missing_references(parser)
    accepted = {}
    for key, value in overrides.items():
        *outer, _ = re.split("#|::", key)
        if key in known if not outer else parser.get("::".join(outer)) is not None:
            accepted[key] = value
    return accepted


def near_name(wanted: str, names: Iterable[str]) -> str:
    """Return a hint at the nearest id, or an empty string.

    Examples:
        >>> near_name("netwrok", ["network", "loss"])
        '; did you mean @network'
        >>> near_name("netwrok", [])
        ''
    """
    close = difflib.get_close_matches(wanted, list(names), n=1)
    return f"; did you mean @{close[0]}" if close else ""


def compile_error(value: Any) -> str | None:
    """Return the fault in the syntax of an expression ("$..."), or None.

    Other values have no syntax and are accepted.

    Examples:
        >>> compile_error("$@train::trainer.run()")
        >>> compile_error("$@train::trainer.run(")
        "is no valid Python: '(' was never closed"
    """
    if not isinstance(value, str) or not value.startswith("$"):
        return None
    code = _REFERENCE.sub("reference", value[1:]).strip()
    try:
        # MONAI executes imports and evaluates all others.
        ast.parse(code, mode="exec" if code.startswith(("import ", "from ")) else "eval")
    except SyntaxError as error:
        return f"is no valid Python: {error.msg}"
    return None
