"""Where the mask of x' comes from: a shared place, a batch of one, an own mask; what x* spares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppi_med.intervention import (
    AdaptiveMask,
    BoxMask,
    ComplementMask,
    PPITerms,
    SharedPlace,
    SoftMask,
    TopKMask,
    draw_partners,
)
from tests.intervention.stepping import (
    BATCHES_OF_ONE,
    SMOOTH,
    make_batch,
    make_network,
    saliency_of,
    step,
)


def test_shared_place_is_one_mask_for_all_slices_of_all_volumes():
    network, image = make_network(3, 1), make_batch(4, 3)
    place = SharedPlace(axes=(0, 2))
    terms = PPITerms(pairing=place, fill="exchange", mask_prime=BoxMask())
    contrasts, _ = step(terms, network, image, torch.tensor([0, 1, 1, 0]))
    assert contrasts.parts["ad"].mask.shape == (1, 1, 1, 6, 4)
    assert contrasts.parts["con"].mask.shape == (4, 1, 5, 6, 4)
    assert contrasts.parts["ad"].image.shape == image.shape


@pytest.mark.parametrize("fill", ["zero", "mean", "blur", "exchange"])
@pytest.mark.parametrize("pairing", BATCHES_OF_ONE)
def test_batch_of_one_masks_a_random_place_of_the_same_area(pairing, fill):
    network, image = make_network(2, 1), make_batch(1, 2)
    terms = PPITerms(fill=fill, pairing=pairing)
    contrasts, result = step(terms, network, image, torch.tensor([1]))
    own, moved = (contrasts.parts[name].mask.flatten() for name in ("con", "ad"))
    assert torch.allclose(own.sort().values, moved.sort().values)
    assert not torch.equal(own, moved)
    assert (contrasts.parts["con"].image != image).any()
    assert result.total.isfinite()


def test_batch_of_one_uses_the_running_shared_place_once_there_is_one():
    network = make_network(2, 1)
    place = SharedPlace()
    terms = PPITerms(pairing=place)
    step(terms, network, make_batch(4, 2), torch.tensor([0, 1, 1, 0]))
    contrasts, _ = step(terms, network, make_batch(1, 2, seed=5), torch.tensor([1]))
    assert torch.equal(contrasts.parts["ad"].mask, SoftMask()(place.mean))


@pytest.mark.parametrize("pairing", BATCHES_OF_ONE)
def test_batch_of_one_class(pairing):
    network, image = make_network(2, 2), make_batch(4, 2)
    _, result = step(PPITerms(pairing=pairing), network, image, torch.ones(4, dtype=torch.int64))
    assert result.total.isfinite()


def test_the_shared_place_learns_in_every_step_of_alternating_contrasts():
    place = SharedPlace()
    terms = PPITerms(alternate=True, pairing=place)
    step(terms, make_network(2, 1), make_batch(3, 2), torch.tensor([0, 1, 1]))
    assert terms.current == ("ad",) and place.mean is not None


def test_the_shared_place_is_left_out_of_the_mask_of_x_star():
    torch.manual_seed(0)
    image, saliency = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    label = torch.tensor([0, 1, 1, 0])
    shared = dict(mask=AdaptiveMask(k=0.5), mask_prime=TopKMask(5), pairing="shared", seed=3)
    whole = PPITerms(**shared).contrast_images(image, saliency, label, 1)
    spared = PPITerms(**shared, spare_shared=True).contrast_images(image, saliency, label, 1)
    place = whole.parts["ad"].mask
    assert torch.equal(spared.parts["ad"].mask, place)
    assert (whole.parts["con"].mask * place).sum() > 0
    assert torch.equal(spared.parts["con"].mask, whole.parts["con"].mask * (1 - place))


@pytest.mark.parametrize("options", [{}, {"pairing": "shared", "contrasts": ("con",)}])
def test_nothing_can_be_left_out_without_a_shared_place(options):
    with pytest.raises(ValueError, match="spare_shared needs"):
        PPITerms(spare_shared=True, **options)


def test_context_is_exchanged_around_what_the_own_map_shows():
    """x' = T(s_i) x_i + (1 - T(s_i)) x_j, written out sample by sample."""
    network, image = make_network(2, 1), make_batch(4, 2)
    label = torch.tensor([0, 1, 1, 0])
    keep = TopKMask(fraction=0.4)
    terms = PPITerms(
        mask_prime=ComplementMask(keep),
        pairing="own",
        fill="exchange",
        fill_pairing="other_class",
        contrasts=("ad",),
        to_map=SMOOTH,
        seed=5,
    )
    assert terms.needs_map_gradient is False
    saliency = saliency_of(network, image, label).detach()
    contrasts, result = step(terms, network, image, label, saliency)
    shown = keep(SMOOTH(saliency))
    partner = draw_partners("other_class", 4, torch.Generator().manual_seed(5), label)
    for i in range(4):
        expected = shown[i] * image[i] + (1 - shown[i]) * image[partner[i]]
        assert torch.allclose(contrasts.parts["ad"].image[i], expected.to(image.dtype), atol=1e-7)
    signs = 2.0 * label - 1
    logits = network(contrasts.parts["ad"].image)[:, 0]
    assert torch.allclose(result.values["ad"], nn.functional.softplus(-signs * logits).mean())


def test_an_own_mask_needs_one_of_its_own_kind():
    with pytest.raises(ValueError, match="needs a mask_prime"):
        PPITerms(pairing="own")
