"""`caffe time` with PyTorch: how long a net's layers take, forward and backward."""

from __future__ import annotations

from caffesplit.engines import torch_device
from caffesplit.engines.caffe_random import Random
from caffesplit.engines.testing import Progress
from caffesplit.engines.timing import Times, Timing
from caffesplit.engines.torch_feed import FedNet, Place, read_net
from caffesplit.engines.torch_layerwise import Layerwise
from caffesplit.net.solver import State


def run(
    timing: Timing, progress: Progress = lambda done, total: None, *, device: str = "auto"
) -> Times:
    """Time passes over a net, after one that is not counted.

    Raises:
        NetError, DatabaseError, EngineError: for a net or data that cannot be run.
    """
    place = Place(torch_device.chosen(device, timing.gpu), timing.root)
    state = State(timing.phase, timing.level, tuple(timing.stages))
    with (
        torch_device.computing(place.device),
        FedNet(read_net(timing.net), state, place, Random(), zeros=True) as fed,
        fed.suited(),
    ):
        _pass(fed)
        sums = [[0.0, 0.0] for _ in fed.layers]
        for done in range(timing.iterations):
            for own, new in zip(sums, _pass(fed), strict=True):
                own[0] += new[0]
                own[1] += new[1]
            progress(done + 1, timing.iterations)
        each = 1000 / timing.iterations
        return Times(
            tuple(
                (layer.name, forward * each, backward * each)
                for layer, (forward, backward) in zip(fed.layers, sums, strict=True)
            )
        )


def _pass(fed: FedNet) -> list[tuple[float, float]]:
    """Seconds forward and backward of each layer of the net."""
    layerwise = Layerwise(fed)
    forward = {id(turn.layer): turn.seconds for turn in layerwise.forward()}
    backward = {id(turn.layer): turn.seconds for turn in layerwise.backward()}
    for parameter in fed.net.parameters:
        parameter.tensor.grad = None
    return [(forward[id(layer)], backward.get(id(layer), 0.0)) for layer in fed.layers]
