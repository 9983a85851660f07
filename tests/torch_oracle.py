"""The same net in the torch engine and in the real Caffe: values, gradients, statistics.

Bottoms whose gradients count come from Parameter layers, so that Caffe goes back to them and
tells their diffs; labels and the like from Input layers. The net's tops have loss weights, which
makes Caffe go back through the layers before them; their diffs are then random ones.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
from drawn_layers import net_text

from caffesplit.engines.torch_net import TorchNet
from caffesplit.errors import NetError
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.losses import loss_weights

SERVER = """
import json, os, resource, sys
os.environ["GLOG_minloglevel"] = "4"
import caffe
import numpy as np
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(folder, phase, times):
    net = caffe.Net(folder + "/net.prototxt", caffe.TRAIN if phase == "TRAIN" else caffe.TEST)
    given = np.load(folder + "/given.npz")
    for key in given.files:
        kind, name, *index = key.split("|")
        if kind == "value":
            net.blobs[name].data[...] = given[key]
        elif kind == "blob":
            net.params[name][int(index[0])].data[...] = given[key]
    for _ in range(times):
        net.forward()
    found = {"value|" + name: blob.data.copy() for name, blob in net.blobs.items()}
    seeds = {key.split("|")[1]: given[key] for key in given.files if key.startswith("seed|")}
    for name, seed in seeds.items():
        net.blobs[name].diff[...] = seed
    if seeds:
        net.backward()
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            found["blob|%s|%d" % (name, index)] = blob.data
            found["diff|%s|%d" % (name, index)] = blob.diff
    found["outputs"] = np.array(list(net.outputs))
    np.savez(folder + "/found.npz", **found)


# A worker takes net after net; the next one is forked where Caffe ends it.
while True:
    worker = os.fork()
    if worker == 0:
        for line in sys.stdin:
            run(*json.loads(line))
            print("true", flush=True)
        os._exit(0)
    if os.waitpid(worker, 0)[1] == 0:
        break
    print("false", flush=True)
