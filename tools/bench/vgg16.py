"""Snapshots with the shapes of VGG-16, filled with noise: 138 million weights, 553 MB each.

Source of the shapes: K. Simonyan and A. Zisserman, arXiv:1409.1556, table 1, column D.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights

CONVOLUTIONS = {
    "conv1_1": (64, 3), "conv1_2": (64, 64),
    "conv2_1": (128, 64), "conv2_2": (128, 128),
    "conv3_1": (256, 128), "conv3_2": (256, 256), "conv3_3": (256, 256),
    "conv4_1": (512, 256), "conv4_2": (512, 512), "conv4_3": (512, 512),
    "conv5_1": (512, 512), "conv5_2": (512, 512), "conv5_3": (512, 512),
}  # fmt: skip
INNER_PRODUCTS = {"fc6": (4096, 25088), "fc7": (4096, 4096), "fc8": (1000, 4096)}
SHAPES = {name: (*shape, 3, 3) for name, shape in CONVOLUTIONS.items()} | INNER_PRODUCTS
LAYERS = tuple(SHAPES)


def write_snapshots(folder: Path, count: int, shrink: int = 1) -> list[Path]:
    """Write `count` snapshots of a walk; `shrink` divides the layers' outputs."""
    rng = np.random.default_rng(0)
    shapes = {name: (max(1, shape[0] // shrink), *shape[1:]) for name, shape in SHAPES.items()}
    weights = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    paths = []
    for number in range(count):
        for array in weights.values():
            array += np.float32(0.01) * rng.standard_normal(array.shape, dtype=np.float32)
        path = folder / f"vgg16_iter_{number}.caffemodel"
        caffemodel.write(path, [_layer(name, array) for name, array in weights.items()])
        paths.append(path)
    return paths


def _layer(name: str, weight: np.ndarray) -> LayerWeights:
    kind = "InnerProduct" if weight.ndim == 2 else "Convolution"
    return LayerWeights(name, kind, (weight, np.zeros(len(weight), np.float32)))


def write_experiment(folder: Path) -> None:
    """Write a solver and a train_val net of these layers into `folder`."""
    layers = ['layer { name: "data" type: "Input" top: "data" }']
    bottom = "data"
    for name, shape in SHAPES.items():
        parameter = "convolution_param" if len(shape) == 4 else "inner_product_param"
        geometry = " kernel_size: 3 pad: 1" if len(shape) == 4 else ""
        kind = "Convolution" if len(shape) == 4 else "InnerProduct"
        layers.append(
            f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}"\n'
            f"  {parameter} {{ num_output: {shape[0]}{geometry} }} }}"
        )
        bottom = name
    (folder / "train_val.prototxt").write_text("\n".join(layers) + "\n")
    (folder / "solver.prototxt").write_text('net: "train_val.prototxt"\nsnapshot_prefix: "vgg16"\n')
