"""The real Caffe's forward pass of many small nets, in one process of pycaffe's Python."""

from __future__ import annotations

import os
import re
import subprocess

import numpy as np

from caffesplit.formats import caffemodel, prototxt
from caffesplit.formats.layers import LayerWeights

FORWARD = """
import pathlib, sys
import caffe
import numpy as np

for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    net = caffe.Net(str(folder / "net.prototxt"), caffe.TEST, weights=str(folder / "w.caffemodel"))
    for name, values in np.load(str(folder / "inputs.npz")).items():
        net.blobs[name].data[...] = values
    net.forward()
    outputs = dict((name, net.blobs[name].data) for name in net.outputs)
    np.savez(str(folder / "outputs.npz"), **outputs)
"""


def forward(python, root, nets):
    """Key → the net's outputs, by blob; `nets` maps keys to a net, its weights and its inputs."""
    folders = {}
    for key, (net, weights, inputs) in nets.items():
        folder = folders[key] = root / str(len(folders))
        folder.mkdir()
        (folder / "net.prototxt").write_bytes(prototxt.encode(net.tree))
        records = [
            LayerWeights(layer.name, layer.type, tuple(weights[layer.name]), layer.message)
            for layer in net.layers
            if layer.name in weights
        ]
        caffemodel.write(folder / "w.caffemodel", records)
        np.savez(folder / "inputs.npz", **inputs)
    quiet = os.environ | {"GLOG_minloglevel": "2"}
    done = subprocess.run(
        [python, "-c", FORWARD, root], capture_output=True, text=True, env=quiet, check=False
    )
    assert done.returncode == 0, done.stderr
    return {key: dict(np.load(folder / "outputs.npz")) for key, folder in folders.items()}


def outputs_in_test(caffe, net, weights):
    """What `caffe test` says of a net of the digits: its mean outputs over the test set."""
    done = subprocess.run(
        [caffe, "test", f"--model={net}", f"--weights={weights}", "--iterations=10"],
        cwd=net.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"caffe\.cpp:\d+\] (\w+) = ([-\d.e]+)", done.stderr)
    return {name: float(value) for name, value in found}