"""


@dataclass
class Found:
    """What a net computes: blobs by name, learned blobs and their diffs by layer and index."""

    values: dict
    blobs: dict
    diffs: dict
    outputs: list
    given: dict = field(default_factory=dict, repr=False)


class RealCaffe:
    """The real Caffe's answer to net after net."""

    def __init__(self, python, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [python, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def __call__(self, text, given, phase="TRAIN", times=1):
        """None for a net that Caffe refuses."""
        (self.folder / "net.prototxt").write_text(text)
        np.savez(self.folder / "given.npz", **given)
        self.process.stdin.write(json.dumps([str(self.folder), phase, times]) + "\n")
        self.process.stdin.flush()
        if not json.loads(self.process.stdout.readline()):
            return None
        with np.load(self.folder / "found.npz") as file:
            found = {key: file[key] for key in file.files}
        parts = {"value": {}, "blob": {}, "diff": {}}
        outputs = [str(name) for name in found.pop("outputs")]
        for key, array in found.items():
            kind, _, name = key.partition("|")
            parts[kind][name] = array
        return Found(parts["value"], parts["blob"], parts["diff"], outputs)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def layers_of(text, phase="TRAIN"):
    net = graph.build(prototxt.parse(text, "net.prototxt"), "net.prototxt")
    return [layer for layer in net.layers if layer.is_in(phase)]


def inputs_of(layers):
    """The shapes that the Input layers give."""
    return {
        top: tuple(shape.dim)
        for layer in layers
        if layer.type == "Input"
        for top, shape in zip(layer.tops, layer.message.input_param.shape, strict=True)
    }


def run_torch(text, rng, values=None, phase="TRAIN", times=1):
    """The torch engine's answer, and what the real Caffe needs to give its own.

    Args:
        values: of the name of a bottom, or layer and index of a learned blob, and of its shape,
            the values; None for standard normal ones.
    """
    layers = layers_of(text, phase)
    inputs = inputs_of(layers)
    net = TorchNet(layers, phase, inputs)
    blobs = {
        f"{layer.name}|{index}": blob
        for layer in layers
        for index, blob in enumerate(net.blobs[layer.name])
    }
    given = {}

    def draw(kind, name, shape):
        drawn = values(rng, name.split("|")[0], shape) if values else None
        drawn = rng.standard_normal(shape) if drawn is None else drawn
        given[f"{kind}|{name}"] = np.asarray(drawn, np.float32).reshape(shape)
        return torch.from_numpy(given[f"{kind}|{name}"])

    with torch.no_grad():
        for name, blob in blobs.items():
            blob.copy_(draw("blob", name, tuple(blob.shape)))
    batch = {top: draw("value", top, shape) for top, shape in inputs.items()}
    for _ in range(times):
        outputs = net.forward(batch, keep=True)
    seeds = [
        (outputs.kept[top], draw("seed", top, tuple(outputs.kept[top].shape)))
        for layer in layers
        for top, weight in zip(layer.tops, loss_weights(layer), strict=False)
        if weight
    ]
    objective = sum((value * seed).sum() for value, seed in seeds)
    if seeds and objective.requires_grad:
        objective.backward()
    return Found(
        {name: value.detach().numpy() for name, value in outputs.kept.items()},
        {name: blob.detach().numpy() for name, blob in blobs.items()},
        {
            name: (torch.zeros_like(blob) if blob.grad is None else blob.grad).numpy()
            for name, blob in blobs.items()
        },
        [name for name, _, _ in outputs.values],
        given,
    )


def error(found, expected):
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    if not expected.size:
        return 0.0
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0, np.abs(found.astype(float) - expected))
    finite = np.abs(expected[np.isfinite(expected)])
    return float(np.max(difference)) / max(finite.max(initial=0), 1e-1)


def assert_as_caffe(
    real_caffe, text, seed=0, values=None, phase="TRAIN", times=1, tolerance=1e-5, of_diffs=None
):
    """Both refuse the net, or compute the same values, statistics and gradients.

    `of_diffs` is the tolerance of gradients, where it is another.
    """
    ours = None
    with suppress(NetError):
        ours = run_torch(text, np.random.default_rng(seed), values, phase, times)
    theirs = real_caffe(text, ours.given if ours else {}, phase, times)
    assert (ours is None) == (theirs is None), text
    if ours is None or theirs is None:
        return
    for part in ("values", "blobs", "diffs"):
        expected = getattr(theirs, part)
        for name, found in getattr(ours, part).items():
            if name in expected:
                off = error(found, expected[name])
                most = of_diffs if part == "diffs" and of_diffs else tolerance
                assert off <= most, f"{part} of {name} differ by {off:.2g}\n{text}"
    assert ours.outputs == theirs.outputs, text


def learned_bottoms(text, positions=None):
    """The net with its bottoms b0, b1 … (those of `positions`) as Parameter layers."""

    def parameter(match):
        name, shape = match[1], match[2]
        if positions is not None and int(name[1:]) not in positions:
            return match[0]
        return f'name: "{name}" type: "Parameter" top: "{name}" parameter_param {shape} }}\n'

    pattern = r'name: "(b\d+)" type: "Input" top: "b\d+" input_param (\{.*\}) \}\n'
    return re.sub(pattern, parameter, text)


def with_losses(text, tops=None):
    """The net whose layer "x" has tops (those of `tops`) that count in the loss."""
    count = len(re.findall(r'top: "x\d"', text))
    weights = " ".join(f"loss_weight: {int(tops is None or top in tops)}" for top in range(count))
    return text.replace('layer { name: "x"', f'layer {{ name: "x" {weights}')


def trained(type_name, bottoms, tops=1, rest="", learned=None, losses=None):
    """A layer x of a type with learned bottoms and with tops that count in the loss."""
    text = net_text(type_name, bottoms, tops, rest)
    return with_losses(learned_bottoms(text, learned), losses)


def in_place(text):
    """The net whose layer "x" works in place, on a copy of its learned bottom."""
    return copied(text, "x0")


def copied(text, name="copy"):
    """The net whose layer "x" works on a copy of its learned bottom, a blob of this name."""
    copy = f'layer {{ name: "copy" type: "Power" bottom: "b0" top: "{name}" }}\n'
    text = text.replace('bottom: "b0"', f'bottom: "{name}"')
    return text.replace('layer { name: "x"', f'{copy}layer {{ name: "x"')


def with_inputs(text, shapes, phase="TRAIN"):
    """The net in a phase, with Input layers of these shapes in place of its data layers."""
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        f"{' '.join(f'dim: {size}' for size in shape)} }} }} }}\n"
        for name, shape in shapes.items()
    )
    layers = (layer for layer in layers_of(text, phase) if layer.bottoms)
    return inputs + "".join(
        re.sub(r"(include|exclude) *\{[^}]*\}", "", str(layer.field)) for layer in layers
    )


def weights_and_labels(classes):
    """Weights that keep the values' size, small biases, and labels for the bottom "label"."""

    def values(rng, name, shape):
        if name == "label":
            return rng.integers(0, classes, shape)
        if len(shape) > 1 and name not in ("data", "pair_data"):
            return rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
        return rng.standard_normal(shape) * (0.1 if len(shape) == 1 else 1)

    return values
