"""What makes a result traceable: the hash of a network's weights, the versions of the software."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import nn

import ppi_med

_PACKAGES = ("torch", "monai", "numpy")


def network_hash(network: nn.Module) -> str:
    """Return the SHA-256 of a network's parameters and buffers, whatever device they are on.

    Two networks share it only if names, types, shapes and every bit of the values are the same.

    Examples:
        >>> network_hash(nn.ReLU())[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not isinstance(value, torch.Tensor):
            continue
        plain = value.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def software_versions() -> dict[str, str]:
    """Return the versions of this package and of those that decide the numbers."""
    versions = {"ppi_med": ppi_med.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
