"""`caffe test` with PyTorch: what a net with given weights puts out, averaged over batches."""

from __future__ import annotations

import torch

from caffesplit.engines import torch_device
from caffesplit.engines.caffe_random import Random
from caffesplit.engines.testing import Outputs, Progress, Test
from caffesplit.engines.torch_feed import FedNet, Place, read_net
from caffesplit.engines.torch_tally import Tally
from caffesplit.formats import caffemodel
from caffesplit.net.solver import State


@torch.no_grad()
def run(
    test: Test, progress: Progress = lambda done, total: None, *, device: str = "auto"
) -> Outputs:
    """Test a net, as testing.run does with the real Caffe.

    Raises:
        NetError, DatabaseError, WeightsError, EngineError: for a net, data or weights that
            cannot be run.
    """
    place = Place(torch_device.chosen(device, test.gpu), test.root)
    state = State("TEST", test.level, tuple(test.stages))
    with (
        torch_device.computing(place.device),
        FedNet(read_net(test.net), state, place, Random(), zeros=True) as fed,
        fed.suited(),
    ):
        fed.net.load(caffemodel.read(test.weights), str(test.weights))
        tally = Tally()
        for done in range(test.iterations):
            tally.add(fed.forward())
            progress(done + 1, test.iterations)
        values = tuple((each.name, value) for each in tally.outputs() for value in each.values)
        return Outputs(tally.loss, values)
