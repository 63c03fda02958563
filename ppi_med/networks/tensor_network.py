"""An image as one matrix product state (Efthymiou, Hidary and Leichenauer, arXiv 1906.06329)."""

from __future__ import annotations

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


class TensorNetworkClassifier(nn.Module):
    """A classifier that is linear in the product of all pixels' local features.

    The pixels, row by row, are the sites of one chain; the tensor of the classes stands in its
    middle; neighbours are contracted in pairs, all pairs at once. The number of weights grows with
    the image's area, and a pixel belongs to its place: nothing is shared between places.

    Args:
        in_channels: channels of the image.
        num_classes: number of logits.
        image_size: rows and columns, or one number.
        bond_dim: size of the matrices.
        feature_map: of a pixel, see :func:`~ppi_med.networks.mps.local_map`.
        noise: deviation from the identity at first.

    Raises:
        ValueError: where an argument is outside its range.

    Examples:
        >>> import torch
        >>> TensorNetworkClassifier(1, 2, 12, bond_dim=4)(torch.rand(3, 1, 12, 12)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        image_size: int | tuple[int, int] | list[int] = 40,
        *,
        bond_dim: int = 10,
        feature_map: LocalMap = "linear",
        noise: float = 0.5,
    ) -> None:
        super().__init__()
        check_map(feature_map)
        self.in_channels, self.image_size = in_channels, pair_of(image_size)
        self.feature_map = feature_map
        self.chain = MatrixProductState(
            self.image_size[0] * self.image_size[1],
            2 * in_channels,
            bond_dim,
            num_classes,
            noise=noise,
            identity=identity_of(in_channels, feature_map),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, num_classes)`` of images ``(N, C, *image_size)``.

        Raises:
            ValueError: where the image has another shape.
        """
        check_image(image, self.in_channels, self.image_size, type(self).__name__)
        pixels = image.flatten(2).transpose(1, 2)
        logits: Tensor = self.chain(local_map(pixels, self.feature_map)[:, None])
        return logits[:, 0]
