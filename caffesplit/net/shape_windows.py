"""Shapes of the layers that move a window over their bottom: convolution, pooling and the like.

Sources: LayerSetUp, Reshape and compute_output_shape in src/caffe/layers: base_conv_layer.cpp,
conv_layer.cpp, deconv_layer.cpp, im2col_layer.cpp, pooling_layer.cpp, spp_layer.cpp (Caffe 1.0;
round_mode since).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from caffesplit.net.graph import Layer
from caffesplit.net.partial import (
    Partial,
    Refused,
    Size,
    agree,
    axis_of,
    count,
    expect_axes,
    merged,
    shown,
)

Sides = tuple[int, ...]
"""A kernel's size, a stride, a pad or a dilation for each spatial axis."""


def convolution(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """(…, C, *spatial) → (…, num_output, *windows) for each bottom."""
    parameter = layer.message.convolution_param
    bottom = bottoms[0]
    for other in bottoms[1:]:
        if not agree(bottom, other):
            message = f"bottoms {shown(bottom)} and {shown(other)}, expected equal shapes"
            raise Refused("equal-shapes", message)
        bottom = merged(bottom, other)
    channel_axis = axis_of(bottom, parameter.axis)
    channels, spatial = bottom[channel_axis], bottom[channel_axis + 1 :]
    if channels is not None and channels % parameter.group:
        message = f"group {parameter.group} does not divide the {channels} channels of the bottom"
        raise Refused("groups", f"{message}, expected that it does")
    windows = (_deconvolved if layer.type == "Deconvolution" else _convolved)(parameter, spatial)
    top = (*bottom[:channel_axis], int(parameter.num_output), *windows)
    return (top,) * len(layer.tops)


def im2col(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """(…, C, *spatial) → (…, C · kernel, *windows)."""
    parameter, (bottom,) = layer.message.convolution_param, bottoms
    channel_axis = axis_of(bottom, parameter.axis)
    channels, spatial = bottom[channel_axis], bottom[channel_axis + 1 :]
    if not spatial:
        message = f"a bottom {shown(bottom)} has no axis behind axis {channel_axis}"
        raise Refused("number-of-axes", f"{message}, expected 1 or more")
    kernel = sides(parameter, "kernel", len(spatial))
    columns = None if channels is None else channels * prod(kernel)
    return ((*bottom[:channel_axis], columns, *_convolved(parameter, spatial)),)


def pooling(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """(N, C, H, W) → (N, C, windows, windows), and the same for the mask."""
    parameter, (bottom,) = layer.message.pooling_param, bottoms
    expect_axes(bottom, 4, 4)
    if parameter.global_pooling:
        return ((*bottom[:2], 1, 1),) * len(layer.tops)
    kernel = pooling_sides(parameter, "kernel", parameter.kernel_size)
    stride = pooling_sides(parameter, "stride", parameter.stride)
    pad = pooling_sides(parameter, "pad", parameter.pad)
    floor = parameter.round_mode == parameter.FLOOR
    top = (*bottom[:2], *_pooled(bottom[2:], kernel, stride, pad, floor))
    return (top,) * len(layer.tops)


def spp(layer: Layer, bottoms: Sequence[Partial]) -> tuple[Partial, ...]:
    """(N, C, H, W) → (N, C · all levels' windows), or one level's (N, C, 1, 1)."""
    levels, (bottom,) = layer.message.spp_param.pyramid_height, bottoms
    expect_axes(bottom, 4, 4)
    if levels == 0:
        raise Refused("pyramids", "pyramid_height is missing or 0, expected 1 or more")
    if 0 in bottom[2:]:
        raise Refused("windows", f"a bottom {shown(bottom)}, expected a height and width above 0")
    if levels == 1:
        return ((*bottom[:2], 1, 1),)
    num, channels, height, width = bottom
    if channels is None or height is None or width is None:
        return ((num, None),)
    bins = (2**level for level in range(levels))
    return ((num, channels * sum(_level(each, (height, width)) for each in bins)),)


def sides(parameter: Any, name: str, axes: int) -> Sides:
    """One of a ConvolutionParameter's extents for each of so many spatial axes."""
    pair = (f"{name}_h", f"{name}_w")
    given = {field.name for field, _ in parameter.ListFields()}
    if given.intersection(pair):
        if axes != 2:
            message = f"{pair[0]} and {pair[1]} for {axes} spatial axes, expected 2"
            raise Refused("number-of-axes", message)
        return tuple(getattr(parameter, side) for side in pair)
    field, default = ("kernel_size", ()) if name == "kernel" else (name, DEFAULTS[name])
    sizes = tuple(getattr(parameter, field)) or default
    if len(sizes) not in (1, axes):
        message = f"{field} is given {len(sizes)} times for {axes} spatial axes"
        raise Refused("number-of-axes", f"{message}, expected once, or once for each")
    return sizes * axes if len(sizes) == 1 else sizes


DEFAULTS: dict[str, Sides] = {"stride": (1,), "pad": (0,), "dilation": (1,)}


def pooling_sides(parameter: Any, name: str, square: int) -> Sides:
    """A PoolingParameter's extents of height and width, of which `square` stands for both."""
    if parameter.HasField(f"{name}_h"):
        return getattr(parameter, f"{name}_h"), getattr(parameter, f"{name}_w")
    return square, square


def _convolved(parameter: Any, spatial: Partial) -> Partial:
    """(size + 2·pad − extent) / stride + 1, the quotient rounded towards zero as C does."""
    kernel, stride, pad, dilation = _geometry(parameter, spatial)
    tops: list[Size] = []
    for size, k, s, p, d in zip(spatial, kernel, stride, pad, dilation, strict=True):
        room = None if size is None else size + 2 * p - (d * (k - 1) + 1)
        tops.append(None if room is None else abs(room) // s * (-1 if room < 0 else 1) + 1)
    return _expect_windows(tuple(tops), spatial, kernel, pad)


def _deconvolved(parameter: Any, spatial: Partial) -> Partial:
    """stride · (size − 1) + extent − 2·pad."""
    kernel, stride, pad, dilation = _geometry(parameter, spatial)
    tops = tuple(
        None if size is None else s * (size - 1) + d * (k - 1) + 1 - 2 * p
        for size, k, s, p, d in zip(spatial, kernel, stride, pad, dilation, strict=True)
    )
    return _expect_windows(tops, spatial, kernel, pad)


def _geometry(parameter: Any, spatial: Partial) -> tuple[Sides, Sides, Sides, Sides]:
    axes = len(spatial)
    return (
        sides(parameter, "kernel", axes),
        sides(parameter, "stride", axes),
        sides(parameter, "pad", axes),
        sides(parameter, "dilation", axes),
    )


def _pooled(spatial: Partial, kernel: Sides, stride: Sides, pad: Sides, floor: bool) -> Partial:
    """The quotient rounded up; only padded windows are cut off that start behind the image."""
    tops: list[Size] = []
    for size, k, s, p in zip(spatial, kernel, stride, pad, strict=True):
        if size is None:
            tops.append(None)
            continue
        room = size + 2 * p - k
        windows = (room // s if floor else -(-room // s)) + 1
        if any(pad) and (windows - 1) * s >= size + p:
            windows -= 1
        tops.append(windows)
    return _expect_windows(tuple(tops), spatial, kernel, pad)


def _expect_windows(tops: Partial, spatial: Partial, kernel: Sides, pad: Sides) -> Partial:
    """Caffe takes a blob without values, but stops where a layer touches them."""
    if any(size is not None and size < 1 for size in tops):
        message = f"a kernel {shown(kernel)} with pad {shown(pad)} on {shown(spatial)} leaves"
        raise Refused("windows", f"{message} {shown(tops)}, expected 1 window or more on each axis")
    return tops


def _level(bins: int, spatial: Sides) -> int:
    """How many windows one level of a spatial pyramid has."""
    kernel = tuple(-(-size // bins) for size in spatial)
    pad = tuple((k * bins - size + 1) // 2 for k, size in zip(kernel, spatial, strict=True))
    if any(pad) and any(p >= k for p, k in zip(pad, kernel, strict=True)):
        message = f"a pyramid with {bins} bins on {shown(spatial)} needs pad {shown(pad)}"
        raise Refused("pyramids", f"{message}, expected less than the kernel {shown(kernel)}")
    return count(_pooled(spatial, kernel, kernel, pad, floor=False)) or 0
