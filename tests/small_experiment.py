"""A small experiment on disk, with snapshots whose kernels move in known ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights

NET = """# The base.
layer {
  name: "data"
  type: "Data"
  top: "data"
  data_param { source: "data/lmdb" backend: LMDB batch_size: 2 }
}
layer {
  name: "conv1"
  type: "Convolution"
  bottom: "data"
  top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 }
}
layer {
  name: "conv2"
  type: "Convolution"
  bottom: "conv1"
  top: "conv2"
  convolution_param { num_output: 4 kernel_size: 3 bias_term: false }
}
"""
SOLVER = """# Hand-made.
net: "{net}"
snapshot_prefix: "{prefix}"  # here
base_lr: 0.01
lr_policy: "fixed"
max_iter: 1000
stepvalue: 10 stepvalue: 20
weights: "older.caffemodel"
"""
ITERATIONS = (100, 200, 300, 400)


def weights(iteration: int) -> list[LayerWeights]:
    """conv1's kernels 0, 1, 5 go straight, 2 and 3 zigzag, 4 stays; conv2's all go straight."""
    rng = np.random.default_rng(1)
    first, step = rng.standard_normal((2, 6, 2, 3, 3)).astype(np.float32)
    moves = np.array([iteration, iteration, iteration % 200, iteration % 200, 0, iteration / 2])
    conv1 = first + moves[:, None, None, None].astype(np.float32) * step / 100
    conv2 = np.full((4, 6, 3, 3), 1 + iteration / 100, np.float32)
    bias = np.full(6, iteration, np.float32)
    return [
        LayerWeights("conv1", "Convolution", (conv1, bias)),
        LayerWeights("conv2", "Convolution", (conv2,)),
    ]


def make(root: Path, rooted: bool = True) -> Path:
    """root/exp/base, its solver's paths from `root` (rooted) or from its own folder."""
    folder = root / "exp/base"
    folder.mkdir(parents=True)
    ((root if rooted else folder) / "data/lmdb").mkdir(parents=True)
    prefix = "exp/base/" if rooted else ""
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(
        SOLVER.format(net=f"{prefix}net.prototxt", prefix=f"{prefix}snap")
    )
    for iteration in ITERATIONS:
        caffemodel.write(folder / f"snap_iter_{iteration}.caffemodel", weights(iteration))
    return folder
