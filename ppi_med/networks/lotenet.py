"""LoTeNet: locally orderless tensor networks (Selvan and Dam, MIDL 2020, arXiv 2004.10076)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ppi_med.networks.mps import (
    LocalMap,
    MatrixProductState,
    check_image,
    check_map,
    identity_of,
    local_map,
    pair_of,
)


class PatchLayer(nn.Module):
    """A matrix product state on each patch of an image, then batch norm.

    Each patch of `patch` x `patch` pixels has its own chain over them; its outputs become one pixel
    of the result.

    Args:
        channels: channels of the image.
        grid: rows and columns of the image, multiples of `patch`.
        outputs: channels of the result.
        patch: side of a patch.
        bond_dim: size of the matrices.
        feature_map: feature map of a pixel.
        noise: initial deviation from the identity.

    Examples:
        >>> import torch
        >>> PatchLayer(4, (8, 8), outputs=5)(torch.rand(3, 4, 8, 8)).shape
        torch.Size([3, 5, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        outputs: int,
        *,
        patch: int = 2,
        bond_dim: int = 5,
        feature_map: LocalMap = "linear",
        noise: float = 0.5,
    ) -> None:
        super().__init__()
        self.patch, self.feature_map = patch, feature_map
        self.chains = MatrixProductState(
            patch * patch,
            2 * channels,
            bond_dim,
            outputs,
            copies=(grid[0] // patch) * (grid[1] // patch),
            noise=noise,
            identity=identity_of(channels, feature_map),
        )
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Return `(N, outputs, H / patch, W / patch)` of `(N, C, H, W)`."""
        rows, columns = image.shape[2] // self.patch, image.shape[3] // self.patch
        # (N, C, rows, p, columns, p) -> (N, patches, sites, C)
        split = image.unflatten(3, (columns, self.patch)).unflatten(2, (rows, self.patch))
        sites = split.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        found = self.chains(local_map(sites, self.feature_map))
        joined: Tensor = self.norm(found.transpose(1, 2).unflatten(2, (rows, columns)))
        return joined


class LoTeNet(nn.Module):
    """Patches contracted by matrix product states in layers, then one state over the rest.

    1. *Squeeze*: the pixels of each small square become the channels of one pixel.
    2. Each layer: local map, a matrix product state on each patch, batch norm; the image becomes
       smaller by `patch`.
    3. The last chain runs over all remaining places and gives the logits.

    An image of another size is padded with zeros on all sides.

    Args:
        in_channels: channels of the image.
        num_classes: number of logits.
        image_size: rows and columns, or one number.
        squeeze: side of the squares; 1 for none.
        layers: number of layers before the last chain.
        patch: side of the patches.
        bond_dim: size of the matrices, and channels between the layers.
        feature_map: feature map of a pixel, see `local_map`.
        noise: initial deviation from the identity.

    Raises:
        ValueError: if an argument is outside its range, or the image too small for the layers.

    Examples:
        >>> import torch
        >>> LoTeNet(1, 2, 40)(torch.rand(3, 1, 40, 40)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        image_size: int | tuple[int, int] | list[int] = 40,
        *,
        squeeze: int = 2,
        layers: int = 2,
        patch: int = 2,
        bond_dim: int = 5,
        feature_map: LocalMap = "linear",
        noise: float = 0.5,
    ) -> None:
        super().__init__()
        check_map(feature_map)
        if min(squeeze, layers, patch) < 1:
            raise ValueError(
                f"Got squeeze={squeeze}, layers={layers} and patch={patch}, expected 1 or more."
            )
        self.in_channels, self.image_size = in_channels, pair_of(image_size)
        self.feature_map, self.squeeze = feature_map, squeeze
        step = squeeze * patch**layers
        if min(self.image_size) < step:
            raise ValueError(
                f"image_size is {self.image_size}, but squeeze={squeeze} and {layers} layers of "
                f"patch={patch} need {step} pixels at least: take fewer layers."
            )
        self.padding = _padding(self.image_size, step)
        padded = [-(-size // step) * step for size in self.image_size]
        grid = (padded[0] // squeeze, padded[1] // squeeze)
        channels, found = in_channels * squeeze**2, []
        for _ in range(layers):
            found.append(
                PatchLayer(
                    channels,
                    grid,
                    bond_dim,
                    patch=patch,
                    bond_dim=bond_dim,
                    feature_map=feature_map,
                    noise=noise,
                )
            )
            channels, grid = bond_dim, (grid[0] // patch, grid[1] // patch)
        self.layers = nn.Sequential(*found)
        self.chain = MatrixProductState(
            grid[0] * grid[1],
            2 * channels,
            bond_dim,
            num_classes,
            noise=noise,
            identity=identity_of(channels, feature_map),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `(N, num_classes)` of images `(N, C, *image_size)`.

        Raises:
            ValueError: if the image has another shape.
        """
        check_image(image, self.in_channels, self.image_size, type(self).__name__)
        squeezed = F.pixel_unshuffle(F.pad(image, self.padding), self.squeeze)
        places = self.layers(squeezed).flatten(2).transpose(1, 2)
        logits: Tensor = self.chain(local_map(places, self.feature_map)[:, None])
        return logits[:, 0]


def _padding(size: tuple[int, int], step: int) -> tuple[int, int, int, int]:
    """Return zeros to the left, right, top and bottom that make the size a multiple of `step`."""
    rows, columns = (-(-length // step) * step - length for length in size)
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2
