"""PPI on a global batch of eight: by one process, or by torchrun's processes with a share each.

Run as a script: ``python -m torch.distributed.run ... two_processes.py OUTPUT NORM``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ppi_med.handlers import PPIHandler
from ppi_med.intervention import AdaptiveMask, PPITerms, SaliencyToMap, SharedPlace
from tests.handlers.ppi.trainers import batches, trainer

BATCH, STEPS, PROCESSES = 8, 4, 2


class BatchNormOfShares(nn.BatchNorm2d):
    """One process that normalises as two do: each share of the batch by its own statistics.

    An altered batch holds the images twice, x* before x': a share has the same images of both.
    """

    def forward(self, input: Tensor) -> Tensor:
        place = torch.arange(len(input)) % BATCH // (BATCH // PROCESSES)
        parts = [torch.nonzero(place == share).flatten() for share in range(PROCESSES)]
        normed = [
            nn.functional.batch_norm(
                input[part], None, None, self.weight, self.bias, training=True, eps=self.eps
            )
            for part in parts
        ]
        return torch.cat(normed)[torch.cat(parts).argsort()]


def network(norm: type[nn.Module] | None) -> nn.Module:
    torch.manual_seed(0)
    # A bias before a norm has no gradient.
    first = nn.Conv2d(1, 6, 3, padding=1, bias=norm is None)
    layers: list[nn.Module] = [first, nn.ReLU(), nn.MaxPool2d(2)]
    if norm is not None:
        layers.insert(1, norm(6))
    layers += [nn.Conv2d(6, 8, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 2)).double()


def terms() -> PPITerms:
    return PPITerms(
        mask=AdaptiveMask(k=1.0),
        to_map=SaliencyToMap(smooth_sigma=1.0),
        pairing=SharedPlace(momentum=0.5),
        fill="zero",
        con_weight=0.3,
    )


def train(net: nn.Module, data: list[dict[str, Tensor]], seen: nn.Module | None = None) -> None:
    trainer(seen or net, data, [PPIHandler(terms=terms())]).run()


def by_one_process(norm: type[nn.Module] | None) -> dict[str, Any]:
    net = network(norm)
    train(net, batches(STEPS, BATCH))
    return net.state_dict()


def main(output: str, norm: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), BATCH // PROCESSES
    net = network(nn.BatchNorm2d if norm == "batch" else None)
    # As in the bundles' multi_gpu.json.
    parallel = nn.parallel.DistributedDataParallel(net, broadcast_buffers=False)
    share = [
        {name: values[rank * size : (rank + 1) * size] for name, values in batch.items()}
        for batch in batches(STEPS, BATCH)
    ]
    train(net, share, parallel)
    torch.save(net.state_dict(), f"{output}.{rank}")
    # Neither goes while the other still speaks to it: on a busy machine gloo's threads then abort.
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
