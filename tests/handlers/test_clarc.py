"""P-ClArC: plain weights, and the same projection in validation and wherever they are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from torch import nn

from ppi_med.errors import UsageError
from ppi_med.evaluation.familiarity import recorded_features
from ppi_med.handlers import load_weights
from ppi_med.handlers.clarc import ClarcHandler
from ppi_med.handlers.methods import configured_method
from ppi_med.networks.small_cnn import SmallCNN
from ppi_med.places import Account, Projection, exchanged
from tests.handlers.test_places import cases, equal, place, trainer_of, weights


def test_a_projection_by_hand() -> None:
    """Exchange moves the features along (3, 4) / 5 only; the rest of each stays as it is."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 2, generator=generator)
    along = torch.tensor([3.0, 4.0]) / 5
    sign = torch.where(torch.arange(20) % 2 == 0, 1.0, -1.0)[:, None]
    moved = features + 2 * sign * along
    made = Projection.between(features, moved)
    torch.testing.assert_close(made.vector.abs(), along)
    centre = sum(float(z @ made.vector) for z in [*features, *moved]) / 40
    assert made.centre == pytest.approx(centre, abs=1e-6)
    for z, found in zip(features, made(features), strict=True):
        expected = [z[k] - made.vector[k] * (float(z @ made.vector) - centre) for k in (0, 1)]
        torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(made(features), made(moved))
    again = Projection.of(json.loads(json.dumps(made.facts())))
    assert torch.equal(again.vector, made.vector) and again.centre == made.centre
    for broken in ({}, {"vector": [[1.0]], "centre": 0}, {"vector": [2.0], "centre": 0}):
        with pytest.raises(UsageError, match="copy both files"):
            Projection.of(broken)


def test_plain_weights_projected_in_validation_and_when_loaded(tmp_path: Path) -> None:
    data, validation = cases(64, 1.0, 0), cases(20, 1.0, 1)
    plain = trainer_of(configured_method("plain"), data, validation=validation)
    plain.run()
    handler = configured_method("clarc", {"place": place()})
    assert isinstance(handler, ClarcHandler)
    trainer = trainer_of(handler, data, folder=tmp_path, validation=validation)
    during: list[int] = []
    head = [m for m in trainer.network.modules() if isinstance(m, nn.Linear)][-1]
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: during.append(len(head._forward_pre_hooks))
    )
    trainer.run()
    assert equal(weights(plain), weights(trainer))
    assert set(during) == {0} and len(head._forward_pre_hooks) == 1

    projection = handler.projection
    assert projection is not None
    image = torch.stack([case["image"] for case in data])
    network = trainer.network.eval()
    seen = network(image)
    with recorded_features(network) as found:
        plain.network.eval()
        network(image)
    bare = found[0]  # the hook of the projection was there first
    torch.testing.assert_close(bare @ projection.vector, torch.full((64,), projection.centre))

    fresh = SmallCNN(2, widths=(4, 8), downsampling="stride").eval()
    for _ in range(2):
        load_weights(fresh, tmp_path / "model.pt")
        torch.testing.assert_close(fresh(image), seen)
    other = exchanged(image, place(), image.flip(0))
    moved = (plain.network(image) - plain.network(other)).detach().norm()
    assert (seen - network(other)).detach().norm() < 0.7 * moved
    account = Account.of(json.loads((tmp_path / "model.json").read_text())["trained"]["place"])
    assert account is not None and "projected out" in account.sentence


def test_only_clarc_projects() -> None:
    with pytest.raises(UsageError, match="expected one of"):
        configured_method("ppi_wbp_place", {"fill": "project"})
