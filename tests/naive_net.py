"""Layers evaluated one output value at a time, in float64: an oracle that shares no code."""

from __future__ import annotations

import numpy as np


def convolve(image, weight, bias=None, stride=1, pad=0, dilation=1, group=1):
    """image (C, H, W), weight (N, C/G, KH, KW), bias (N,) → (N, H', W')."""
    channels, height, width = image.shape
    outputs, per_group, kernel_h, kernel_w = weight.shape
    assert channels == per_group * group
    out_h = (height + 2 * pad - (dilation * (kernel_h - 1) + 1)) // stride + 1
    out_w = (width + 2 * pad - (dilation * (kernel_w - 1) + 1)) // stride + 1
    result = np.zeros((outputs, out_h, out_w))
    for n in range(outputs):
        first = n // (outputs // group) * per_group
        for y in range(out_h):
            for x in range(out_w):
                total = 0.0 if bias is None else float(bias[n])
                for c in range(per_group):
                    for i in range(kernel_h):
                        for j in range(kernel_w):
                            row = y * stride - pad + i * dilation
                            column = x * stride - pad + j * dilation
                            if 0 <= row < height and 0 <= column < width:
                                pixel = float(image[first + c, row, column])
                                total += pixel * float(weight[n, c, i, j])
                result[n, y, x] = total
    return result


def evaluate(parts, blobs, **geometry):
    """The blobs after all `parts` of a split; `blobs` maps names to (C, H, W) arrays."""
    blobs = dict(blobs)
    for part in parts:
        inputs = [blobs[bottom] for bottom in part.bottoms]
        if part.kind in ("carried", "convolution"):
            blobs[part.top] = convolve(inputs[0], *part.blobs, **geometry)
        elif part.kind == "pointwise":
            blobs[part.top] = convolve(inputs[0], *part.blobs)
        elif part.kind == "concat":
            blobs[part.top] = np.concatenate(inputs)
        elif part.kind == "sum":
            blobs[part.top] = np.sum(inputs, axis=0)
        else:
            raise AssertionError(part.kind)
    return blobs
