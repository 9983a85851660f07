"""Layers evaluated one output value at a time, in float64: an oracle that shares no code."""

from __future__ import annotations

from itertools import product

import numpy as np


def convolve(image, weight, bias=None, stride=1, pad=0, dilation=1, group=1):
    """image (C, *S), weight (N, C/G, *K), bias (N,) → (N, *S'); stride … for all axes or each."""
    image, weight = np.asarray(image, float), np.asarray(weight, float)
    channels, *size = image.shape
    outputs, per_group, *extents = weight.shape
    assert channels == per_group * group
    stride, pad, dilation = (
        (each,) * len(size) if isinstance(each, int) else tuple(each)
        for each in (stride, pad, dilation)
    )
    out = [
        (s + 2 * p - (d * (k - 1) + 1)) // step + 1
        for s, p, d, k, step in zip(size, pad, dilation, extents, stride, strict=True)
    ]
    result = np.zeros((outputs, *out))
    for n in range(outputs):
        first = n // (outputs // group) * per_group
        for place in product(*map(range, out)):
            total = 0.0 if bias is None else float(bias[n])
            for tap in product(*map(range, extents)):
                pixel = tuple(
                    y * step - p + i * d
                    for y, step, p, i, d in zip(place, stride, pad, tap, dilation, strict=True)
                )
                if all(0 <= each < s for each, s in zip(pixel, size, strict=True)):
                    for c in range(per_group):
                        total += image[(first + c, *pixel)] * weight[(n, c, *tap)]
            result[(n, *place)] = total
    return result


def inner_product(blob, weight, bias=None, axis=1, transpose=False):
    """blob (…, *rest) with K values from `axis` on, weight (N, K) or (K, N) → (…, N)."""
    axis %= blob.ndim
    rows = np.asarray(blob, float).reshape(*blob.shape[:axis], -1)
    outputs = weight.shape[1 if transpose else 0]
    result = np.zeros((*blob.shape[:axis], outputs))
    for place in product(*map(range, blob.shape[:axis])):
        for n in range(outputs):
            total = 0.0 if bias is None else float(bias[n])
            for k, value in enumerate(rows[place]):
                total += value * float(weight[k, n] if transpose else weight[n, k])
            result[(*place, n)] = total
    return result


def run(net, weights, blobs):
    """All blobs of a net; `weights` maps layer names to arrays, `blobs` its inputs to (B, …)."""
    blobs = dict(blobs)
    for layer in net.layers:
        if layer.type != "Input":
            inputs = [np.asarray(blobs[bottom], float) for bottom in layer.bottoms]
            values = TYPES[layer.type](layer.message, inputs, weights.get(layer.name, ()))
            blobs[layer.tops[0]] = values
    return blobs


def _convolution(message, inputs, weights):
    own = message.convolution_param
    axes = inputs[0].ndim - 2

    def values(name, default):
        if name != "dilation" and (own.HasField(f"{name}_h") or own.HasField(f"{name}_w")):
            return getattr(own, f"{name}_h"), getattr(own, f"{name}_w")
        given = list(getattr(own, name)) or [default]
        return given * axes if len(given) == 1 else given

    geometry = {
        "stride": values("stride", 1),
        "pad": values("pad", 0),
        "dilation": values("dilation", 1),
        "group": own.group,
    }
    if own.kernel_size:
        sizes = list(own.kernel_size)
        assert list(weights[0].shape[2:]) == (sizes * axes if len(sizes) == 1 else sizes)
    else:
        assert weights[0].shape[2:] == (own.kernel_h, own.kernel_w)
    assert weights[0].shape[0] == own.num_output
    assert len(weights) == 1 + own.bias_term
    return np.stack([convolve(image, *weights, **geometry) for image in inputs[0]])


def _inner_product(message, inputs, weights):
    own = message.inner_product_param
    assert weights[0].shape[1 if own.transpose else 0] == own.num_output
    assert len(weights) == 1 + own.bias_term
    return inner_product(inputs[0], *weights, axis=own.axis, transpose=own.transpose)


def _eltwise(message, inputs, weights):
    assert message.eltwise_param.operation == message.eltwise_param.SUM
    assert not message.eltwise_param.coeff
    return np.sum(inputs, axis=0)


TYPES = {
    "Convolution": _convolution,
    "InnerProduct": _inner_product,
    "Concat": lambda message, inputs, weights: np.concatenate(inputs, message.concat_param.axis),
    "Eltwise": _eltwise,
    "ReLU": lambda message, inputs, weights: np.maximum(inputs[0], 0),
}
