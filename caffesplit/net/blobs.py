"""The blobs of learned values that a layer has, as far as its own definition says.

Sources: LayerSetUp of each type in src/caffe/layers (Caffe 1.0); Blob::ShapeEquals in
src/caffe/blob.cpp for shapes in old files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from caffesplit.formats import schema
from caffesplit.formats.blobs import MAX_AXES, MAX_COUNT
from caffesplit.net.graph import Layer

Shape = tuple[int, ...]
Dim = int | range
Pattern = tuple[Dim, ...]
"""A shape, or for dimensions that the layer alone does not fix, the range of what they may be."""

ANY = range(1, MAX_COUNT + 1)
LEGACY_AXES = 4
"""Blobs of 2014 and before have so many axes: num, channels, height, width."""


def expected_blobs(layer: Layer, found: Sequence[Shape] = ()) -> tuple[Pattern, ...] | None:
    """The shapes of a layer's blobs in order, or None for a type whose blobs are not known.

    What the layer leaves open (the number of axes of its bottom) is taken from the shapes `found`.
    """
    if layer.type in LEARNING:
        return LEARNING[layer.type](layer, found)
    return () if layer.type in schema.layer_types() - OPEN else None


def fits(shape: Shape, pattern: Pattern) -> bool:
    """Whether Caffe loads a blob of this shape; as it does, with the leading ones of old files."""
    if len(shape) == LEGACY_AXES > len(pattern):
        pattern = (1,) * (LEGACY_AXES - len(pattern)) + pattern
    return len(shape) == len(pattern) and all(
        size in dim if isinstance(dim, range) else size == dim
        for size, dim in zip(shape, pattern, strict=True)
    )


def described(pattern: Pattern) -> str:
    """As a shape is written: (6, any, 3, 3)."""
    dims = ", ".join(map(_described, pattern))
    return f"({dims},)" if len(pattern) == 1 else f"({dims})"


def _described(dim: Dim) -> str:
    if isinstance(dim, int):
        return str(dim)
    return "any" if dim.step == 1 else f"a multiple of {dim.step}"


def _convolution(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    """(N, C/G, *K); (C, N/G, *K) for a Deconvolution; (N,)."""
    parameter = layer.message.convolution_param
    num_output, group = parameter.num_output, max(parameter.group, 1)
    channels: tuple[Dim, Dim] = (num_output, ANY)
    if layer.type == "Deconvolution":
        channels = (range(group, MAX_COUNT + 1, group), num_output // group)
    weight = (*channels, *_kernel(parameter, found))
    return (weight, (num_output,)) if parameter.bias_term else (weight,)


def _kernel(parameter: Any, found: Sequence[Shape]) -> tuple[int, ...]:
    """The kernel's extents; a single kernel_size holds for each spatial axis of the bottom."""
    if parameter.HasField("kernel_h") or parameter.HasField("kernel_w"):
        return (parameter.kernel_h, parameter.kernel_w)
    sizes = tuple(parameter.kernel_size)
    spatial_axes = len(found[0]) - 2 if found and len(found[0]) >= 2 else 2
    return sizes * spatial_axes if len(sizes) == 1 else sizes


def _inner_product(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    parameter = layer.message.inner_product_param
    outputs = parameter.num_output
    weight: Pattern = (ANY, outputs) if parameter.transpose else (outputs, ANY)
    return (weight, (outputs,)) if parameter.bias_term else (weight,)


def _embed(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    parameter = layer.message.embed_param
    weight = (parameter.input_dim, parameter.num_output)
    return (weight, (parameter.num_output,)) if parameter.bias_term else (weight,)


def _scale(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    """A second bottom takes the place of the learned scale; the bias is as large as the scale."""
    parameter = layer.message.scale_param
    if len(layer.bottoms) > 1:
        return (_axes(-1, found),) if parameter.bias_term else ()
    scale = _axes(parameter.num_axes, found)
    bias = found[0] if found and fits(found[0], scale) else scale
    return (scale, bias) if parameter.bias_term else (scale,)


def _bias(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    if len(layer.bottoms) > 1:
        return ()
    return (_axes(layer.message.bias_param.num_axes, found),)


def _axes(num_axes: int, found: Sequence[Shape]) -> Pattern:
    """So many axes; -1 for as many as the bottom has."""
    if num_axes < 0:
        num_axes = len(found[0]) if found else 1
    return (ANY,) * min(num_axes, MAX_AXES)


def _batch_norm(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    """Sums of means and of variances, and the factor they are divided by."""
    channels = found[0][-1] if found and fits(found[0], (ANY,)) else ANY
    return (ANY,), (channels,), (1,)


def _prelu(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    return ((),) if layer.message.prelu_param.channel_shared else ((ANY,),)


def _parameter(layer: Layer, found: Sequence[Shape]) -> tuple[Pattern, ...]:
    return (tuple(layer.message.parameter_param.shape.dim),)


LEARNING: Mapping[str, Callable[[Layer, Sequence[Shape]], tuple[Pattern, ...]]] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "Embed": _embed,
    "InnerProduct": _inner_product,
    "Parameter": _parameter,
    "PReLU": _prelu,
    "Scale": _scale,
}
OPEN = frozenset({"LSTM", "Python", "RNN"})
"""Types whose blobs depend on their bottoms, or on code of one's own."""
