"""Random weights for small nets, as a snapshot of each would have them."""

from __future__ import annotations

import numpy as np


def random_weights(net, seed=0, sizes=None):
    """Layer name → blobs. `sizes` gives the values per image that an InnerProduct reads."""
    rng, channels, found = np.random.default_rng(seed), {}, {}
    dims = list(net.tree.all("input_dim"))
    for name in net.inputs:
        channels[name] = int(dims[1].value.raw)
    for layer in net.layers:
        read = [channels[name] for name in layer.bottoms]
        made = read[:1] * len(layer.tops)
        if layer.type == "Input":
            made = [layer.message.input_param.shape[0].dim[1]]
        elif layer.type == "Convolution":
            own = layer.message.convolution_param
            kernel = [own.kernel_h, own.kernel_w]
            if own.kernel_size:
                kernel = list(own.kernel_size) * (2 if len(own.kernel_size) == 1 else 1)
            shape = (own.num_output, read[0] // own.group, *kernel)
            found[layer.name] = _blobs(rng, shape, own.num_output, own.bias_term)
            made = [own.num_output]
        elif layer.type == "InnerProduct":
            own = layer.message.inner_product_param
            values = (sizes or {}).get(layer.bottoms[0], read[0])
            shape = (values, own.num_output) if own.transpose else (own.num_output, values)
            found[layer.name] = _blobs(rng, shape, own.num_output, own.bias_term)
            made = [own.num_output]
        elif layer.type == "BatchNorm":
            mean, variance = rng.standard_normal(read[0]), rng.uniform(0.5, 2, read[0])
            found[layer.name] = [
                np.float32(mean * 3), np.float32(variance * 3), np.float32([3])
            ]  # fmt: skip
        elif layer.type == "Scale":
            found[layer.name] = _blobs(
                rng, (read[0],), read[0], layer.message.scale_param.bias_term
            )
        elif layer.type == "Concat":
            made = [sum(read)]
        elif layer.type == "Slice":
            bounds = [0, *layer.message.slice_param.slice_point, read[0]]
            made = list(np.diff(bounds))
        channels |= dict(zip(layer.tops, made, strict=True))
    return found


def _blobs(rng, shape, outputs, has_bias):
    blobs = [rng.standard_normal(shape).astype(np.float32)]
    return [*blobs, rng.standard_normal(outputs).astype(np.float32)] if has_bias else blobs
