"""The checks of a bundle before it starts, so that a wrong key or value costs only seconds.

One of the first expressions of `initialize` is `"$explain_errors(...)"`: whatever ends the run
from then on, the last line of the output says in one sentence what was wrong.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ppi_med.bundle_tools.installed import CONFIG_SUFFIXES
from ppi_med.bundle_tools.root import running_parser
from ppi_med.data.datalist import require_kind
from ppi_med.errors import SYSTEM_ERRORS, UsageError, plain_words
from ppi_med.naming import TAG_DATA_HASH, TAG_SPLIT_HASH

# MONAI's own keys: what it runs, and what it adds.
_ENTRIES = {"imports", "initialize", "run", "finalize", "_meta_", "save_execute_config"}

logger = logging.getLogger(__name__)


def explain_errors(name: str) -> None:
    """Explain in the last line of the output what ended the run.

    An error that the user or the machine's owner can correct (a `UsageError`, a full or read-only
    disk, no memory, a damaged database) is only that line, with exit status 2. Any other error has
    its traceback first, which MONAI's own frames make long, and exit status 1. After Ctrl-C the
    line says how to go on, and the status is 130.

    Args:
        name: prefix of the line, such as the bundle's name.
    """
    before = sys.excepthook
    if getattr(before, "explains", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            print(f"{name}: stopped. A training goes on with --resume true.", file=sys.stderr)
            raise SystemExit(130)
        cause = root_cause(error)
        expected = isinstance(cause, (UsageError, *SYSTEM_ERRORS))
        if not expected:
            before(kind, error, trace)
        if isinstance(error, Exception):
            print(f"{name}: {in_one_line(cause)}", file=sys.stderr)
        if expected:
            # Inside the hook it becomes the exit status; exit handlers still run.
            raise SystemExit(2)

    hook.explains = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost error, or the outermost one in plain words.

    MONAI wraps what a component raised, once for each level.
    """
    while error.__cause__ is not None and not isinstance(error, UsageError):
        error = error.__cause__
    return error


def in_one_line(error: BaseException) -> str:
    """Return an error's message as one line, with its kind if the message needs it.

    Examples:
        >>> in_one_line(UsageError("fold is 7, expected 0 to 4."))
        'fold is 7, expected 0 to 4.'
        >>> in_one_line(KeyError("label"))
        "KeyError: 'label'"
    """
    if isinstance(error, SYSTEM_ERRORS):
        return plain_words(error)
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, UsageError) else f"{type(error).__name__}: {text}"


def refuse_unknown_keys(bundle_root: str | os.PathLike[str]) -> None:
    """Refuse an unknown key of the running configuration: a misspelt override.

    MONAI accepts `--max_epoch 3` and trains as long as `max_epochs` says. A key is known if a
    configuration of the bundle has it, or another key refers to it. The text `false` is refused
    too: MONAI's command line knows `False`, and every other text counts as true.

    Args:
        bundle_root: the bundle's folder.

    Raises:
        UsageError: naming the key and the nearest known one, or the right value.
    """
    parser = running_parser()
    if parser is None:
        return
    for key, value in parser.get().items():
        if isinstance(value, str) and value.lower() == "false":
            raise UsageError(f"{key} is the text {value!r}, which counts as yes: write False.")
    keys = set(parser.get()) - _ENTRIES
    known = _keys_of_bundle(Path(bundle_root))
    for key in sorted(keys - known):
        if not _referred_to(key, parser.get()):
            close = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"did you mean {close[0]}?" if close else "docs/README.md lists the keys."
            raise UsageError(f"There is no key {key!r} in this bundle: {hint}")


def require_as_trained(trained: Mapping[str, Any], **asked: Any) -> None:
    """Refuse weights for images of another size than in training; nothing else checks this.

    Args:
        trained: the entry `trained` of the JSON file beside the weights; missing values, as in
            older files, are not checked.
        asked: values of the running configuration by key; None is not checked.

    Raises:
        UsageError: if one differs; it names the key and the value of the training.

    Examples:
        >>> require_as_trained({"image_size": [64, 80]}, image_size=(64, 80), field_mm=32.0)
    """
    for key, value in asked.items():
        wanted = trained.get(key)
        plain = list(value) if isinstance(value, tuple) else value
        if None not in (wanted, plain) and plain != wanted:
            raise UsageError(
                f"The weights were trained with {key} {wanted}, and {plain} is asked for: give "
                f"--{key} '{wanted}'."
            )


