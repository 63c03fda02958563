"""The losses of PPI: L_con, L_ad, L_reg (eq. 1-5, Appendix B), for any kind of classifier output.

All kinds are reduced to one number per sample, the log odds m of "y" against "not y":

- a single sigmoid logit z, labels 0/1: m = z for y = 1, -z for y = 0;
- K >= 2 softmax logits: m = z_y - log sum_{k != y} exp(z_k) (one against the rest).

Then log p_y = -softplus(-m) and log(1 - p_y) = -softplus(m), exact where p_y is 0 or 1 in floating
point. Half precision outputs are computed in float32. Labels: see `class_index`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ppi_med.intervention.labels import as_logits, class_index
from ppi_med.intervention.numeric import (
    at_least_float32,
    check_image,
    choose,
    image_dims,
    no_autocast,
    plain,
)

CONTRAST_FORMS = ("bounded", "printed")


def log_odds(output: Tensor, label: Tensor) -> Tensor:
    """Log odds of the label's class against the others, log(p_y / (1 - p_y)), `(N,)`.

    Args:
        output: logits `(N,)`, `(N, 1)` (sigmoid) or `(N, K)` (softmax).
        label: `(N,)`, `(N, 1)` or one-hot `(N, K)`.

    Returns:
        `(N,)` in float32 or float64, differentiable.

    Raises:
        TypeError: the output is not a floating tensor.
        ValueError: shapes or label values don't fit.

    Examples:
        >>> log_odds(torch.tensor([2.0, 2.0]), torch.tensor([1, 0]))
        tensor([ 2., -2.])
    """
    logits = as_logits(output)
    size, count = logits.shape
    classes = class_index(label, count, size).to(logits.device)
    with no_autocast(logits):
        if count == 1:
            return logits[:, 0] * (2 * classes - 1).to(logits.dtype)
        chosen = torch.arange(count, device=logits.device) == classes[:, None]
        others = logits.masked_fill(chosen, -torch.inf).logsumexp(1)
        return logits.gather(1, classes[:, None])[:, 0] - others


def log_prob_y(output: Tensor, label: Tensor) -> Tensor:
    """Logarithm of p_y of each sample, `(N,)`; arguments as in `log_odds`.

    >>> log_prob_y(torch.tensor([0.0]), torch.tensor([1])).exp()
    tensor([0.5000])
    """
    return -softplus(-log_odds(output, label))


def log_prob_not_y(output: Tensor, label: Tensor) -> Tensor:
    """Logarithm of 1 - p_y of each sample, `(N,)`; arguments as in `log_odds`.

    >>> log_prob_not_y(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), torch.tensor([2])).exp()
    tensor([0.7500])
    """
    return -softplus(log_odds(output, label))


def contrast_loss(
    output: Tensor, label: Tensor, form: str = "bounded", weight: Tensor | None = None
) -> Tensor:
    """L_con: the prediction on x*, whose evidence for y is removed, is pushed to not-y.

    `bounded` (default): the mean of -log(1 - p_y), >= 0. `printed`: the mean of log p_y, that is
    -CE(x*, y), as the paper prints it; it has no lower bound and can diverge.

    Args:
        output: logits of x*, see `log_odds`.
        label: the labels y of the clean images.
        form: `bounded` or `printed`.
        weight: `(N,)`, multiplied on each sample before the mean over N; 0 leaves out a sample
            from which nothing was removed.

    Returns:
        A scalar.

    Raises:
        TypeError: the output is not a floating tensor.
        ValueError: shapes, label values or the form are wrong.

    Examples:
        >>> z, y = torch.tensor([-30.0]), torch.tensor([1])
        >>> contrast_loss(z, y).item() < 1e-6, contrast_loss(z, y, "printed").item()
        (True, -30.0)
    """
    choose("form", form, CONTRAST_FORMS)
    odds = log_odds(output, label)
    loss = softplus(odds) if form == "bounded" else -softplus(-odds)
    return _mean(loss, weight)


def adversarial_loss(output: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """L_ad: the mean of -log p_y = CE(x', y); x', masked at another image's place, keeps y.

    Args:
        output: logits of x', see `log_odds`.
        label: the labels y of the clean images.
        weight: `(N,)`, multiplied on each sample before the mean over N.

    Returns:
        A scalar >= 0.

    Raises:
        TypeError: the output is not a floating tensor.
        ValueError: shapes or label values are wrong.

    Examples:
        >>> adversarial_loss(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        tensor(0.6931)
    """
    return _mean(softplus(-log_odds(output, label)), weight)


def _mean(loss: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return loss.mean()
    if weight.shape != loss.shape:
        raise ValueError(
            f"the sample weights have shape {tuple(weight.shape)}, expected {tuple(loss.shape)}: "
            "give one number for each sample."
        )
    return (loss * weight.to(loss)).mean()


def sparsity_loss(saliency: Tensor, per: str = "image") -> Tensor:
    """L_reg: ||s||_1, the mean over the batch.

    Args:
        saliency: `(N, C, *spatial)`, signed; half precision is summed in float32.
        per: `image` (default): the sum over one image, as printed; `element`: divided by its number
            of elements, so that a weight means the same for any image size.

    Returns:
        A scalar >= 0.

    Raises:
        TypeError: the saliency is not floating.
        ValueError: its shape or `per` is wrong.

    Examples:
        >>> sparsity_loss(torch.tensor([[[1.0, -2.0]], [[0.0, 0.0]]]))
        tensor(1.5000)
    """
    choose("per", per, ("image", "element"))
    check_image(saliency, "saliency")
    size = at_least_float32(plain(saliency)).abs()
    if per == "element":
        return size.mean()
    return size.sum(image_dims(size)).mean()
