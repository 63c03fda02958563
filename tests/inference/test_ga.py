"""One volume through everything, against the training's own evaluation of the converted one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ppi_med.data.oct.convert import convert_folder
from ppi_med.data.oct.options import ConvertOptions
from ppi_med.data.oct.transforms import AllSlicesd, LoadOctVolumed, NormalizeOctd
from ppi_med.data.oct.volume import OctReadError
from ppi_med.inference import infer_volume
from ppi_med.inference.ga import network_hash
from ppi_med.networks.multiview import MultiViewClassifier, relative_positions
from ppi_med.saliency import WBP
from tests.inference.conftest import Writer, retina


def evaluated(network: MultiViewClassifier, path: Path) -> tuple[float, list[float]]:
    """Logit and weights as an evaluation of a converted volume gives them."""
    item = {"image": str(path)}
    for step in (LoadOctVolumed("image"), AllSlicesd("image"), NormalizeOctd("image")):
        item = step(item)
    with torch.no_grad():
        image = item["image"].as_tensor()[None]
        output = network.eval().explain(image, item["positions"][None])
    return float(output.logit), output.slice_weights[0].tolist()


@pytest.mark.parametrize("width", [24, 19])
def test_a_raw_file_gives_what_its_conversion_gives(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier, width: int
) -> None:
    raw = write_mat(tmp_path / "raw" / "a.mat", retina(5, 16, width))
    convert_folder(
        ConvertOptions.of(raw.parent, tmp_path / "set", pad_width=24, progress=False, workers=1)
    )
    logit, weights = evaluated(network, tmp_path / "set" / "volumes" / "a.nii.gz")
    result = infer_volume(network, raw, size=(16, 24))
    assert result.logit == pytest.approx(logit, rel=1e-6, abs=1e-7)
    np.testing.assert_allclose(result.slice_weights, weights, rtol=1e-5)
    converted = infer_volume(network, tmp_path / "set" / "volumes" / "a.nii.gz", size=(16, 24))
    assert converted.logit == result.logit


def test_a_large_volume_is_seen_as_if_recorded_small(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    small = retina(4, 16, 24)
    large = small.repeat(3, axis=1).repeat(2, axis=2)  # its area means are the small one
    expected = infer_volume(network, write_mat(tmp_path / "small.mat", small), WBP())
    result = infer_volume(network, write_mat(tmp_path / "large.mat", large), WBP(), size=(16, 24))
    assert result.logit == pytest.approx(expected.logit, rel=1e-5)
    assert result.saliency is not None and expected.saliency is not None
    assert result.saliency.shape == large.shape
    assert result.saliency.dtype == np.float32
    blocks = result.saliency.reshape(4, 16, 3, 24, 2)
    np.testing.assert_allclose(blocks.sum((2, 4)), expected.saliency, rtol=1e-3, atol=1e-6)
    assert np.ptp(blocks, axis=(2, 4)).max() < 1e-7  # spread evenly
    assert result.network_size == (16, 24)


def test_numbers_belong_together(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    result = infer_volume(network, write_mat(tmp_path / "a.mat", retina(9, 16, 24)), WBP())
    mixture = float((result.slice_weights * result.slice_probabilities).sum())
    assert result.probability == pytest.approx(mixture, rel=1e-5)
    assert result.probability == pytest.approx(1 / (1 + np.exp(-result.logit)))
    assert result.slice_weights.sum() == pytest.approx(1)
    assert result.positions.tolist() == relative_positions(9).tolist()
    assert len(set(result.slice_weights.tolist())) == 9
    assert result.saliency is not None
    assert result.saliency.shape == (9, 16, 24)
    assert result.network.sha256 == network_hash(network)
    assert result.network.method == "WBP"
    assert infer_volume(network, tmp_path / "a.mat").saliency is None


def test_hash_sees_every_bit(network: MultiViewClassifier) -> None:
    before = network_hash(network)
    assert before == network_hash(network)
    with torch.no_grad():
        weight = network.slice_head.weight
        weight[0, 0] = torch.nextafter(weight[0, 0], weight[0, 0] + 1)
    assert network_hash(network) != before


def test_damaged_weights_are_told(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    with torch.no_grad():
        network.slice_head.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="logit is nan"):
        infer_volume(network, write_mat(tmp_path / "a.mat", retina(3, 16, 24)))


def test_a_folder_of_several_is_refused(
    tmp_path: Path, write_mat: Writer, network: MultiViewClassifier
) -> None:
    for name in ("a.mat", "b.mat"):
        write_mat(tmp_path / name, retina(3, 16, 24))
    with pytest.raises(OctReadError, match="holds 2 sources"):
        infer_volume(network, tmp_path)
