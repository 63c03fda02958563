"""What a training says of a shortcut: one sentence, and JSON values that it is read from again."""

from __future__ import annotations

import json

import pytest
import torch

from ppi_med.errors import UsageError
from ppi_med.places import Account, EvenOutside, Neutral

MASK = torch.zeros(10, 10, dtype=torch.bool)
MASK[:2, :3] = True
EVEN = Neutral(even=EvenOutside(MASK, torch.zeros(1), torch.ones(1)))

SAID = {
    "Before training no shortcut was found (J_net 0.05); the training was plain. Too few.": Account(
        "none", j_net=0.05, caution="Too few."
    ),
    "Before training a shortcut was found at one place with 6.0 % of the image (J_net 0.94, "
    "J 0.97); each image was trained on beside a copy with another class's content there.": Account(
        "place", "place", j_net=0.94, j=(0.97,), mask=MASK
    ),
    "Before training a shortcut was found at 2 places with 6.0 % of the image (J_net 0.94, J 0.97, "
    "J 0.40); a coin said in each step whether images or copies with another class's content there "
    "were trained on.": Account(
        "place", "place", j_net=0.94, j=(0.97, 0.4), step="coin", mask=MASK
    ),
    "A place with 6.0 % of the image was given to the training; it is blanked, in training and "
    "here.": Account(None, "place", fill="blind", mask=MASK),
    "Before training a shortcut was found at one place (J_net 0.94, J 0.97); the training was "
    "plain.": Account("place", None, j_net=0.94, j=(0.97,)),
    "Before training a shortcut was found in the fine detail of the whole image (J_net 0.80); "
    "images are changed (smoothed by 2 pixels), in training and here.": Account(
        "texture", "neutral", j_net=0.8, neutral=Neutral(2.0)
    ),
    "Before training a shortcut was found at one place with 6.0 % of the image (J_net 0.94, "
    "J 0.97); each image was trained on beside a copy with another class's content there, all of "
    "them changed (brightness and contrast made alike), in training and here.": Account(
        "place", "place", j_net=0.94, j=(0.97,), mask=MASK, neutral=EVEN
    ),
    "A place with 6.0 % of the image was given to the training; it is blanked, in training and "
    "here (brightness and contrast made alike first).": Account(
        None, "place", fill="blind", mask=MASK, neutral=EVEN
    ),
    "Nothing was searched; each image was trained on beside a copy with another class's style.": (
        Account(None, "style")
    ),
}


@pytest.mark.parametrize(("sentence", "account"), SAID.items())
def test_a_sentence_and_the_same_after_json(sentence: str, account: Account) -> None:
    assert account.sentence == sentence
    again = Account.of(json.loads(json.dumps(account.facts())))
    assert again is not None and again.sentence == sentence
    assert again.share == account.share
    assert (again.mask is None) == (account.mask is None)
    if account.mask is not None:
        assert torch.equal(again.mask, account.mask)


def test_no_account_and_broken_ones() -> None:
    assert Account.of(None) is None and Account.of({}) is None
    for broken in (
        {"mask": {"shape": [2, 2], "bits": "***"}},
        {"kind": "place", "j": "x"},
        {"kind": "unheard of"},
        {"method": "place", "step": "thrice", "kind": "place"},
        {"neutral": {"sigma": "x"}},
        {"neutral": {**EVEN.facts(), "even": {**EVEN.facts()["even"], "mean": [0.0, 1.0]}}},
        [1],
    ):
        with pytest.raises(UsageError, match="copy both files again"):
            Account.of(broken)
