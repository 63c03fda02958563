"""Matrix product states as layers: local maps, a chain of matrices, contraction in pairs.

The parts of `lotenet`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

LocalMap = Literal["linear", "trigonometric"]


def local_map(values: Tensor, kind: LocalMap = "linear") -> Tensor:
    """Map each number to two: (x, 1 - x), or (sin, cos) of pi x / 2.

    Args:
        values: `(..., C)`, of about 0 to 1.
        kind: the linear map has no bound on x and keeps long chains stable; the trigonometric one
            has unit length.

    Returns:
        Features `(..., 2 C)`.

    Examples:
        >>> local_map(torch.tensor([0.25])).tolist()
        [0.25, 0.75]
    """
    if kind == "linear":
        return torch.cat([values, 1 - values], dim=-1)
    angle = values * (math.pi / 2)
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


def pair_product(left: Tensor, right: Tensor, share: Tensor) -> Tensor:
    """Return the matrix product of neighbours in a chain.

    Both depend on the image, so neither is a constant factor of the other. A saliency map explains
    the product by both, each with the other as a constant and weighted by its share of the sites in
    the pair (`saliency_surrogate`). In the whole chain all sites then count the same, and relevance
    is conserved. The value and its derivative are those of the matrix product.

    Args:
        left: `(..., a, b)`.
        right: `(..., b, c)`.
        share: share of the left factor, in [0, 1]; it broadcasts to `(..., a, c)`.

    Returns:
        `(..., a, c)`.

    Examples:
        >>> eye = torch.eye(2)
        >>> torch.equal(pair_product(eye, 3 * eye, torch.tensor(0.5)), 3 * eye)
        True
    """
    if torch.overrides.has_torch_function((left, right)):
        overridden: Tensor = torch.overrides.handle_torch_function(
            pair_product, (left, right), left, right, share
        )
        return overridden
    return left @ right


def _shared_product(left: Tensor, right: Tensor, share: Tensor) -> Tensor:
    return share * (left @ right.detach()) + (1 - share) * (left.detach() @ right)


cast(Any, pair_product).saliency_surrogate = _shared_product


def contract_chain(matrices: Tensor) -> Tensor:
    """Return the product of a chain of matrices, by products of neighbours, all pairs at once.

    A chain of S matrices takes log2 S steps of batched products instead of S small ones.

    Args:
        matrices: `(..., S, D, D)`.

    Returns:
        `(..., D, D)`; the identity for S = 0.

    Examples:
        >>> contract_chain(torch.tensor([[[2.0]], [[3.0]], [[4.0]]]))
        tensor([[24.]])
    """
    sites = [1] * matrices.shape[-3]
    if not sites:
        eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
        return eye.expand(*matrices.shape[:-3], *eye.shape)
    while len(sites) > 1:
        paired = len(sites) // 2 * 2
        left, right = sites[0:paired:2], sites[1:paired:2]
        share = [a / (a + b) for a, b in zip(left, right, strict=True)]
        weight = matrices.new_tensor(share)[:, None, None]
        product = pair_product(
            matrices[..., 0:paired:2, :, :], matrices[..., 1:paired:2, :, :], weight
        )
        rest = matrices[..., paired:, :, :]
        matrices = torch.cat([product, rest], dim=-3) if rest.shape[-3] else product
        sites = [a + b for a, b in zip(left, right, strict=True)] + sites[paired:]
    return matrices[..., 0, :, :]


class MatrixProductState(nn.Module):
    """Linear functions of the product of all sites' features, as chains of small matrices.

    Each site s has a matrix that is linear in its features, and the chain's product, open at both
    ends, meets a tensor of the outputs in the middle:

        f_l = a^T M_1 ... M_m T_l M_(m+1) ... M_S b,   M_s = sum_d phi_sd A_sd

    Initially all M_s are near the identity, so that long chains neither vanish nor explode.

    Args:
        sites: S, length of the chain.
        features: numbers per site.
        bond_dim: D, size of the matrices.
        outputs: number of functions.
        copies: number of chains side by side, each with its own weights.
        noise: initial deviation of the whole chain from the identity.
        identity: mean of the sum of a site's features: 1 for one channel's linear map.

    Raises:
        ValueError: if a number is below 1.

    Examples:
        >>> chain = MatrixProductState(sites=6, features=2, bond_dim=3, outputs=4, copies=5)
        >>> chain(torch.rand(7, 5, 6, 2)).shape
        torch.Size([7, 5, 4])
    """

    def __init__(
        self,
        sites: int,
        features: int,
        bond_dim: int,
        outputs: int,
        *,
        copies: int = 1,
        noise: float = 0.5,
        identity: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in vars().items():
            if name in ("sites", "features", "bond_dim", "outputs", "copies") and value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more.")
        self.middle = sites // 2
        spread = noise / math.sqrt(sites * features * bond_dim)
        near = torch.eye(bond_dim) / identity
        self.site_tensors = nn.Parameter(
            near + spread * torch.randn(copies, sites, features, bond_dim, bond_dim)
        )
        self.output_tensor = nn.Parameter(torch.randn(copies, outputs, bond_dim, bond_dim))
        end = torch.full((copies, bond_dim), 1 / math.sqrt(bond_dim))
        self.first, self.last = nn.Parameter(end), nn.Parameter(end.clone())

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs `(N, copies, outputs)` of features `(N, copies, S, features)`."""
        matrices = torch.einsum("npsd,psdij->npsij", features, self.site_tensors)
        left = contract_chain(matrices[:, :, : self.middle])
        right = contract_chain(matrices[:, :, self.middle :])
        row = torch.einsum("pi,npij->npj", self.first, left)
        opened = torch.einsum("npi,plij->nplj", row, self.output_tensor)
        column = torch.einsum("npij,pj->npi", right, self.last)
        share = features.new_tensor(self.middle / features.shape[2])
        return pair_product(opened, column[..., None], share)[..., 0]


def identity_of(channels: int, kind: LocalMap) -> float:
    """Return the mean sum of a site's features over channels of 0 to 1.

    Examples:
        >>> identity_of(3, "linear")
        3.0
    """
    return channels * (1.0 if kind == "linear" else 4 / math.pi)


def check_image(image: Tensor, channels: int, size: tuple[int, int], network: str) -> None:
    """Refuse an image of another shape than the network was made for.

    Raises:
        ValueError: naming both shapes.
    """
    if image.ndim != 4 or tuple(image.shape[1:]) != (channels, *size):
        raise ValueError(
            f"{network} got an image of shape {tuple(image.shape)}, expected (N, {channels}, "
            f"{size[0]}, {size[1]}): its weights belong to places, resize or crop to image_size."
        )


def pair_of(image_size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """Return rows and columns of a size that is one number or two.

    Raises:
        ValueError: if it is neither, or not positive.

    Examples:
        >>> pair_of(40), pair_of([32, 48])
        ((40, 40), (32, 48))
    """
    sizes = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"image_size is {image_size}, expected a number or (rows, columns).")
    return int(sizes[0]), int(sizes[1])


def check_map(kind: str) -> None:
    """Refuse an unknown local map.

    Raises:
        ValueError: naming the known ones.
    """
    if kind not in get_args(LocalMap):
        raise ValueError(
            f"feature_map is {kind!r}, expected one of {', '.join(get_args(LocalMap))}."
        )
