"""The names of metrics, loss terms and run tags, each written here once.

A name says what is measured and on which part; `direction` says which way is better.

Examples:
    >>> metric("val", AUC)
    'val/auc'
    >>> direction("test/auc")
    1
    >>> direction(LOSS_TOTAL)
    -1
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final, Literal

Part = Literal["train", "val", "test"]

AUC: Final = "auc"
ACCURACY: Final = "accuracy"

TRAIN_AUC: Final = "train/auc"
VAL_AUC: Final = "val/auc"
VAL_ACCURACY: Final = "val/accuracy"
VAL_LOSS: Final = "val/loss"
TEST_AUC: Final = "test/auc"
TEST_ACCURACY: Final = "test/accuracy"
# Means over the sites that were trained on, and over the others.
SAME_SITE: Final = "test/auc_same_site"
OTHER_SITES: Final = "test/auc_other_sites"
# On the validation cases, of the weights that were tested.
SELECTED: Final = "val/auc_selected"
TEST_UNLIKE: Final = "test/unlike"
"""Share of the test cases that are unlike those of the training."""

LOSS_CLS: Final = "loss/cls"
LOSS_CON: Final = "loss/con"
LOSS_AD: Final = "loss/ad"
LOSS_REG: Final = "loss/reg"
LOSS_TOTAL: Final = "loss/total"
LOSSES: Final = (LOSS_CLS, LOSS_CON, LOSS_AD, LOSS_REG, LOSS_TOTAL)

SEG_DICE_UNION: Final = "seg/dice_union"

TAG_BUNDLE: Final = "bundle"
TAG_METHOD: Final = "method"
TAG_MASK: Final = "mask"
TAG_TRAIN_SITE: Final = "train_site"
TAG_TEST_SITE: Final = "test_site"
TAG_FOLD: Final = "fold"
TAG_SEED: Final = "seed"
TAG_DATA_HASH: Final = "data_hash"
TAG_SPLIT_HASH: Final = "split_hash"
TAG_GIT_COMMIT: Final = "git_commit"
TAG_COMMAND: Final = "command"
"""What repeats the run, as typed in a shell."""
PARENT: Final = "mlflow.parentRunId"
TAGS: Final = (
    TAG_BUNDLE,
    TAG_METHOD,
    TAG_MASK,
    TAG_TRAIN_SITE,
    TAG_TEST_SITE,
    TAG_FOLD,
    TAG_SEED,
    TAG_DATA_HASH,
    TAG_SPLIT_HASH,
    TAG_GIT_COMMIT,
)


def metric(part: Part, name: str) -> str:
    """Return the full name of a metric: the part of the data, then the measure.

    Args:
        part: "train", "val" or "test".
        name: the measure, such as `AUC`.
    """
    return f"{part}/{name}"


def distinct(name: str, refused: str, longest: int) -> str:
    r"""Return a name without refused characters; different names stay different.

    Letters of any script stay. A changed name ends in a hash of the original, so that two sites, or
    two files, never get the same name.

    Args:
        name: name of a site, a case, a measure.
        refused: pattern of the characters that are not allowed.
        longest: largest number of characters.

    Examples:
        >>> distinct("Köln", r"[^\w]", 250)
        'Köln'
        >>> distinct("a/b", r"[^\w]", 250), distinct("a:b", r"[^\w]", 250)
        ('a_b_c14cddc0', 'a_b_6783a31e')
    """
    kept = re.sub(refused, "_", unicodedata.normalize("NFC", name))
    if kept == name and 0 < len(name) <= longest:
        return name
    return _marked(kept, name, longest)


def _marked(kept: str, name: str, longest: int) -> str:
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept[: longest - 9]}_{mark}"


def direction(name: str) -> Literal[1, -1]:
    """Return 1 where a larger value of the metric is better, -1 where a smaller one is.

    Args:
        name: full name, such as `VAL_AUC`; losses (`loss/...` and `.../loss`), errors of
            calibration (`.../brier`, `.../ece`) and distances (`seg/hd95_mm/...`) are
            minimised.

    Examples:
        >>> direction("seg/hd95_mm/centred/WBP"), direction("seg/dice_union/centred/WBP")
        (-1, 1)
    """
    parts = name.split("/")
    distance = any(part.startswith("hd95") for part in parts)
    return -1 if distance or {"loss", "brier", "ece", "unlike"} & set(parts) else 1
