"""Layers that multiply by learned values, or add them, other than convolutions.

Sources: inner_product_layer.cpp, embed_layer.cpp, scale_layer.cpp, bias_layer.cpp and
parameter_layer.hpp in Caffe 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from caffesplit.engines.torch_layers_setup import Build, Forward, Setup, Tensors, axis_of
from caffesplit.engines.torch_layers_shape import expect_below


def _inner_product(setup: Setup) -> Forward:
    parameter = setup.message.inner_product_param
    axis, transpose = axis_of(setup.bottoms[0], parameter.axis), parameter.transpose

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        weight, bias = blobs[0], blobs[1] if len(blobs) > 1 else None
        rows = bottoms[0].flatten(axis)
        return (functional.linear(rows, weight.t() if transpose else weight, bias),)

    return forward


def _embed(setup: Setup) -> Forward:
    classes = setup.message.embed_param.input_dim

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        indices = bottoms[0].detach().long()
        expect_below(setup, "index", indices, classes)
        top = functional.embedding(indices, blobs[0])
        return (top + blobs[1] if len(blobs) > 1 else top,)

    return forward


def _scale(setup: Setup) -> Forward:
    """By a blob or by the second bottom; then perhaps a bias of the same shape."""
    axis = axis_of(setup.bottoms[0], setup.message.scale_param.axis)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x = bottoms[0]
        scale, *bias = [*bottoms[1:], *blobs]
        top = x * _along(scale, x, axis)
        return (top + _along(bias[0], x, axis) if bias else top,)

    return forward


def _bias(setup: Setup) -> Forward:
    axis = axis_of(setup.bottoms[0], setup.message.bias_param.axis)

    def forward(bottoms: Tensors, blobs: Tensors) -> Tensors:
        x, *others = bottoms
        (bias,) = others or blobs
        return (x + _along(bias, x, axis),)

    return forward


def _along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Values for some axes of x from `axis` on, in a shape that torch spreads over x."""
    if values.dim() == 0:
        return values
    return values.reshape(*values.shape, *(1,) * (x.dim() - axis - values.dim()))


def _parameter(setup: Setup) -> Forward:
    return lambda bottoms, blobs: (blobs[0],)


LINEAR: Mapping[str, Build] = {
    "Bias": _bias,
    "Embed": _embed,
    "InnerProduct": _inner_product,
    "Parameter": _parameter,
    "Scale": _scale,
}
