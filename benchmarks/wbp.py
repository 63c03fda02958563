"""Cost of a WBP map beside a plain forward and input gradient, in one run on the same batch.

    python benchmarks/wbp.py
    python benchmarks/wbp.py --networks resnet18 --rounds 20 --check

The outputs are compared before anything is timed: the recorded forward must equal the plain one,
and in evaluation mode, where these networks are piecewise linear, the map must be gradient x input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from _timing import (  # noqa: E402
    CLOCKS,
    Work,
    hardware_line,
    interleaved,
    median_ms,
    peak_memory,
    ratio,
    table,
    write_json,
)

from ppi_med.networks.multiview import MultiViewClassifier  # noqa: E402
from ppi_med.networks.torchvision_shim import ensure_torchvision  # noqa: E402
from ppi_med.saliency import WBP, primary_logits  # noqa: E402

LIMIT = 1.15


def torchvision(name: str, **options: Any) -> nn.Module:
    """Build a network of torchvision by name, with random weights."""
    if not ensure_torchvision():
        raise SystemExit("torchvision is not installed: pip install 'ppi_med[torchvision]'")
    from torchvision import models

    network: nn.Module = getattr(models, name)(weights=None, num_classes=2, **options)
    return network


@dataclass(frozen=True)
class Subject:
    """A network, the shape of one image, and the size of a batch."""

    make: Callable[[], nn.Module]
    image: tuple[int, ...]
    batch: int


SUBJECTS = {
    "resnet18": Subject(lambda: torchvision("resnet18"), (3, 160, 160), 8),
    "inception_v3": Subject(
        lambda: torchvision("inception_v3", init_weights=False), (3, 299, 299), 3
    ),
    "multiview": Subject(MultiViewClassifier, (1, 10, 128, 128), 4),
}


def prepare(name: str, training: bool, batch: int | None) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network in its mode, a batch of images and their targets."""
    torch.manual_seed(0)
    subject = SUBJECTS[name]
    network = subject.make()
    image = torch.randn(batch or subject.batch, *subject.image)
    target = torch.arange(len(image)) % 2
    return network.train(training), image, target


def gradient_times_input(
    network: nn.Module, image: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the plain logits and gradient x input: what a map must cost at least."""
    leaf = image.detach().requires_grad_()
    logits = primary_logits(network(leaf))
    if logits.shape[1] == 1:
        scores = logits[:, 0] * (2 * target - 1)
    else:
        scores = logits.gather(1, target[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(scores.sum(), leaf)
    return logits.detach(), gradient * image


def works(name: str, training: bool, batch: int | None) -> dict[str, Work]:
    """Return what is timed: plain, the map, and the map of a recording that a trainer shares."""
    network, image, target = prepare(name, training, batch)
    method = WBP()
    return {
        "plain": lambda: gradient_times_input(network, image, target),
        "wbp": lambda: method(network, image, target),
        "recorded": lambda: method.record(network, image).saliency(target, retain_graph=False),
    }


def one_work(which: str, name: str, training: bool, batch: int | None) -> Work:
    """Return one piece of work, for a process of its own."""
    return works(name, training, batch)[which]


def check_outputs(name: str, training: bool, batch: int | None) -> None:
    """Compare the recorded forward with the plain one, and the map where it is known.

    Raises:
        SystemExit: where they differ.
    """
    network, image, target = prepare(name, training, batch)
    torch.manual_seed(1)
    plain, expected = gradient_times_input(network, image, target)
    torch.manual_seed(1)
    recording = WBP().record(network, image)
    s = recording.saliency(target)
    if not torch.allclose(primary_logits(recording.output), plain, rtol=1e-5, atol=1e-6):
        raise SystemExit(f"{name}: the recorded forward is not the plain forward")
    # The volume's map explains sum w z with w fixed, so it differs from the logit's gradient.
    known = not training and name != "multiview"
    difference = float((s - expected).abs().max() / expected.abs().max())
    if known and difference > 1e-4:
        raise SystemExit(f"{name}: the map differs from gradient x input by {difference:.1e}")
    if not bool(s.isfinite().all()):
        raise SystemExit(f"{name}: the map is not finite")


def measure(name: str, training: bool, options: argparse.Namespace) -> dict[str, Any]:
    """Check the outputs of one network in one mode, then time it."""
    check_outputs(name, training, options.batch)
    seconds = interleaved(
        works(name, training, options.batch), rounds=options.rounds, clock=options.clock
    )
    record: dict[str, Any] = {
        "network": name,
        "mode": "training" if training else "evaluation",
        "batch": options.batch or SUBJECTS[name].batch,
        "plain_ms": median_ms(seconds["plain"]),
        "wbp_ms": median_ms(seconds["wbp"]),
        "wbp_ratio": ratio(seconds, "wbp", "plain"),
        "recorded_ratio": ratio(seconds, "recorded", "plain"),
    }
    if options.memory:
        for which in ("plain", "wbp"):
            record[f"{which}_peak_mib"] = peak_memory(
                one_work, which, name, training, options.batch
            )
    return record


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--batch", type=int, help="images a batch (default: by network)")
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds (default 11)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: processor time, for a machine that is busy with other work",
    )
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--check", action="store_true", help=f"exit 1 above {LIMIT} x plain")
    return parser.parse_args(arguments)


MODES = {"evaluation": False, "training": True}
COLUMNS = {
    "network": "network",
    "mode": "mode",
    "batch": "batch",
    "plain_ms": "plain ms",
    "wbp_ms": "WBP ms",
    "wbp_ratio": "WBP / plain",
    "recorded_ratio": "shared / plain",
    "plain_peak_mib": "plain MiB",
    "wbp_peak_mib": "WBP MiB",
}


def shown(value: object) -> str:
    """Write a figure for the table."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    records = []
    for name in options.networks:
        for mode in options.modes:
            records.append(measure(name, MODES[mode], options))
            print(f"{name} {mode}: {records[-1]['wbp_ratio']:.3f}", file=sys.stderr)
    columns = {key: title for key, title in COLUMNS.items() if key in records[0]}
    print(f"WBP beside plain forward + input gradient, {options.clock} time ({hardware_line()})\n")
    rows = [[shown(record[key]) for key in columns] for record in records]
    print(table(list(columns.values()), rows))
    if options.json:
        content = {"limit": LIMIT, "clock": options.clock, "records": records}
        write_json(options.json, content)
    above = [r for r in records if r["wbp_ratio"] > LIMIT]
    for record in above:
        print(
            f"{record['network']} in {record['mode']}: {record['wbp_ratio']:.3f} x plain, "
            f"above {LIMIT}"
        )
    return 1 if options.check and above else 0


if __name__ == "__main__":
    raise SystemExit(main())
