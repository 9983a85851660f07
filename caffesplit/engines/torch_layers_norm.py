"""Layers that normalise: by a batch's statistics, by neighbours, by a sum.

Sources: batch_norm_layer.cpp, lrn_layer.cpp, mvn_layer.cpp and softmax_layer.cpp in
src/caffe/layers (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffesplit.engines.torch_layers_setup import (
    Build,
    Forward,
    Setup,
    Tensors,
    axis_of,
    elementwise,
)


def _batch_norm(setup: Setup) -> Forward:
    """By the batch's mean and variance, whose sums over time the blobs hold; or by those.

    Blobs: sums of means and of variances, each time multiplied by the fraction before the next
    is added, and the factor to divide them by. The blobs of a Scale that follows may come behind
    them: its scale, and its bias if it has one.
    """
    parameter = setup.message.batch_norm_param
    use_global_stats = setup.phase == "TEST"
    if parameter.HasField("use_global_stats"):
        use_global_stats = parameter.use_global_stats
    eps, fraction = parameter.eps, parameter.moving_average_fraction

    def by_sums(bottoms: Tensors, blobs: Tensors) -> Tensors:
        mean, variance, factor = blobs[:3]
        divided = torch.where(factor == 0, 0, 1 / factor)
        sums = (mean * divided, variance * divided)
        return (functional.batch_norm(bottoms[0], *sums, *_affine(blobs), False, 0.0, eps),)

    def by_batch(bottoms: Tensors, blobs: Tensors) -> Tensors:
        *sums, factor = blobs[:3]
        mean, variance = map(torch.zeros_like, sums)
        top = _batch_normalised(bottoms[0], mean, variance, _affine(blobs), eps)
        with torch.no_grad():
            torch._foreach_mul_([*sums, factor], fraction)
            torch._foreach_add_([*sums, factor], [mean, variance, torch.ones_like(factor)])
        return (top,)

    return by_sums if use_global_stats else by_batch


def _affine(blobs: Tensors) -> tuple[Tensor | None, Tensor | None]:
    """The blobs of a Scale, as far as there are any."""
    scale, bias, *_ = (*blobs[3:], None, None)
    return scale, bias


def _batch_normalised(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    affine: tuple[Tensor | None, Tensor | None],
    eps: float,
) -> Tensor:
    """x (N, C, …) normalised per channel; its mean and unbiased variance are put into (C,).

    Of a single value the variance is 0.
    """
    if x.numel() > x.shape[1]:
        return functional.batch_norm(x, mean, variance, *affine, True, 1.0, eps)
    mean.copy_(x.detach().reshape(-1))
    return functional.batch_norm(x - x, mean * 0, variance, *affine, False, 0.0, eps)


def _lrn(setup: Setup) -> Forward:
    parameter = setup.message.lrn_param
    size, alpha, beta, k = parameter.local_size, parameter.alpha, parameter.beta, parameter.k
    if parameter.norm_region == parameter.WITHIN_CHANNEL:
        return elementwise(lambda x: _within_channel(x, size, alpha, beta))
    return elementwise(lambda x: _AcrossChannels.apply(x, size, alpha / size, beta, k))


def _within_channel(x: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    """Caffe does not look at k here."""
    means = functional.avg_pool2d(x.square(), size, 1, (size - 1) // 2)
    return x * (1 + alpha * means).pow(-beta)


class _AcrossChannels(torch.autograd.Function):
    """x · scale ^ −beta, with scale = k + alpha · the sum of x² over neighbouring channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        scale = _neighbours(x.square(), size).mul_(alpha).add_(k)
        factor = scale.pow(-beta)
        ctx.save_for_backward(x, scale, factor)
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        return factor * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, scale, factor = ctx.saved_tensors
        own = factor * gradient
        ratios = _neighbours(own * x / scale, ctx.size)
        return own.sub_(ratios.mul_(x), alpha=2 * ctx.alpha * ctx.beta), None, None, None, None


def _neighbours(x: Tensor, size: int) -> Tensor:
    """The sum over `size` channels around each."""
    total = x.clone()
    for distance in range(1, min((size - 1) // 2 + 1, x.shape[1])):
        total[:, distance:] += x[:, :-distance]
        total[:, :-distance] += x[:, distance:]
    return total


def _mvn(setup: Setup) -> Forward:
    """Four axes; each channel's, or each item's, mean 0 and perhaps variance 1."""
    parameter = setup.message.mvn_param
    behind = (*setup.bottoms[0][1:], 1, 1, 1)[:3]
    row = prod(behind) if parameter.across_channels else prod(behind[1:])

    def normalised(x: Tensor) -> Tensor:
        rows = x.reshape(-1, row)
        if parameter.normalize_variance:
            rows = _Standardised.apply(rows, parameter.eps)
        else:
            rows = rows - rows.mean(1, keepdim=True)
        return rows.reshape(-1, *behind)

    return elementwise(normalised)


class _Standardised(torch.autograd.Function):
    """(x − mean) / (deviation + eps) of each row; the gradient is as if eps were in the root."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        deviation = centred.square().mean(1, keepdim=True).sqrt() + eps
        top = centred / deviation
        ctx.save_for_backward(top, deviation)
        return top

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        top, deviation = ctx.saved_tensors
        along = (gradient * top).mean(1, keepdim=True)
        return (gradient - gradient.mean(1, keepdim=True) - top * along) / deviation, None


def _softmax(setup: Setup) -> Forward:
    axis = axis_of(setup.bottoms[0], setup.message.softmax_param.axis)
    return elementwise(lambda x: torch.softmax(x, axis))


NORMS: Mapping[str, Build] = {
    "BatchNorm": _batch_norm,
    "LRN": _lrn,
    "MVN": _mvn,
    "Softmax": _softmax,
}
