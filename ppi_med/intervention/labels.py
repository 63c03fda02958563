"""Labels in any of the usual forms -> class index `(N,)`; outputs -> `(N, K)`."""

from __future__ import annotations

import torch
from torch import Tensor

from ppi_med.intervention.numeric import at_least_float32, plain


def as_logits(output: Tensor) -> Tensor:
    """Return logits `(N, K)` in float32 or float64, of `(N,)`, `(N, K)` or `(N, K, 1, 1)`.

    K = 1 is a single sigmoid logit (of class 1), K >= 2 are softmax logits.

    Raises:
        TypeError: the output is not a floating tensor.
        ValueError: it has another shape.

    >>> as_logits(torch.zeros(3, dtype=torch.float16)).shape
    torch.Size([3, 1])
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the network's output is a {type(output).__name__}, expected a tensor of logits "
            "(N, K): select the tensor first (for inception in training: `.logits`)."
        )
    if not output.is_floating_point():
        raise TypeError(f"the logits have dtype {output.dtype}, expected a floating one.")
    output = _without_ones(output)
    if output.dim() == 1:
        output = output[:, None]
    if output.dim() != 2 or output.shape[1] == 0:
        raise ValueError(
            f"the logits have shape {tuple(output.shape)}, expected (N,) or (N, K) with K >= 1: "
            "pool the spatial axes first."
        )
    return at_least_float32(plain(output))


def _without_ones(tensor: Tensor) -> Tensor:
    """Drop axes of length 1 after the second, as a convolutional head leaves them."""
    pooled = tensor.dim() > 2 and tensor.shape[2:].numel() == 1
    return tensor.flatten(1) if pooled else tensor


def _check_size(label: Tensor, size: int, shape: tuple[int, ...]) -> None:
    if label.shape[:1] != (size,):
        raise ValueError(
            f"got labels of shape {shape} for {size} samples: give one label for each sample."
        )


def _one_hot(label: Tensor, logits: int) -> bool:
    return label.dim() == 2 and logits >= 2 and label.shape[1] == logits


def check_label_values(label: Tensor, logits: int) -> None:
    """Check the values of labels whose shape is right. Waits for the device if there is one.

    Args:
        label: `(N,)`, `(N, 1)` or one-hot `(N, K)`.
        logits: K, the number of logits.

    Raises:
        ValueError: a class index is not a whole number in its range, or a row is not one-hot.

    >>> check_label_values(torch.tensor([0.0, 1.0]), 1)
    """
    label = _without_ones(plain(label))
    if _one_hot(label, logits):
        good = ((label == 0) | (label == 1)).all(1) & (label.sum(1) == 1)
        expected = f"one-hot rows of {logits} values, a single 1 among zeros"
    else:
        flat = label.flatten(1)[:, 0] if label.dim() == 2 else label
        high = max(logits, 2) - 1
        good = (flat == flat.round() if label.is_floating_point() else flat == flat) & (
            (flat >= 0) & (flat <= high)
        )
        expected = f"whole class numbers from 0 to {high}"
    if not bool(good.all()):
        first = int((~good).nonzero()[0])
        raise ValueError(
            f"label {label[first].tolist()} of sample {first} is not valid, expected {expected} "
            f"for {logits} logit(s): correct the labels or the network's number of outputs."
        )


def class_index(label: Tensor, logits: int, size: int | None = None) -> Tensor:
    """Return the class of each sample, `(N,)` int64.

    Values are checked where that costs nothing, on CPU tensors; `check_label_values` does it
    anywhere.

    Args:
        label: int, bool or float `(N,)` or `(N, 1)`, or one-hot `(N, K)` of any dtype for K >= 2;
            axes of length 1 may follow.
        logits: K, the number of logits (1 = a single sigmoid logit, labels 0 and 1).
        size: N, checked if given.

    Raises:
        TypeError: if the labels are no tensor.
        ValueError: if shape or values are wrong.

    Examples:
        >>> class_index(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 2)
        tensor([1, 0])
    """
    if not isinstance(label, Tensor):
        raise TypeError(f"labels are a {type(label).__name__}, expected a tensor (N,).")
    shape = tuple(label.shape)
    label = _without_ones(plain(label))
    if label.dim() not in (1, 2):
        raise ValueError(f"labels have shape {shape}, expected (N,), (N, 1) or one-hot (N, K).")
    _check_size(label, label.shape[0] if size is None else size, shape)
    one_hot = _one_hot(label, logits)
    if label.dim() == 2 and label.shape[1] != 1 and not one_hot:
        raise ValueError(
            f"labels have shape {shape} for {logits} logit(s), expected (N,), (N, 1)"
            + (f" or one-hot (N, {logits})." if logits > 1 else ".")
        )
    if label.device.type == "cpu":
        check_label_values(label, logits)
    if one_hot:
        return label.to(torch.float32).argmax(1) if label.dtype == torch.bool else label.argmax(1)
    return label.reshape(-1).to(torch.int64)
