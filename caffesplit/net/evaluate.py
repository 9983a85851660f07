"""The TEST-phase forward pass of linear layers, in float64, for a single image.

It checks what was folded, layer by layer, without the algebra that folds.
Sources: Forward_cpu of each type in src/caffe/layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from caffesplit.net.graph import Layer

Blob: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Values: TypeAlias = npt.NDArray[np.float64]
Bottoms: TypeAlias = Sequence[Values]

MAX_VALUES = 1 << 22
"""Weights that are converted to float64 at a time."""


def forward(
    layers: Iterable[Layer], weights: Mapping[str, Sequence[Blob]], blobs: Mapping[str, Values]
) -> dict[str, Values]:
    """All blobs after the layers have run, one after the other, on `blobs` of shape (1, C, …).

    Raises:
        ValueError: if a layer's bottoms do not fit together, as Caffe would refuse too.
        KeyError: for a layer type that is not linear, or a blob that is not there.
    """
    values = dict(blobs)
    for layer in layers:
        bottoms = [values[name] for name in layer.bottoms]
        tops = LINEAR[layer.type](layer, bottoms, weights.get(layer.name, ()))
        values |= dict(zip(layer.tops, tops, strict=True))
    return values


def _spatial(layer: Layer, axes: int) -> list[tuple[int, int, int, int]]:
    """Kernel, stride, pad and dilation of a convolution along each of its spatial axes.

    Source: BaseConvolutionLayer::LayerSetUp (src/caffe/layers/base_conv_layer.cpp).
    """
    parameter = layer.message.convolution_param

    def along(name: str, default: int) -> list[int]:
        sides = [f"{name.removesuffix('_size')}_{side}" for side in "hw"]
        if any(hasattr(parameter, side) and parameter.HasField(side) for side in sides):
            return [getattr(parameter, side) for side in sides]
        given = list(getattr(parameter, name)) or [default]
        return given * axes if len(given) == 1 else given

    return list(
        zip(
            along("kernel_size", 0),
            along("stride", 1),
            along("pad", 0),
            along("dilation", 1),
            strict=True,
        )
    )


def statistics(layer: Layer, blobs: Sequence[Blob]) -> tuple[Values, Values]:
    """Scale and shift per channel of a BatchNorm in TEST: (x − mean) / √(variance + eps).

    The stored sums are divided by the factor; a factor of 0 makes them 0.
    Source: BatchNormLayer::Forward_cpu (src/caffe/layers/batch_norm_layer.cpp).
    """
    mean, variance, total = (np.asarray(blob, np.float64).reshape(-1) for blob in blobs[:3])
    factor = 1 / total[0] if total[0] else 0.0
    scale = 1 / np.sqrt(variance * factor + layer.message.batch_norm_param.eps)
    return scale, -mean * factor * scale


def _convolution(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    (image,), (weight, *bias) = (bottom[0] for bottom in bottoms), blobs
    axes = _spatial(layer, image.ndim - 1)
    padded = np.pad(image, [(0, 0), *((pad, pad) for _, _, pad, _ in axes)])
    sizes = [
        (size - (dilation * (kernel - 1) + 1)) // stride + 1
        for size, (kernel, stride, _, dilation) in zip(padded.shape[1:], axes, strict=True)
    ]
    # For each tap, the pixels it reads for all outputs: (C, number of taps, number of outputs).
    windows = []
    for taps in itertools.product(*(range(kernel) for kernel, _, _, _ in axes)):
        read = [
            slice(tap * dilation, tap * dilation + (size - 1) * stride + 1, stride)
            for tap, size, (_, stride, _, dilation) in zip(taps, sizes, axes, strict=True)
        ]
        window = (slice(None), *read)
        windows.append(padded[window].reshape(len(image), -1))
    pixels = np.stack(windows, axis=1)
    group = layer.group
    kernels = np.split(weight.reshape(len(weight), -1), group)
    parts = [
        _product(kernel, share.reshape(kernel.shape[1], -1))
        for kernel, share in zip(kernels, np.split(pixels, group), strict=True)
    ]
    result = np.concatenate(parts).reshape(len(weight), *sizes)
    if bias:
        result += bias[0].reshape(-1, *[1] * len(sizes))
    return [result[np.newaxis]]


def _inner_product(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    (bottom,), (weight, *bias) = bottoms, blobs
    parameter = layer.message.inner_product_param
    outer = bottom.shape[: parameter.axis]
    weight = weight.reshape(weight.shape[-2:])
    weight = weight.T if parameter.transpose else weight
    rows = bottom.reshape(-1, weight.shape[1])
    result = _product(weight, rows.T).T
    if bias:
        result = result + bias[0].reshape(-1)
    return [result.reshape(*outer, -1)]


def _product(weight: Blob, values: Values) -> Values:
    """`weight` (N, K) times `values` (K, P), some rows at a time."""
    step = max(MAX_VALUES // max(weight.shape[1], 1), 1)
    blocks = [
        weight[start : start + step].astype(np.float64) @ values
        for start in range(0, len(weight), step)
    ]
    return np.concatenate(blocks)


def _concat(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    parameter = layer.message.concat_param
    axis = parameter.concat_dim if parameter.HasField("concat_dim") else parameter.axis
    return [np.concatenate(bottoms, axis)]


def _slice(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    parameter = layer.message.slice_param
    axis = parameter.slice_dim if parameter.HasField("slice_dim") else parameter.axis
    points = list(parameter.slice_point) or len(layer.tops)
    return np.split(bottoms[0], points, axis)


def _eltwise(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    factors = list(layer.message.eltwise_param.coeff) or [1.0] * len(bottoms)
    if len({bottom.shape for bottom in bottoms}) > 1:
        raise ValueError(f"layer {layer.name!r}: bottoms of different shapes")
    total = sum(factor * bottom for factor, bottom in zip(factors, bottoms, strict=True))
    return [np.asarray(total)]


def _batch_norm(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    scale, shift = statistics(layer, blobs)
    return [bottoms[0] * _per_channel(scale, bottoms[0]) + _per_channel(shift, bottoms[0])]


def _scale(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    result = bottoms[0] * _per_channel(blobs[0], bottoms[0])
    return [result + _per_channel(blobs[1], result) if len(blobs) > 1 else result]


def _bias(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    return [bottoms[0] + _per_channel(blobs[0], bottoms[0])]


def _power(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    parameter = layer.message.power_param
    return [parameter.shift + parameter.scale * bottoms[0]]


def _split(layer: Layer, bottoms: Bottoms, blobs: Sequence[Blob]) -> list[Values]:
    return [bottoms[0]] * len(layer.tops)


def _per_channel(values: Blob, bottom: Values) -> Values:
    return np.asarray(values, np.float64).reshape(-1, *[1] * (bottom.ndim - 2))


LINEAR: Mapping[str, Callable[[Layer, Bottoms, Sequence[Blob]], list[Values]]] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Concat": _concat,
    "Convolution": _convolution,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "Power": _power,
    "Scale": _scale,
    "Slice": _slice,
    "Split": _split,
}
"""Layer type → its forward pass. Eltwise sums, Power is 1, Scale and Bias have one bottom."""
