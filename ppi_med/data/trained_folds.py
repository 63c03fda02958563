"""Whether weights would be judged on patients that they were trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ppi_med.errors import UsageError
from ppi_med.naming import TAG_DATA_HASH, TAG_SPLIT_HASH

Choice = tuple[int | None, int | None]
"""`fold` and `test_fold`, one of them at most."""

logger = logging.getLogger(__name__)


def require_folds_of_training(
    trained: Mapping[str, Any],
    hashes: Mapping[str, Any],
    *,
    part: str = "test",
    fold: int | None = None,
    test_fold: int | None = None,
    option: str = "--test_fold",
) -> None:
    """Refuse to judge weights on another parting of the patients than the one they come from.

    Weights that say nothing of their training, or come from other data, are only warned of: whose
    patients they have seen is not known. The part `training` may always be asked for.

    Args:
        trained: what the JSON file beside the weights says under `trained`. That of an older
            training has no `test_fold`; its `fold` is either.
        hashes: `data_hash` and `split_hash` of the data set.
        part: of it, `test` or `validation`.
        fold: asked for.
        test_fold: asked for.
        option: how the command spells `test_fold`.

    Raises:
        UsageError: naming the fold to ask for.

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
            "The data set was parted anew after the weights were trained (their split_hash is "
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
    """Return the choice that a training noted, or the two that it may have been."""
    noted = trained.get("fold")
    if "test_fold" in trained:
        crossed = trained["test_fold"]
        return [(noted if crossed is None else None, crossed)]
    return [(None, None)] if noted is None else [(None, noted), (noted, None)]


def _same_patients(trained: Mapping[str, Any], part: str, asked: Choice) -> bool:
    """Tell whether a part of the same splits holds nobody that was trained on."""
    if part == "test":
        # The splits' own test part is nobody's training part, whatever the fold.
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
