"""Kernel algebra: linear maps between blobs, composed, added and stacked into one convolution.

A map y = W ∗ x + b takes C channels to N. Its kernel is dense, (N, C, *K): groups are written
out as blocks, an InnerProduct has no spatial axes. Kernels are computed in float64 when they are
asked for, some input channels at a time, so that a fold needs little more memory than its result.

Sources: convolution is associative and linear; ACNet (arXiv:1908.03930), RepVGG
(arXiv:2101.03697) and DBB (arXiv:2103.13425) use the same identities. That a 1×1 layer with a
bias does not fold into a padded one behind it is DBB's remark on padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float64]
Blob: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Pattern: TypeAlias = npt.NDArray[np.bool_]

ALL = slice(None)


class UnfoldableError(ValueError):
    """Maps that are no single convolution together; the text says why."""


@dataclass(frozen=True)
class Axis:
    """How a kernel lies along one spatial axis of its input."""

    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    @property
    def taps(self) -> range:
        """The pixels that the taps read for output 0, as offsets from input pixel 0."""
        first = -self.pad
        return range(first, first + self.kernel * self.dilation, self.dilation)

    @property
    def surplus(self) -> int:
        """Padding beyond what keeps the size: two kernels of one stride and surplus give
        outputs of one size, whatever the input's."""
        return 2 * self.pad - self.dilation * (self.kernel - 1)

    @property
    def is_point(self) -> bool:
        return self.kernel == 1 and self.pad == 0


@dataclass(frozen=True)
class Picks:
    """Output i is channel `channels[i]` of the input times `factors[i]`."""

    channels: npt.NDArray[np.intp]
    factors: Matrix