def require_image_size(image_size: Any) -> None:
    """Refuse an impossible size of B-scans.

    Args:
        image_size: (depth, width) in pixels, or None for each volume's own.

    Raises:
        UsageError: if it is something else.
    """
    pair = isinstance(image_size, (list, tuple)) and len(image_size) == 2
    if image_size is not None and not (
        pair and all(isinstance(size, int) and size > 0 for size in image_size)
    ):
        raise UsageError(
            f"image_size is {image_size!r}, expected [depth, width] in pixels, such as [64, 80]."
        )


def require_dataset(datalist: str | os.PathLike[str]) -> None:
    """Refuse to start without a data set, naming the command that makes one.

    Args:
        datalist: the data set's `datalist.json`.

    Raises:
        UsageError: if the file does not exist, or the data set is of another kind.
    """
    path = Path(datalist)
    if path.is_file():
        require_kind(path, "volumes of OCT")
        return
    folder = os.path.normpath(path.parent)
    raise UsageError(
        f"There is no data set in {folder} (no {path.name}): make the phantom with "
        f"`ppi-med make-phantom oct --output {folder}`, or name the folder of your own converted "
        "volumes with --dataset_dir."
    )


def require_parts(
    parts: Mapping[str, Sequence[Mapping[str, Any]]],
    batch_size: int = 1,
    processes: int = 1,
    noun: str = "volume",
) -> None:
    """Refuse parts of a data set that a training or its AUC cannot use, and print what is used.

    Args:
        parts: cases by part, such as {"training": [...], "validation": [...]}.
        batch_size: batch size of the training, which leaves an incomplete last batch out.
        processes: number of processes that share the training's cases.
        noun: what a case is.

    Raises:
        UsageError: if a label is neither 0 nor 1, a part has only one class, or the training less
            than one batch.
    """
    for part, cases in parts.items():
        labels = set(class_labels(part, [case for case in cases if "label" in case], 2))
        if not labels >= {0, 1}:
            raise UsageError(
                f"The part {part} has {_number(len(cases), noun)}, all of label {_only(labels)}, "
                f"expected both 0 and 1: choose other sites or another fold, or label more {noun}s."
            )
        if part == "training" and len(cases) < batch_size * processes:
            raise UsageError(
                f"The part {part} has {_number(len(cases), noun)}, expected at least one batch of "
                f"{batch_size}{f' for each of {processes} processes' if processes > 1 else ''}: "
                "give a smaller --batch_size."
            )
    logger.info("%s", "; ".join(_line(part, cases, noun) for part, cases in parts.items()))


def class_labels(part: str, cases: Sequence[Mapping[str, Any]], classes: int) -> list[int]:
    """Return the class of each case.

    Raises:
        UsageError: for a label that is no class: a text, NaN, a fraction, a number out of range.
    """
    for case in cases:
        if (label := case.get("label")) not in range(classes):
            what = f"the label {label!r} ({case.get('volume_id', 'unnamed')})"
            raise UsageError(
                f"The part {part} has {what}, expected a number from 0 to {classes - 1}."
            )
    return [int(case["label"]) for case in cases]


def _keys_of_bundle(root: Path) -> set[str]:
    """Return the keys of all readable configurations of the bundle."""
    from monai.bundle import ConfigParser

    known: set[str] = set()
    for folder in (root, root / "configs"):
        for file in sorted(folder.glob("*")) if folder.is_dir() else []:
            if file.suffix.lower() in CONFIG_SUFFIXES and file.name != "metadata.json":
                known |= {_top(key) for key in ConfigParser.load_config_file(str(file))}
    return known


def _top(key: str) -> str:
    return re.split("#|::", key.removeprefix("+"))[0]


def _referred_to(key: str, config: Any) -> bool:
    wanted = re.compile(rf"[@%]{re.escape(key)}\b")
    return any(wanted.search(text) for text in _texts(config))


