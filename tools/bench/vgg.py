"""Snapshots with VGG-16's shapes and random weights, 553 MB each.

Shapes: Simonyan and Zisserman, 2014, configuration D.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.metric.history import Array, History

WIDTHS = {1: (64, 2), 2: (128, 2), 3: (256, 3), 4: (512, 3), 5: (512, 3)}
"""Channels and convolutions of each block."""


def shapes() -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, type and weight shape of every layer with weights."""
    channels = 3
    for block, (width, depth) in WIDTHS.items():
        for number in range(1, depth + 1):
            yield f"conv{block}_{number}", "Convolution", (width, channels, 3, 3)
            channels = width
    yield "fc6", "InnerProduct", (4096, 512 * 7 * 7)
    yield "fc7", "InnerProduct", (4096, 4096)
    yield "fc8", "InnerProduct", (1000, 4096)


def write(folder: Path, count: int) -> list[Path]:
    """Write `count` snapshots; writing leaves them in the page cache."""
    paths = [folder / f"vgg16_iter_{number}.caffemodel" for number in range(count)]
    for seed, path in enumerate(paths):
        rng = np.random.default_rng(seed)
        layers = (
            LayerWeights(
                name,
                layer_type,
                (rng.standard_normal(shape, np.float32), np.zeros(shape[0], np.float32)),
            )
            for name, layer_type, shape in shapes()
        )
        caffemodel.write(path, layers, "VGG16")
    return paths


def experiment(folder: Path) -> Path:
    """Write a solver and a net with these layers into `folder`."""
    folder.mkdir()
    lines = [
        'layer { name: "data" type: "Input" top: "data"',
        "  input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }",
    ]
    bottom, block = "data", "1"
    for name, layer_type, shape in shapes():
        if name[4:5] != block and bottom != "fc6" and bottom != "fc7":
            lines += [
                f'layer {{ name: "pool{block}" type: "Pooling" bottom: "{bottom}"',
                f'  top: "pool{block}" pooling_param {{ kernel_size: 2 stride: 2 }} }}',
            ]
            bottom, block = f"pool{block}", name[4:5]
        kind = "convolution" if layer_type == "Convolution" else "inner_product"
        extent = " kernel_size: 3 pad: 1" if kind == "convolution" else ""
        lines += [
            f'layer {{ name: "{name}" type: "{layer_type}" bottom: "{bottom}" top: "{name}"',
            f"  {kind}_param {{ num_output: {shape[0]}{extent} }} }}",
            f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}',
        ]
        bottom = name
    (folder / "net.prototxt").write_text("\n".join(lines) + "\n")
    (folder / "solver.prototxt").write_text('net: "net.prototxt"\nsnapshot_prefix: "vgg16"\n')
    return folder


def history(paths: list[Path], snapshots: int) -> History:
    """A history of so many snapshots, which are the files over and over."""

    def load(iteration: int) -> dict[str, Array]:
        weights = caffemodel.read(paths[iteration % len(paths)])
        return {name: weights[name][0] for name in weights}

    return History(tuple(range(snapshots)), load)


def layers() -> list[str]:
    return [name for name, _, _ in shapes()]
