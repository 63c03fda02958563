"""A configuration as parameters: flat names and short values."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ppi_med.bundle_tools.root import running_parser
from ppi_med.errors import UsageError
from ppi_med.naming import TAG_DATA_HASH, TAG_METHOD, TAGS, distinct
from ppi_med.tracking.environment import import_mlflow

PREDICTIONS = "predictions"
"""Context of the data set that holds a run's predictions on held-out cases."""
_NAME = "test_predictions"
# The longest profile that MLflow accepts.
_LONGEST = 16_000_000


def described_predictions(text: str) -> dict[str, Any]:
    """Return predictions as MLflow's description of a data set.

    MLflow describes a data set by a profile, a JSON text in its database: tables can be made of it
    without artifacts.

    Raises:
        UsageError: if the text is too long for one record.
    """
    if len(text) > _LONGEST:
        raise UsageError(
            f"The predictions are too many for a run's record ({len(text)} characters, at most "
            f"{_LONGEST}): test on fewer cases."
        )
    return {
        "name": _NAME,
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "source_type": "code",
        "source": json.dumps({"tags": {"mlflow.source.name": _NAME}}),
        "schema": None,
        "profile": text,
    }


def describe(name: str, rows: Iterable[Mapping[str, Any]], source: str = "") -> dict[str, Any]:
    """Return MLflow's description of a table: columns, number of rows and a digest of them.

    The rows themselves are not kept.

    Args:
        name: name of the data set.
        rows: one per case; the columns are the keys of all rows.
        source: their source.

    Raises:
        ValueError: if there are no rows.
    """
    import pandas

    import_mlflow()
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.pandas_dataset import PandasDataset

    table = pandas.DataFrame([dict(row) for row in rows])
    if table.empty:
        raise ValueError(f"The data set {name!r} has no rows, expected one for each case.")
    with warnings.catch_warnings():
        # It warns of missing values in whole numbers, but labels have none.
        warnings.simplefilter("ignore")
        found: dict[str, Any] = PandasDataset(
            table, CodeDatasetSource({"mlflow.source.name": source}), name=name
        ).to_dict()
    return found


LONGEST = 500
MOST = 40
"""Parameters of a run."""
_TOLD = TAGS[TAGS.index(TAG_METHOD) : TAGS.index(TAG_DATA_HASH)]
# Places and names, and what the tags say.
_OF_ONE_RUN = re.compile(
    r"\w+_(root|dir|sites|hash|from)|workspace|datalist|checkpoint\w*|run_name|experiment|"
    r"tracking_uri|register_model|resume|(test_)?fold|sites|num_workers|cache_rate"
)
_SHOWN = 200
_LONGEST_NAME = 250
_SCALARS = (str, int, float, bool, type(None))


def parameters(
    config: Mapping[str, Any], tags: Mapping[str, Any], first: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what tells experiments apart, at most 40 of it: a table of more compares nothing.

    Args:
        config: the configuration. Of it are taken the options of the method, the network, and the
            numbers, texts and lists of numbers on top; not places and names of this run.
        tags: of the run; of these method, mask, sites, fold and seed.
        first: further parameters, which come first.

    Examples:
        >>> config = {"lr": 0.1, "output_dir": "x", "method_options": {"share": 0.2}, "load": [{}]}
        >>> parameters(config, {"method": "plain"})
        {'method': 'plain', 'method_options.share': 0.2, 'lr': 0.1}
    """
    found = {**(first or {}), **{name: tags[name] for name in _TOLD if name in tags}}
    for section in ("method_options", "network_def"):
        found |= {n: v for n, v in _values(config.get(section), section) if _is_compared(v)}
    found |= {n: v for n, v in config.items() if not _OF_ONE_RUN.fullmatch(n) and _is_compared(v)}
    known = {name: value for name, value in found.items() if value is not None}
    return dict(list(known.items())[:MOST])


def _values(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by dotted names; a list is one value."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _values(inner, f"{name}.{key}")


def _is_compared(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, (int, float)) for item in value)
    return _is_simple(value) and str(value)[:1] not in ("$", "@")


def shorten(value: Any) -> str:
    """Return the value as text; longer than 500 characters, its first 200 and its hash.

    Equal texts give equal results and different ones different results, so that runs can still be
    compared; the whole text is in the configuration that is kept as an artifact.

    Examples:
        >>> shorten(0.1)
        '0.1'
        >>> len(shorten("x" * 1000)) < 300
        True
    """
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:_SHOWN]}... ({len(text)} characters, sha256 {digest})"


def safe_name(name: str) -> str:
    """Return a name that MLflow accepts: the name itself, or else a unique one.

    MLflow accepts letters of any script and refuses paths that lead elsewhere.

    Examples:
        >>> safe_name("test/auc/Köln")
        'test/auc/Köln'
        >>> safe_name("test/auc/a#b") == safe_name("test/auc/a$b")
        False
    """
    path = posixpath.normpath(name)
    refused = r"[^\w\-. :/]"
    if path != name or path.startswith(("..", "/")) or path == ".":
        refused = r"[^\w\-:]"
    return distinct(name, refused, _LONGEST_NAME)


def read_config(source: Mapping[str, Any] | str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the configuration to record.

    Args:
        source: a mapping; a JSON file; None: that of the MONAI bundle that is running, if any.

    Raises:
        ValueError: if the file is not a JSON object, naming it.
    """
    if source is None:
        return bundle_config() or {}
    if isinstance(source, Mapping):
        return dict(source)
    try:
        found = json.loads(Path(source).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{source} is not JSON ({error}), expected a configuration.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{source} holds a {type(found).__name__}, expected a JSON object.")
    return found


def bundle_config() -> dict[str, Any] | None:
    """Return the configuration of the MONAI bundle that is running, with what it has resolved.

    Overrides and macros are in it; references and expressions with a number, text, truth value or
    list of such as result are replaced by it, the others stay as written. Components have no access
    to the parser that makes them, so it is found among the callers.

    Returns:
        None where no bundle is running.
    """
    parser = running_parser()
    if parser is None:
        return None
    config = {name: value for name, value in parser.get().items() if name != parser.meta_key}
    found: dict[str, Any] = _resolved(config, "", parser.ref_resolver.resolved_content)
    return found


def _resolved(value: Any, name: str, known: Mapping[str, Any]) -> Any:
    def inner(key: Any) -> str:
        return f"{name}::{key}" if name else str(key)

    if isinstance(value, Mapping):
        return {str(k): _resolved(v, inner(k), known) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(v, inner(i), known) for i, v in enumerate(value)]
    if isinstance(value, str) and value[:1] in ("$", "@"):
        found = known.get(name, known.get(value[1:]) if value[0] == "@" else None)
        return found if found is not None and _is_simple(found) else value
    return value if _is_simple(value) else str(value)


def _is_simple(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_simple(item) for item in value)
    return isinstance(value, _SCALARS)
