from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import draw_partners

BATCHES = [
    [0, 1],
    [0, 0, 0, 1],
    [0, 1, 0, 1, 0, 1, 1],
    [2, 0, 1, 2, 0, 1, 1, 5],
    [1, 1, 1, 1],
    [0],
    list(range(6)),
]


def check_slowly(kind, classes, partner):
    """The stated rule, sample by sample."""
    size = len(classes)
    for i, j in enumerate(partner):
        others = [o for o in range(size) if o != i]
        if kind == "same_class":
            wanted = [o for o in others if classes[o] == classes[i]]
        elif kind == "other_class":
            wanted = [o for o in others if classes[o] != classes[i]]
        else:
            wanted = others
        assert j in (wanted or others or [i])


@pytest.mark.parametrize("classes", BATCHES, ids=str)
@pytest.mark.parametrize("kind", ["any", "same_class", "other_class"])
def test_rule_holds_for_every_sample(kind, classes):
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        partner = draw_partners(kind, len(classes), generator, torch.tensor(classes))
        assert partner.dtype == torch.int64
        check_slowly(kind, classes, partner.tolist())


def test_same_class_is_a_permutation_where_every_class_has_two():
    classes = torch.tensor([0, 1, 0, 1, 2, 2, 2])
    partner = draw_partners("same_class", 7, torch.Generator().manual_seed(0), classes)
    assert sorted(partner.tolist()) == list(range(7))


@pytest.mark.parametrize("kind", ["any", "same_class", "other_class"])
def test_every_wanted_partner_is_drawn_about_equally_often(kind):
    classes = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([draw_partners(kind, 7, generator, classes) for _ in range(3000)])
    counts = torch.bincount(draws[:, 0], minlength=7).double() / 3000
    wanted = {"any": range(1, 7), "same_class": range(1, 4), "other_class": range(4, 7)}[kind]
    for j in range(7):
        expected = 1 / len(wanted) if j in wanted else 0.0
        assert float(counts[j]) == pytest.approx(expected, abs=0.04)


def test_reproducible():
    classes = torch.tensor([0, 1, 1, 0, 1])
    for kind in ("any", "same_class", "other_class"):
        one, two = (
            draw_partners(kind, 5, torch.Generator().manual_seed(9), classes) for _ in range(2)
        )
        assert torch.equal(one, two)


def test_wrong_arguments():
    generator = torch.Generator()
    with pytest.raises(ValueError, match="pairing='opposite' is unknown"):
        draw_partners("opposite", 3, generator)
    with pytest.raises(ValueError, match="needs the class of each of 3 samples, got None"):
        draw_partners("same_class", 3, generator)
    with pytest.raises(ValueError, match=r"got \(2,\)"):
        draw_partners("other_class", 3, generator, torch.tensor([0, 1]))
