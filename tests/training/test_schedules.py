import copy

import pytest
import torch

from ppi_med.networks import MultiViewClassifier, ga_parameter_groups
from ppi_med.training.schedules import step_schedule


def two_groups(lrs=(5e-5, 5e-3)):
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in lrs]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, lrs, strict=True)]
    return torch.optim.Adam(groups)


def test_rates_of_appendix_e3():
    """5e-5 halved every 10 epochs; 5e-3 times 0.2 every 10."""
    optimizer = two_groups()
    scheduler = step_schedule(optimizer)
    cnn, rest = 5e-5, 5e-3
    for epoch in range(45):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([cnn, rest], rel=1e-12)
        assert rates == scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
        if (epoch + 1) % 10 == 0:
            cnn, rest = cnn * 0.5, rest * 0.2


def test_own_step_for_each_group():
    optimizer = two_groups((1.0, 1.0))
    scheduler = step_schedule(optimizer, step_size=[1, 3], gamma=0.5)
    rates = []
    for _ in range(4):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr())
    assert rates == [[0.5, 1.0], [0.25, 1.0], [0.125, 0.5], [0.0625, 0.5]]


def train(net, optimizer, scheduler, epochs):
    for epoch in epochs:
        generator = torch.Generator().manual_seed(epoch)
        volume = torch.randn(2, 1, 3, 8, 8, generator=generator)
        net.set_epoch(epoch)
        loss = net(volume).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


def parts():
    torch.manual_seed(0)
    net = MultiViewClassifier(backbone_options={"widths": (2,)})
    optimizer = torch.optim.Adam(ga_parameter_groups(net))
    return net, optimizer, step_schedule(optimizer, step_size=2)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_resume_is_exact(stop):
    whole = parts()
    train(*whole, range(7))
    first = parts()
    train(*first, range(stop))
    saved = copy.deepcopy([part.state_dict() for part in first])
    resumed = parts()
    for part, state in zip(resumed, saved, strict=True):
        part.load_state_dict(state)
    train(*resumed, range(stop, 7))
    assert resumed[2].get_last_lr() == whole[2].get_last_lr()
    for name, value in whole[0].state_dict().items():
        assert torch.equal(resumed[0].state_dict()[name], value), name


def test_state_is_plain_data():
    """Checkpoints are read with weights_only."""
    import io

    buffer = io.BytesIO()
    torch.save(step_schedule(two_groups()).state_dict(), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True)["last_epoch"] == 0


def test_monai_handler_steps_it():
    from ignite.engine import Engine
    from monai.handlers import LrScheduleHandler

    optimizer = two_groups((1.0, 1.0))
    scheduler = step_schedule(optimizer, step_size=2)
    trainer = Engine(lambda engine, batch: optimizer.step())
    LrScheduleHandler(scheduler, print_lr=False).attach(trainer)
    trainer.run([0], max_epochs=4)
    assert scheduler.get_last_lr() == pytest.approx([0.25, 0.04])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gamma": [0.5]}, "gamma has 1 values, expected one number or one for each .* 2"),
        ({"step_size": [1, 2, 3]}, "step_size has 3 values"),
        ({"step_size": 0}, r"step_size is \[0, 0\], expected positive"),
        ({"gamma": [0.5, -1.0]}, "gamma is"),
    ],
)
def test_bad_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        step_schedule(two_groups(), **options)


def test_rates_of_lidc_wait_fifty_epochs():
    optimizer = two_groups((1e-4,))
    scheduler = step_schedule(optimizer, step_size=10, gamma=0.3, after=50)
    rates = []
    for _ in range(80):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert rates[:60] == [1e-4] * 60
    assert rates[60:] == [1e-4 * 0.3] * 10 + [1e-4 * 0.3**2] * 10
    with pytest.raises(ValueError, match="after is -1"):
        step_schedule(optimizer, gamma=0.3, after=-1)