def _texts(config: Any) -> Iterable[str]:
    if isinstance(config, Mapping):
        for value in config.values():
            yield from _texts(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _texts(value)
    elif isinstance(config, str):
        yield config


def _line(part: str, cases: Sequence[Mapping[str, Any]], noun: str) -> str:
    positive = sum(int(case["label"]) for case in cases)
    subjects = len({case.get("subject") or f"case {n}" for n, case in enumerate(cases)})
    number = _number(len(cases), noun)
    return f"{part}: {number} of {_number(subjects, 'subject')}, {positive} positive"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _only(labels: set[int]) -> str:
    return " and ".join(map(str, sorted(labels))) or "none"


Choice = tuple[int | None, int | None]
"""`fold` and `test_fold`, one of them at most."""


def require_folds_of_training(
    trained: Mapping[str, Any],
    hashes: Mapping[str, Any],
    *,
    part: str = "test",
    fold: int | None = None,
    test_fold: int | None = None,
    option: str = "--test_fold",
) -> None:
    """Refuse to evaluate weights with other splits of the patients than in training.

    Weights without a record of their training, or from other data, only give a warning: it is
    unknown which patients they have seen. The part `training` is always allowed.

    Args:
        trained: the entry `trained` of the JSON file beside the weights. An older training has no
            `test_fold`; its `fold` may mean either.
        hashes: `data_hash` and `split_hash` of the data set.
        part: part of the data set, `test` or `validation`.
        fold: the requested fold.
        test_fold: the requested test fold.
        option: the command's name for `test_fold`.

    Raises:
        UsageError: naming the right fold.

    Examples:
        >>> hashes = {"data_hash": "d", "split_hash": "s"}
        >>> require_folds_of_training(hashes | {"fold": 2, "test_fold": 2}, hashes, test_fold=2)
    """
    names = (TAG_DATA_HASH, TAG_SPLIT_HASH)
    if part == "training":
        return
    if not any(trained.get(name) for name in names):
        logger.warning(
            "No model.json beside the weights says which patients they were trained on: this %s "
            "part may hold some of them.",
            part,
        )
        return
    if not any(trained.get(name) and trained[name] == hashes.get(name) for name in names):
        logger.warning(
            "The weights were trained on other data: whether this %s part holds patients that "
            "they were trained on is not known.",
            part,
        )
        return
    same_splits = trained.get(TAG_SPLIT_HASH) == hashes.get(TAG_SPLIT_HASH)
    if same_splits and _same_patients(trained, part, (fold, test_fold)):
        return
    if (fold, test_fold) in _choices(trained):
        raise UsageError(
            "The data set was split again after the weights were trained (their split_hash is "
            f"{trained.get(TAG_SPLIT_HASH)}, its own {hashes.get(TAG_SPLIT_HASH)}), so that this "
            f"{part} part may hold patients that they were trained on: put the splits.json of "
            "the training back, or train again."
        )
    raise UsageError(
        f"The weights were trained with {_words(_choices(trained), option)}, and this {part} part "
        f"is asked for with {_words([(fold, test_fold)], option)}: it may hold patients that they "
        f"were trained on. {_remedy(_choices(trained), option)}"
    )


def _choices(trained: Mapping[str, Any]) -> list[Choice]:
    """Return the choice that a training recorded, or the two possible ones."""
    noted = trained.get("fold")
    if "test_fold" in trained:
        crossed = trained["test_fold"]
        return [(noted if crossed is None else None, crossed)]
    return [(None, None)] if noted is None else [(None, noted), (noted, None)]


def _same_patients(trained: Mapping[str, Any], part: str, asked: Choice) -> bool:
    """Say whether a part of the same splits has no patient of the training."""
    if part == "test":
        # No fold trains on the splits' own test part.
        return asked[1] is None or any(asked[1] == crossed for _, crossed in _choices(trained))
    return asked in _choices(trained)


def _words(choices: list[Choice], option: str) -> str:
    if choices[0] == (None, None):
        return "no fold"
    named = [
        f"{option} {crossed}" if crossed is not None else f"--fold {fold}"
        for fold, crossed in choices
    ]
    return " or ".join(named)


def _remedy(choices: list[Choice], option: str) -> str:
    if choices[0] == (None, None):
        return f"Leave {option} and --fold out."
    return f"Give {_words(choices, option)}, as in training."
