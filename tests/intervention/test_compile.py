"""The pure parts are captured by torch.compile as one graph (traced, not generated, to be fast)."""

from __future__ import annotations

import pytest
import torch

from ppi_med.intervention import (
    AdaptiveMask,
    BoxMask,
    ExchangeFill,
    HardMask,
    SaliencyToMap,
    SoftMask,
    adversarial_loss,
    contrast_loss,
    remove,
)


@pytest.mark.parametrize("mask", [SoftMask(), AdaptiveMask(), HardMask(), BoxMask()])
def test_from_saliency_to_altered_images_in_one_graph(mask):
    to_map = SaliencyToMap(smooth_sigma=1.0)

    def alter(image, saliency, partner):
        return remove(image, mask(to_map(saliency)), ExchangeFill()(image, partner))

    generator = torch.Generator().manual_seed(0)
    image, saliency = torch.randn(2, 3, 1, 8, 8, generator=generator)
    partner = torch.tensor([1, 2, 0])
    compiled = torch.compile(alter, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(image, saliency, partner), alter(image, saliency, partner))


@pytest.mark.parametrize("loss", [contrast_loss, adversarial_loss])
def test_losses(loss):
    """Label values are checked on the CPU, which breaks the graph there and only there."""
    output, label = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    compiled = torch.compile(loss, backend="eager")
    assert torch.allclose(compiled(output, label), loss(output, label))
