"""Layers of every geometry that a split knows, and what their splits compute."""

from __future__ import annotations

import naive_net
import numpy as np

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.split.forms import Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, rewrite_weights, split

NET = """layer {{
  name: "data"
  type: "Input"
  top: "data"
  input_param {{ shape {{ {dims} }} }}
}}
layer {{
  name: "X"
  type: "{type}"
  bottom: "data"
  top: "x"
  {parameter} {{ num_output: 6 {geometry} }}
}}
"""
CASES = {
    "plain": ((2, 4, 5, 6), (6, 4, 3, 3), "kernel_size: 3 pad: 1"),
    "valid": ((1, 4, 5, 6), (6, 4, 3, 3), "kernel_size: 3"),
    "even": ((1, 4, 5, 6), (6, 4, 2, 4), "kernel_h: 2 kernel_w: 4 pad: 1"),
    "no_bias": ((1, 4, 5, 6), (6, 4, 3, 3), "kernel_size: 3 pad: 1 bias_term: false"),
    "grouped": ((2, 4, 5, 6), (6, 2, 3, 3), "kernel_size: 3 pad: 1 group: 2"),
    "grouped_3": ((1, 3, 5, 5), (6, 1, 3, 3), "kernel_size: 3 group: 3 bias_term: false"),
    "strided": ((2, 4, 7, 8), (6, 4, 3, 3), "kernel_size: 3 stride: 2 pad: 1"),
    "strided_2": ((1, 4, 8, 6), (6, 4, 2, 2), "kernel_size: 2 stride: 2"),
    "strided_5": ((1, 4, 8, 9), (6, 4, 5, 5), "kernel_size: 5 stride: 3 pad: 2"),
    "strided_group": ((1, 4, 7, 8), (6, 2, 3, 3), "kernel_size: 3 stride: 2 pad: 1 group: 2"),
    "dilated": ((2, 4, 7, 6), (6, 4, 3, 3), "kernel_size: 3 dilation: 2 pad: 2"),
    "dilated_off": ((1, 4, 7, 6), (6, 4, 3, 3), "kernel_size: 3 dilation: 2 pad: 1"),
    "rectangular": (
        (2, 4, 6, 7),
        (6, 4, 3, 5),
        "kernel_h: 3 kernel_w: 5 pad_h: 1 pad_w: 2 stride_h: 1 stride_w: 2",
    ),
    "volume": ((1, 2, 4, 3, 5), (6, 2, 3, 1, 3), "kernel_size: [3, 1, 3] pad: [1, 0, 1]"),
    "line": ((1, 4, 7), (6, 4, 3), "kernel_size: 3 pad: 1 stride: 2"),
    "point": ((1, 8, 4, 4), (6, 8, 1, 1), "kernel_size: 1"),
    "ip": ((3, 4, 2, 2), (6, 16), ""),
    "ip_transposed": ((3, 5), (5, 6), "transpose: true"),
    "ip_axis": ((2, 3, 2, 2), (6, 4), "axis: 2"),
    "ip_last": ((2, 3, 2, 4), (4, 6), "axis: -1 transpose: true bias_term: false"),
    "ip_legacy": ((3, 7), (1, 1, 6, 7), ""),
}
"""Name → the bottom's shape, the weights' shape, the geometry in words of the prototxt."""

FAST, SLOW = (1, 2, 5), (0, 3, 4)


def base(case):
    """The net with the one layer X of this case, its weights and a value of its input."""
    shape, weight_shape, geometry = CASES[case]
    kind = "InnerProduct" if case.startswith("ip") else "Convolution"
    parameter = "inner_product_param" if case.startswith("ip") else "convolution_param"
    dims = " ".join(f"dim: {dim}" for dim in shape)
    text = NET.format(dims=dims, type=kind, parameter=parameter, geometry=geometry)
    rng = np.random.default_rng(sum(map(ord, case)))
    blobs = [rng.standard_normal(weight_shape).astype(np.float32)]
    if "bias_term: false" not in geometry:
        blobs.append(rng.standard_normal(6).astype(np.float32))
    return graph.build(prototxt.parse(text)), {"X": blobs}, rng.standard_normal(shape)


def plan(method, case="plain"):
    fast, slow = ((1, 5), (0, 2, 3, 4)) if "group" in case else (FAST, SLOW)
    if case == "grouped_3":
        fast, slow = (1, 2, 5), (0, 3, 4)
    return Plan((LayerPlan("X", method, "half", fast, slow),), (0, 10), (0, 10))


def derive(case, method, known_shapes=False, **setting):
    """The derived net and its weights, as a snapshot of it has them."""
    net, weights, data = base(case)
    shapes = {"data": data.shape} if known_shapes else {}
    change = split(net, weights, plan(method, case), Setting(**setting), shapes)
    derived = rewrite_net(net, change)
    (records,) = rewrite_weights(derived, change).values()
    return derived, {record.name: list(record.blobs) for record in records}


def outputs(net, weights, data):
    """The top x of a net, by naive loops in float64."""
    return naive_net.run(net, weights, {"data": data})["x"]


def base_outputs(case):
    net, weights, data = base(case)
    if case == "ip_legacy":
        weights = {"X": [weights["X"][0][0, 0], weights["X"][1]]}
    return outputs(net, weights, data)
