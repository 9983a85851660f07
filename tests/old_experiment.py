"""An experiment as one wrote it in 2014: V1 nets apart, a solver of another name, snaps/."""

from __future__ import annotations

from pathlib import Path

from caffesplit.formats import caffemodel
from caffesplit.formats.layers import V1_NUMBERS
from caffesplit.formats.schema import message_class

TRAIN_NET = """# Of 2014.
name: "old"
layers {
  name: "data" type: DATA top: "data" top: "label"
  data_param { source: "data/digits_train_lmdb" batch_size: 4 backend: LMDB scale: 0.0625 }
}
layers {
  name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
  blobs_lr: 1 blobs_lr: 2  # The bias learns faster.
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }
}
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers {
  name: "ip" type: INNER_PRODUCT bottom: "conv1" top: "ip"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } }
}
layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "label" top: "loss" }
"""
TEST_NET = TRAIN_NET.replace("digits_train", "digits_test").replace(
    "batch_size: 4", "batch_size: 9"
)
SOLVER = """# Of 2014.
train_net: "old_train.prototxt"  # Both lie beside.
test_net: "old_test.prototxt"
solver_type: NESTEROV
test_iter: 1
test_interval: 20
base_lr: 0.005
lr_policy: "fixed"
momentum: 0.9
max_iter: 40
snapshot: 20
display: 10
snapshot_prefix: "snaps/old"
solver_mode: CPU
random_seed: 1
"""


def make(folder: Path) -> Path:
    """The experiment in `folder`, which its paths start from; it has neither data nor snapshots."""
    (folder / "snaps").mkdir(parents=True)
    (folder / "old_solver.prototxt").write_text(SOLVER)
    (folder / "old_train.prototxt").write_text(TRAIN_NET)
    (folder / "old_test.prototxt").write_text(TEST_NET)
    return folder


def to_v1(path: Path) -> None:
    """Write the weights of a snapshot anew as the Caffe of 2014 did."""
    net = message_class("NetParameter")(name="old")
    weights = caffemodel.read(path)
    for layer in weights.index.layers:
        old = net.layers.add(name=layer.name, type=V1_NUMBERS[layer.type])
        for values in weights.get(layer.name, ()):
            blob = old.blobs.add(data=values.ravel().tolist())
            shape = (1,) * (4 - values.ndim) + values.shape
            blob.num, blob.channels, blob.height, blob.width = shape
    path.write_bytes(net.SerializeToString())
