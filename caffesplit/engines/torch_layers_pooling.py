"""Pooling, and the pyramid that is made of it.

Sources: pooling_layer.cpp and spp_layer.cpp in src/caffe/layers (Caffe 1.0; round_mode since).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from caffesplit.engines.torch_layers_setup import (
    SHAPES_KEPT,
    Build,
    Forward,
    Setup,
    Tensors,
    elementwise,
    pads_of,
)
from caffesplit.net.blobs import Shape
from caffesplit.net.shape_windows import pooling_sides


@dataclass(frozen=True)
class Pooling:
    """How the windows of a pooling layer lie, along height and width, and what they take."""

    kernel: Shape
    stride: Shape
    pad: Shape
    is_maximum: bool
    floor: bool = False


def _pooling(setup: Setup) -> Forward:
    parameter = setup.message.pooling_param
    _refuse_stochastic(setup, parameter)
    is_maximum = parameter.pool == parameter.MAX
    if parameter.global_pooling:
        return _pool_all(is_maximum, len(setup.layer.tops))
    pooling = Pooling(
        pooling_sides(parameter, "kernel", parameter.kernel_size),
        pooling_sides(parameter, "stride", parameter.stride),
        pooling_sides(parameter, "pad", parameter.pad),
        is_maximum,
        parameter.round_mode == parameter.FLOOR,
    )
    if len(setup.layer.tops) == 2:
        return lambda bottoms, blobs: _with_mask(bottoms[0], pooling)
    return elementwise(lambda x: pool(x, pooling))


def _pool_all(is_maximum: bool, tops: int) -> Forward:
    """Global pooling: a window as large as the image."""

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        whole = Pooling(tuple(bottoms[0].shape[2:]), (1, 1), (0, 0), is_maximum)
        return _with_mask(bottoms[0], whole) if tops == 2 else (pool(bottoms[0], whole),)

    return forward


def _refuse_stochastic(setup: Setup, parameter: Any) -> None:
    if parameter.pool == parameter.STOCHASTIC:
        raise setup.refuse("stochastic pooling", "MAX or AVE", "Caffe itself has it on GPUs only.")


def pool(x: Tensor, pooling: Pooling) -> Tensor:
    """(N, C, H, W) → (N, C, windows, windows)."""
    windows = _windows(tuple(x.shape[2:]), pooling)
    alike = _is_alike(tuple(x.shape[2:]), windows, pooling)
    kernel, stride, pad = pooling.kernel, pooling.stride, pooling.pad
    if pooling.is_maximum:
        if alike:
            return functional.max_pool2d(x, kernel, stride, pad, ceil_mode=True)
        return functional.max_pool2d(_bordered(x, windows, pooling, _least(x)), kernel, stride)
    if alike:
        return functional.avg_pool2d(x, kernel, stride, pad, ceil_mode=True)
    sums = functional.avg_pool2d(
        _bordered(x, windows, pooling, 0.0), kernel, stride, divisor_override=1
    )
    return sums / _sizes(tuple(x.shape[2:]), windows, pooling, x.device).to(x.dtype)


def _with_mask(x: Tensor, pooling: Pooling) -> Tensors:
    """The maxima, and where each stands in its image: −1 where no value is above the least."""
    windows, width = _windows(tuple(x.shape[2:]), pooling), x.shape[3]
    padded = _bordered(x, windows, pooling, _least(x))
    maxima, indices = functional.max_pool2d(
        padded, pooling.kernel, pooling.stride, return_indices=True
    )
    rows = indices.div(padded.shape[3], rounding_mode="floor") - pooling.pad[0]
    mask = rows * width + indices % padded.shape[3] - pooling.pad[1]
    return maxima, torch.where(maxima > _least(x), mask, -1).to(x.dtype)


def _least(x: Tensor) -> float:
    """From which Caffe begins to look for a maximum (−FLT_MAX)."""
    return torch.finfo(x.dtype).min


@lru_cache(SHAPES_KEPT)
def _windows(image: Shape, pooling: Pooling) -> Shape:
    """How many windows there are: rounded up; with a pad, none that starts behind the image."""
    counts = []
    for size, kernel, stride, pad in zip(
        image, pooling.kernel, pooling.stride, pooling.pad, strict=True
    ):
        room = size + 2 * pad - kernel
        count = (room // stride if pooling.floor else -(-room // stride)) + 1
        if any(pooling.pad) and (count - 1) * stride >= size + pad:
            count -= 1
        counts.append(count)
    return tuple(counts)


@lru_cache(SHAPES_KEPT)
def _is_alike(image: Shape, windows: Shape, pooling: Pooling) -> bool:
    """Whether torch lays the windows in the same way, rounding up.

    torch leaves out every window that starts behind the image, also without a pad, and takes
    pads up to half of the kernel.
    """
    for size, count, kernel, stride, pad in zip(
        image, windows, pooling.kernel, pooling.stride, pooling.pad, strict=True
    ):
        last = -(-(size + 2 * pad - kernel) // stride)
        if 2 * pad > kernel or count != last + (last * stride < size + pad):
            return False
    return True


def _bordered(x: Tensor, windows: Shape, pooling: Pooling, value: float) -> Tensor:
    """An image that the windows fill exactly."""
    ends = [
        (count - 1) * stride + kernel - pad - size
        for count, stride, kernel, pad, size in zip(
            windows, pooling.stride, pooling.kernel, pooling.pad, x.shape[2:], strict=True
        )
    ]
    return functional.pad(x, pads_of(pooling.pad, ends), value=value)


@lru_cache(SHAPES_KEPT)
def _sizes(image: Shape, windows: Shape, pooling: Pooling, device: torch.device) -> Tensor:
    """By what the sum in each window is divided: its size, with the pad but not beyond.

    0 or less for windows behind the image.
    """
    extents = []
    for size, count, kernel, stride, pad in zip(
        image, windows, pooling.kernel, pooling.stride, pooling.pad, strict=True
    ):
        starts = torch.arange(count, device=device) * stride - pad
        extents.append((starts + kernel).clamp(max=size + pad) - starts)
    return torch.outer(*extents).float()


def _spp(setup: Setup) -> Forward:
    """A pyramid: at each level twice as many windows along height and width."""
    parameter = setup.message.spp_param
    _refuse_stochastic(setup, parameter)
    is_maximum, levels = parameter.pool == parameter.MAX, parameter.pyramid_height

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        (x,) = bottoms
        pooled = [
            pool(x, _level(2**level, tuple(x.shape[2:]), is_maximum)) for level in range(levels)
        ]
        return pooled if levels == 1 else (torch.cat([each.flatten(1) for each in pooled], 1),)

    return forward


@lru_cache(SHAPES_KEPT)
def _level(bins: int, image: Shape, is_maximum: bool) -> Pooling:
    kernel = tuple(-(-size // bins) for size in image)
    pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, image, strict=True))
    return Pooling(kernel, kernel, pad, is_maximum)


POOLINGS: Mapping[str, Build] = {"Pooling": _pooling, "SPP": _spp}
