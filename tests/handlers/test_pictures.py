from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch import nn

from ppi_med.handlers import AUC, PicturesHandler, PredictionsHandler
from ppi_med.handlers.pictures import evaluating, most_relevant
from ppi_med.tracking import Tracker


class Volume(nn.Module):
    """The mean of a volume as its logit, with the equal weights of its slices."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm3d(1)

    def forward(self, image):
        return self.scale * self.norm(image).mean(dim=(2, 3, 4))

    def explain(self, image, positions=None):
        s = image.shape[2]
        logits = image.mean(dim=(1, 3, 4))
        return SimpleNamespace(
            logit=self(image), slice_logits=logits, slice_weights=torch.full_like(logits, 1 / s)
        )


class Flat(nn.Module):
    """The same for single images, without slices."""

    def forward(self, image):
        return image.mean(dim=(2, 3))


class Recorded(Tracker):
    active = True

    def __init__(self):
        self.files = []

    def log_artifact(self, path, folder=""):
        self.files.append((path.name, folder))


def image_itself(network, image, target, *, create_graph=False):
    assert not network.training and torch.is_grad_enabled()
    return image * target


def evaluator_of(handlers, network, shape=(1, 5, 8, 9), n=6, lesion=False, name="v_{}"):
    images = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    batches = []
    for start in range(0, n, 2):
        rows = slice(start, start + 2)
        batch = {
            "image": images[rows],
            "label": torch.tensor([[0.0], [1.0]]),
            "volume_id": [name.format(start), name.format(start + 1)],
            "subject": [f"s{start}", f"s{start + 1}"],
        }
        if lesion:
            batch["lesion"] = (images[rows] > 1).float()
        batches.append(batch)
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=batches,
        network=network,
        key_val_metric={"val/auc": AUC()},
        val_handlers=handlers,
    )


@pytest.mark.parametrize("lesion", [False, True])
def test_pictures_of_volumes(tmp_path, lesion):
    network, tracker = Volume(), Recorded()
    pictures = PicturesHandler(tmp_path, network, image_itself, tracker, cases=1, slices=2)
    evaluator_of([PredictionsHandler(), pictures], network, lesion=lesion).run()
    expected = {"roc.png"} | {f"{kind}_v_{i}.png" for kind in ("case", "weights") for i in (0, 1)}
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert set(tracker.files) == {(name, "pictures") for name in expected}
    assert network.scale.grad is None


def test_names_that_are_no_file_names_stay_apart(tmp_path):
    network = Flat()
    for name in ("v/{}", "v:{}", "v_{}"):
        pictures = PicturesHandler(tmp_path, network, image_itself)
        evaluator_of([pictures], network, (1, 8, 9), name=name).run()
    assert len(list(tmp_path.glob("case_v_?.png"))) == 4
    assert len(list(tmp_path.glob("case_v_?_????????.png"))) == 8


def test_each_modules_mode_is_put_back():
    network = Volume().train()
    network.norm.eval()
    with pytest.raises(OSError), evaluating(network):
        assert not network.training
        raise OSError
    assert network.training and not network.norm.training


def test_pictures_of_single_images(tmp_path):
    network = Flat()
    evaluator_of([PicturesHandler(tmp_path, network, image_itself)], network, (1, 8, 9)).run()
    # Two of each label, and no curve where nothing collected the predictions.
    assert {path.name for path in tmp_path.iterdir()} == {f"case_v_{i}.png" for i in range(4)}


def test_without_a_method_there_is_no_map(tmp_path):
    network = Volume()
    pictures = PicturesHandler(tmp_path, network, cases=1)
    evaluator_of([PredictionsHandler(), pictures], network).run()
    assert {path.name for path in tmp_path.iterdir()} == {
        "roc.png",
        "weights_v_0.png",
        "weights_v_1.png",
    }


def test_only_every_so_often(tmp_path):
    network = Flat()
    pictures = PicturesHandler(tmp_path / "a", network, image_itself, interval=3)
    evaluator = evaluator_of([pictures], network, (1, 8, 9))
    for epoch in (1, 2):
        evaluator.run(epoch)
    assert not (tmp_path / "a").exists() and pictures._kept == []
    evaluator.run(3)
    assert (tmp_path / "a").exists() and pictures._kept == []


def test_only_of_the_best_epoch(tmp_path):
    network = Flat()
    evaluator = evaluator_of(
        [PicturesHandler(tmp_path / "a", network, image_itself, best_only=True)], network, (1, 8, 9)
    )
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 2.0, 1
    evaluator.run(2)
    assert not (tmp_path / "a").exists()
    evaluator.state.best_metric = -1.0
    evaluator.run(3)
    assert (tmp_path / "a").exists()


def test_the_most_relevant_slices_come_in_their_order():
    maps = np.zeros((5, 2, 2))
    maps[3], maps[1], maps[4] = -5.0, 2.0, 1.0
    assert most_relevant(maps, 2) == [1, 3]
    assert most_relevant(maps, 10) == [0, 1, 2, 3, 4]


def test_wrong_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="slices=0"):
        PicturesHandler(tmp_path, Flat(), slices=0)