@dataclass(frozen=True)
class Linear:
    """A linear map from C = `channels` to N channels.

    `weight(columns)` is the kernel (N, c, *K) of those input channels, `bias` is (N,).
    """

    channels: int
    axes: tuple[Axis, ...]
    weight: Callable[[slice], Matrix]
    bias: Matrix
    pattern: Pattern | None = None
    """(N, C), False where the structure (groups, picked channels) makes the kernel 0; None is
    True throughout, or told by `picks`."""
    picks: Picks | None = None
    """Of a map that takes some channels of its input, each times a factor, and none twice."""

    @property
    def outputs(self) -> int:
        return len(self.bias)

    @property
    def is_dense(self) -> bool:
        """Whether every output may read every channel."""
        return self.pattern is None and self.picks is None

    @property
    def is_pointwise(self) -> bool:
        return all(axis.is_point for axis in self.axes)

    @property
    def group(self) -> int:
        """The most groups that a layer which computes this map can have."""
        if self.pattern is None:
            return 1
        rows, columns = np.nonzero(self.pattern)
        most = math.gcd(self.outputs, self.channels)
        return next(
            group
            for group in range(most, 0, -1)
            if most % group == 0
            and (rows * group // self.outputs == columns * group // self.channels).all()
        )

    @property
    def count(self) -> int:
        """The weights of a layer that computes this map."""
        taps = math.prod(axis.kernel for axis in self.axes)
        return self.outputs * self.channels // self.group * taps


def convolution(weight: Blob, bias: Blob | None, group: int, axes: tuple[Axis, ...]) -> Linear:
    """The map of a layer with weights (N, C/G, *K) and perhaps a bias (N,)."""
    outputs, share = weight.shape[0] // group, weight.shape[1]

    def columns(wanted: slice) -> Matrix:
        if group == 1:
            return weight[:, wanted].astype(np.float64)
        taken = range(share * group)[wanted]
        dense = np.zeros((len(weight), len(taken), *weight.shape[2:]))
        for index in range(taken.start // share, -(-taken.stop // share)):
            rows = slice(index * outputs, (index + 1) * outputs)
            first, last = max(taken.start, index * share), min(taken.stop, (index + 1) * share)
            inside = slice(first - index * share, last - index * share)
            dense[rows, first - taken.start : last - taken.start] = weight[rows, inside]
        return dense

    offsets = np.zeros(len(weight)) if bias is None else bias.reshape(-1).astype(np.float64)
    pattern = None
    if group > 1:
        pattern = np.kron(np.eye(group, dtype=bool), np.ones((outputs, share), bool))
    return Linear(share * group, axes, columns, offsets, pattern)


def diagonal(scale: Matrix, shift: Matrix, axes: int) -> Linear:
    """y = scale · x + shift, per channel, over so many spatial axes."""
    return _picking(Picks(np.arange(len(scale)), scale), len(scale), shift, axes)


def identity(channels: int, axes: int) -> Linear:
    """y = x."""
    return diagonal(np.ones(channels), np.zeros(channels), axes)


def selection(kept: range, channels: int, axes: int) -> Linear:
    """Some of the channels of x, in order."""
    picks = Picks(np.arange(channels)[kept.start : kept.stop], np.ones(len(kept)))
    return _picking(picks, channels, np.zeros(len(kept)), axes)


def _picking(picks: Picks, channels: int, bias: Matrix, axes: int) -> Linear:
    def columns(wanted: slice) -> Matrix:
        taken = range(channels)[wanted]
        inside = (picks.channels >= taken.start) & (picks.channels < taken.stop)
        matrix = np.zeros((len(bias), len(taken)))
        matrix[np.flatnonzero(inside), picks.channels[inside] - taken.start] = picks.factors[inside]
        return matrix.reshape(*matrix.shape, *[1] * axes)

    return Linear(channels, (Axis(),) * axes, columns, bias, None, picks)


def then(first: Linear, second: Linear) -> Linear:
    """`second` of what `first` gives.

    Raises:
        UnfoldableError: if both have spatial kernels, or `second` would pad what a bias of `first`
            has moved away from 0.
    """
    if first.outputs != second.channels:
        raise UnfoldableError(f"{first.outputs} channels meet a layer of {second.channels}")
    if second.is_pointwise:
        axes = tuple(
            replace(axis, stride=axis.stride * after.stride)
            for axis, after in zip(first.axes, second.axes, strict=True)
        )
        if second.picks is not None:
            return _picked(first, second.picks, second.bias, axes)
        return Linear(
            first.channels,
            axes,
            lambda columns: _mixed(_points(second.weight(ALL)), first.weight(columns)),
            _points(second.weight(ALL)) @ first.bias + second.bias,
            _pattern_of_both(first, second),
        )
    if not first.is_pointwise or any(axis.stride > 1 for axis in first.axes):
        raise UnfoldableError("two spatial kernels in a row are one larger kernel")
    if first.bias.any() and any(axis.pad for axis in second.axes):
        raise UnfoldableError("a padded kernel behind a bias: the padding has none")
    taps = second.weight(ALL).reshape(second.outputs, second.channels, -1).sum(axis=2)
    return Linear(
        first.channels,
        second.axes,
        lambda columns: np.moveaxis(
            np.tensordot(second.weight(ALL), _points(first.weight(columns)), (1, 0)), -1, 1
        ),
        taps @ first.bias + second.bias,
        _pattern_of_both(first, second),
    )


def _picked(first: Linear, picks: Picks, bias: Matrix, axes: tuple[Axis, ...]) -> Linear:
    """Some outputs of `first`, each times a factor."""
    pattern = first.pattern[picks.channels] if first.pattern is not None else None
    both = None
    if first.picks is not None:
        factors = first.picks.factors[picks.channels] * picks.factors
        both = Picks(first.picks.channels[picks.channels], factors)
    return Linear(
        first.channels,
        axes,
        lambda columns: _scaled(first.weight(columns)[picks.channels], picks.factors),
        first.bias[picks.channels] * picks.factors + bias,
        pattern,
        both,
    )


def summed(maps: Sequence[Linear], coefficients: Sequence[float]) -> Linear:
    """The sum of maps of one input, each times its coefficient.

    Raises:
        UnfoldableError: if their outputs cannot be of one size.
    """
    axes = _common_axes(maps)

    def columns(wanted: slice) -> Matrix:
        total = coefficients[0] * _placed(maps[0], axes, wanted)
        for factor, each in zip(coefficients[1:], maps[1:], strict=True):
            total += factor * _placed(each, axes, wanted)
        return total

    if len({each.outputs for each in maps}) > 1:
        raise UnfoldableError("a sum of different numbers of channels")
    biases = [factor * each.bias for factor, each in zip(coefficients, maps, strict=True)]
    pattern = None
    if not any(each.is_dense for each in maps):
        pattern = np.logical_or.reduce([_full_pattern(each) for each in maps])
    return Linear(maps[0].channels, axes, columns, np.sum(biases, axis=0), pattern)


def stacked(maps: Sequence[Linear]) -> Linear:
    """Maps of one input, their output channels one behind the other.

    Raises:
        UnfoldableError: if their outputs cannot be of one size.
    """
    axes = _common_axes(maps)
    return Linear(
        maps[0].channels,
        axes,
        lambda columns: np.concatenate([_placed(each, axes, columns) for each in maps]),
        np.concatenate([each.bias for each in maps]),
        None
        if all(each.is_dense for each in maps)
        else np.concatenate([_full_pattern(each) for each in maps]),
    )


def _full_pattern(each: Linear) -> Pattern:
    if each.pattern is not None:
        return each.pattern
    if each.picks is None:
        return np.ones((each.outputs, each.channels), bool)
    pattern = np.zeros((each.outputs, each.channels), bool)
    pattern[np.arange(each.outputs), each.picks.channels] = True
    return pattern


def _pattern_of_both(first: Linear, second: Linear) -> Pattern | None:
    """Where `second` of `first` may be other than 0."""
    shape = (second.outputs, first.channels)
    if first.picks is not None and len(first.picks.channels) == first.channels:
        return second.pattern if _in_order(first.picks) else None
    if first.is_dense:
        if second.is_dense:
            return None
        pattern = np.broadcast_to(_full_pattern(second).any(axis=1, keepdims=True), shape)
    elif second.is_dense:
        pattern = np.broadcast_to(_full_pattern(first).any(axis=0), shape)
    else:
        own, its = _full_pattern(second).astype(np.float32), _full_pattern(first)
        pattern = (own @ its.astype(np.float32)) > 0
    return None if pattern.all() else pattern


def _in_order(picks: Picks) -> bool:
    return bool((picks.channels == np.arange(len(picks.channels))).all())


def _points(weight: Matrix) -> Matrix:
    points: Matrix = weight.reshape(weight.shape[:2])
    return points


def _mixed(matrix: Matrix, weight: Matrix) -> Matrix:
    """`matrix` (N, M) over the rows of `weight` (M, c, *K).

    Rows with a single value each pick a kernel: a product would add zeros to it, and make a −0
    a 0.
    """
    if (np.count_nonzero(matrix, axis=1) <= 1).all():
        picked = np.abs(matrix).argmax(axis=1)
        return _scaled(weight[picked], matrix[np.arange(len(matrix)), picked])
    mixed: Matrix = np.tensordot(matrix, weight, 1)
    return mixed


def _scaled(kernels: Matrix, factors: Matrix) -> Matrix:
    if (factors == 1).all():
        return kernels
    scaled: Matrix = kernels * factors.reshape(-1, *[1] * (kernels.ndim - 1))
    return scaled


def _placed(each: Linear, axes: tuple[Axis, ...], columns: slice) -> Matrix:
    """The kernel of a map within the extents of `axes`, which hold all its taps."""
    weight = each.weight(columns)
    if each.axes == axes:
        return weight
    placed = np.zeros((*weight.shape[:2], *(axis.kernel for axis in axes)))
    places = (
        ALL,
        ALL,
        *(
            slice(
                (own.taps[0] - axis.taps[0]) // axis.dilation,
                (own.taps[-1] - axis.taps[0]) // axis.dilation + 1,
                max(own.dilation // axis.dilation, 1),
            )
            for own, axis in zip(each.axes, axes, strict=True)
        ),
    )
    placed[places] = weight
    return placed


def _common_axes(maps: Sequence[Linear]) -> tuple[Axis, ...]:
    if len({each.channels for each in maps}) > 1:
        raise UnfoldableError("branches that read different numbers of channels")
    return tuple(map(_common_axis, zip(*(each.axes for each in maps), strict=True)))


def _common_axis(own: tuple[Axis, ...]) -> Axis:
    """An axis whose taps hold those of all: one of theirs if there is such a one."""
    if len({axis.stride for axis in own}) > 1:
        raise UnfoldableError("branches of different strides")
    largest = max(own, key=lambda axis: axis.kernel)
    pixels = {pixel for axis in own for pixel in axis.taps}
    for axis in (largest, *own):
        if pixels <= set(axis.taps):
            return axis
    return _spanning_axis(pixels, largest)


def _spanning_axis(pixels: set[int], largest: Axis) -> Axis:
    """The shortest axis with these pixels among its taps and outputs of `largest`'s size."""
    dilation = math.gcd(*(pixel - min(pixels) for pixel in pixels))
    surplus = largest.surplus
    for spread in (dilation, 1):
        least = max(0, -min(pixels), max(pixels) + surplus)
        for pad in range(least, least + 2 * spread):
            meets = (min(pixels) + pad) % spread == 0
            if meets and (2 * pad - surplus) % spread == 0:
                kernel = (2 * pad - surplus) // spread + 1
                return Axis(kernel, largest.stride, pad, spread)
    raise AssertionError("with taps one pixel apart every pad meets them")
