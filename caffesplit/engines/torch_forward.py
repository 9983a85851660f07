"""A net run forward with PyTorch on one batch, layer after layer, as `engines.pycaffe` does it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from caffesplit.engines.caffe_random import Random
from caffesplit.engines.pycaffe import State
from caffesplit.engines.torch_feed import FedNet, Place, build
from caffesplit.engines.torch_snapshot import records
from caffesplit.formats import caffemodel, prototxt
from caffesplit.formats.blobs import Array
from caffesplit.net import solver


class Forward:
    """The `engines.forward.Forward` of a net."""

    def __init__(self, fed: FedNet, initial: Path) -> None:
        self.initial = initial
        self._net, self._values = fed.net, dict(fed.batch())
        self._left = list(self._net.steps)

    @torch.no_grad()
    def output_variance(self, layer: str, weights: Array) -> float:
        while self._left[0][0].layer.name != layer:
            step, blobs = self._left.pop(0)
            tops = step.forward([self._values[name] for name in step.layer.bottoms], blobs)
            self._values.update(zip(step.layer.tops, tops, strict=False))
        step, blobs = self._left[0]
        blobs[0].copy_(torch.from_numpy(np.ascontiguousarray(weights, np.float32)))
        tops = step.forward([self._values[name] for name in step.layer.bottoms], blobs)
        values = torch.cat([top.reshape(-1) for top in tops])
        return float(values.double().var(unbiased=False))


@contextmanager
def forward(state: State) -> Iterator[Forward]:
    """A net set up on the CPU.

    Raises:
        NetError, DatabaseError, WeightsError: for a net, data or weights that cannot be run.
    """
    net = build(prototxt.parse(state.net), "<net>")
    used = solver.State("TRAIN", state.level, state.stages)
    place = Place(torch.device("cpu"), state.root)
    with (
        tempfile.TemporaryDirectory(prefix="caffesplit.") as folder,
        FedNet(net, used, place, Random(state.seed)) as fed,
        fed.suited(),
    ):
        if state.weights is not None:
            fed.net.load(caffemodel.read(state.weights), str(state.weights))
        initial = Path(folder) / "initial.caffemodel"
        caffemodel.write(initial, records(fed), "")
        yield Forward(fed, initial)
