"""An inferer that shows the network an image in eight positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


class DihedralInferer(Inferer):
    """Average the logits over flips and quarter turns of square images `(N, C, H, H)`.

    A CT patch has no upright position: the label does not depend on its orientation.

    Args:
        views: 8 (all), 4 (quarter turns) or 1 (the image as it is).

    Raises:
        ValueError: for another number of views.

    Examples:
        >>> from torch import nn
        >>> first = nn.Sequential(nn.Flatten(), nn.Linear(9, 1))
        >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
        >>> one, turned = (DihedralInferer()(x, first) for x in (image, image.rot90(1, (2, 3))))
        >>> torch.allclose(one, turned)
        True
    """

    def __init__(self, views: int = 8) -> None:
        super().__init__()
        if views not in (1, 4, 8):
            raise ValueError(f"views is {views}, expected 1, 4 or 8.")
        self.views = views

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the mean logits `(N, K)`."""
        seen = [inputs.flip(-1) if view >= 4 else inputs for view in range(self.views)]
        turned = [torch.rot90(image, view % 4, (-2, -1)) for view, image in enumerate(seen)]
        logits = network(torch.cat(turned), *args, **kwargs)
        mean: Tensor = logits.unflatten(0, (self.views, len(inputs))).mean(dim=0)
        return mean
