"""The state of the terms: resume through a file, seeds, what another configuration refuses."""

from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import (
    AdaptiveMask,
    BalancedWeight,
    ComplementMask,
    PPITerms,
    RandomPlace,
    SoftMask,
    WarmUpWeight,
)
from tests.intervention.stepping import make_batch, make_network, step


def make_stateful():
    return PPITerms(
        mask=RandomPlace(SoftMask(), seed=1),
        mask_prime=AdaptiveMask(),
        fill="exchange",
        pairing="shared",
        alternate=True,
        con_weight=WarmUpWeight(BalancedWeight(), 5, "iteration"),
        ad_weight=BalancedWeight(1.0),
        seed=4,
    )


def test_resume_is_bitwise_through_a_file(tmp_path):
    network = make_network(2, 1)

    def run(terms, steps):
        results = []
        for i in steps:
            label = torch.tensor([0, 1, 1, 0])
            cls_loss = 0.5 + 0.01 * i
            _, result = step(terms, network, make_batch(4, 2, i), label, None, cls_loss, 1, i)
            results.append(result.total.detach())
        return results

    whole = run(make_stateful(), range(1, 9))
    first, second = make_stateful(), make_stateful()
    run(first, range(1, 6))
    torch.save(first.state_dict(), tmp_path / "terms.pt")
    second.load_state_dict(torch.load(tmp_path / "terms.pt", weights_only=True))
    for a, b in zip(run(second, range(6, 9)), whole[5:], strict=True):
        assert torch.equal(a, b)
    fresh = run(make_stateful(), range(6, 9))
    assert not all(torch.equal(a, b) for a, b in zip(fresh, whole[5:], strict=True))


def test_state_of_another_pairing_is_refused():
    with pytest.raises(ValueError, match="resume with the `pairing` of the saved run"):
        PPITerms().load_state_dict(PPITerms(pairing="shared").state_dict())


MIXED = {
    "weight gained": (
        lambda: PPITerms(ad_weight=BalancedWeight()),
        PPITerms,
        "weights.ad",
    ),
    "weight lost": (
        PPITerms,
        lambda: PPITerms(con_weight=WarmUpWeight(BalancedWeight(), 5)),
        "weights.con",
    ),
    "mask gained": (lambda: PPITerms(RandomPlace(SoftMask())), PPITerms, "mask"),
    "mask lost": (PPITerms, lambda: PPITerms(mask_prime=RandomPlace(SoftMask())), "mask_prime"),
    "inner mask": (
        lambda: PPITerms(RandomPlace(SoftMask())),
        lambda: PPITerms(RandomPlace(RandomPlace(SoftMask()))),
        "mask.mask",
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_state_of_another_configuration_is_refused_before_anything_is_set(name):
    here, saved, where = MIXED[name]
    state = {**saved().state_dict(), "steps": 7}
    terms = here()
    with pytest.raises(ValueError, match=rf"its {where} do not fit: resume with"):
        terms.load_state_dict(state)
    assert terms.steps == 0


def test_reseed():
    image, label = make_batch(8, 2), torch.arange(8) % 2
    one, two, three = PPITerms(seed=1), PPITerms(seed=2), PPITerms(seed=2)
    two.reseed(1)
    batches = [t.contrast_images(image, image, label, 1).batch for t in (one, two, three)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def images(terms, seed=0):
    image, label = make_batch(8, 2, seed), torch.arange(8) % 2
    return terms.contrast_images(image, image, label, 1).batch


def test_processes_draw_their_own_also_from_the_state_of_the_first():
    def make():
        return PPITerms(RandomPlace(SoftMask(), seed=1), ComplementMask(SoftMask()), seed=4)

    alone, ranks = make(), [make() for _ in range(3)]
    for _ in range(2):  # the second time after a resume
        for rank, terms in enumerate(ranks):
            terms.separate(rank)
        expected, found = images(alone), [images(terms) for terms in ranks]
        assert torch.equal(found[0], expected)
        assert not any(torch.equal(found[i], found[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        for terms in ranks:
            terms.load_state_dict(ranks[0].state_dict())


def test_the_mask_of_the_shared_place_is_drawn_alike():
    def make():
        return PPITerms(
            RandomPlace(SoftMask(), seed=1), RandomPlace(SoftMask(), seed=2), pairing="shared"
        )

    parts = []
    for rank in range(2):
        terms = make()
        terms.separate(rank)
        image = make_batch(8, 2, 0)
        parts.append(terms.contrast_images(image, image, torch.arange(8) % 2, 1).parts)
    assert torch.equal(parts[0]["ad"].mask, parts[1]["ad"].mask)
    assert not torch.equal(parts[0]["con"].mask, parts[1]["con"].mask)
