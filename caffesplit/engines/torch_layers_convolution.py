"""Convolution, Deconvolution and Im2col, over any number of axes.

Sources: base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp and im2col_layer.cpp in
src/caffe/layers (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    pads_of,
)
from caffesplit.net.blobs import Shape
from caffesplit.net.shape_windows import sides


@dataclass(frozen=True)
class Geometry:
    """A window's extents along each spatial axis."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape

    def extents(self) -> Shape:
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


def _geometry(setup: Setup) -> Geometry:
    parameter, axes = setup.message.convolution_param, _spatial_axes(setup)
    names = ("kernel", "stride", "pad", "dilation")
    return Geometry(*(sides(parameter, name, axes) for name in names))


def _spatial_axes(setup: Setup) -> int:
    return len(setup.bottoms[0]) - _channel_axis(setup) - 1


def _channel_axis(setup: Setup) -> int:
    return axis_of(setup.bottoms[0], setup.message.convolution_param.axis)


def _convolution(setup: Setup) -> Forward:
    return _convolving(setup, convolve)


def _deconvolution(setup: Setup) -> Forward:
    return _convolving(setup, deconvolve)


Convolve = Callable[[Tensor, Tensor, "Tensor | None", Geometry, int], Tensor]


def _convolving(setup: Setup, function: Convolve) -> Forward:
    """Each bottom by itself, all with the same blobs."""
    geometry, group = _geometry(setup), int(setup.message.convolution_param.group)
    axis = _channel_axis(setup)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        weight, bias = blobs[0], blobs[1] if len(blobs) > 1 else None
        return [
            _per_item(bottom, axis, lambda x: function(x, weight, bias, geometry, group))
            for bottom in bottoms
        ]

    return forward


def _per_item(bottom: Tensor, axis: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply to (items, C, …) what has its channels on another axis than 1."""
    if axis == 1:
        return function(bottom)
    before, behind = bottom.shape[:axis], bottom.shape[axis:]
    top = function(bottom.reshape(prod(before), *behind))
    return top.reshape(*before, *top.shape[1:])


_CONVOLVE = (None, functional.conv1d, functional.conv2d, functional.conv3d)
_DECONVOLVE = (
    None,
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, group: int
) -> Tensor:
    """(B, C, *spatial), weight (N, C/G, *kernel), bias (N,) → (B, N, *windows)."""
    axes = x.dim() - 2
    if axes == 0:
        return convolve(x[..., None], weight[..., None], bias, POINT, group)[..., 0]
    x = _with_room(x, geometry)
    if axes >= len(_CONVOLVE):
        return _convolve_columns(x, weight, bias, geometry, group)
    function: Any = _CONVOLVE[axes]
    top: Tensor = function(x, weight, bias, geometry.stride, geometry.pad, geometry.dilation, group)
    return top


POINT = Geometry((1,), (1,), (0,), (1,))


def _with_room(x: Tensor, geometry: Geometry) -> Tensor:
    """Zeros behind a bottom that is smaller than the window but makes a top all the same.

    A quotient between −1 and 0 is rounded to 0 in C, which makes one window.
    """
    sizes = zip(x.shape[2:], geometry.pad, geometry.extents(), strict=True)
    missing = [max(0, extent - size - 2 * pad) for size, pad, extent in sizes]
    return functional.pad(x, pads_of([0] * len(missing), missing)) if any(missing) else x


def _convolve_columns(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, group: int
) -> Tensor:
    """By matrix products, for any number of axes."""
    columns = to_columns(x, geometry)
    batch, _, *windows = columns.shape
    kernels = weight.reshape(group, weight.shape[0] // group, -1)
    top = torch.einsum("gnk,bgkw->bgnw", kernels, columns.reshape(batch, group, -1, prod(windows)))
    top = top.reshape(batch, -1, *windows)
    return top if bias is None else top + bias.reshape(-1, *(1,) * len(windows))


def deconvolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, group: int
) -> Tensor:
    """(B, C, *spatial), weight (C, N/G, *kernel), bias (N,) → (B, N, *spatial)."""
    axes = x.dim() - 2
    if axes == 0:
        return deconvolve(x[..., None], weight[..., None], bias, POINT, group)[..., 0]
    if axes >= len(_DECONVOLVE):
        return _deconvolve_spread(x, weight, bias, geometry, group)
    function: Any = _DECONVOLVE[axes]
    top: Tensor = function(
        x, weight, bias, geometry.stride, geometry.pad, 0, group, geometry.dilation
    )
    return top


def _deconvolve_spread(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, group: int
) -> Tensor:
    """As a convolution by the flipped kernel of the bottom with zeros between its values."""
    axes = x.dim() - 2
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], geometry.stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *sizes)
    places = (slice(None), slice(None), *(slice(None, None, s) for s in geometry.stride))
    spread[places] = x
    border = [e - 1 - p for e, p in zip(geometry.extents(), geometry.pad, strict=True)]
    spread = functional.pad(spread, pads_of(border, border))
    grouped = weight.reshape(group, -1, *weight.shape[1:]).transpose(1, 2)
    flipped = grouped.flip(*range(3, 3 + axes)).reshape(-1, grouped.shape[2], *weight.shape[2:])
    still = Geometry(geometry.kernel, (1,) * axes, (0,) * axes, geometry.dilation)
    return _convolve_columns(spread, flipped, bias, still, group)


def _im2col(setup: Setup) -> Forward:
    geometry, axis = _geometry(setup), _channel_axis(setup)
    return elementwise(lambda bottom: _per_item(bottom, axis, lambda x: to_columns(x, geometry)))


def to_columns(x: Tensor, geometry: Geometry) -> Tensor:
    """(B, C, *spatial) → (B, C · kernel, *windows): each window's values on the channel axis."""
    axes = x.dim() - 2
    x = functional.pad(_with_room(x, geometry), pads_of(geometry.pad, geometry.pad))
    for number, (kernel, stride, dilation, extent) in enumerate(
        zip(geometry.kernel, geometry.stride, geometry.dilation, geometry.extents(), strict=True)
    ):
        axis = 2 + 2 * number
        starts = torch.arange(0, x.shape[axis] - extent + 1, stride, device=x.device)
        offsets = torch.arange(kernel, device=x.device) * dilation
        taken = (offsets[:, None] + starts).flatten()
        x = x.index_select(axis, taken).unflatten(axis, (kernel, len(starts)))
    order = (0, 1, *range(2, 2 + 2 * axes, 2), *range(3, 3 + 2 * axes, 2))
    return x.permute(order).flatten(1, 1 + axes)


CONVOLUTIONS: Mapping[str, Build] = {
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Im2col": _im2col,
}
