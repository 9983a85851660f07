"""A net together with the data layers that feed it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import TracebackType

import torch

from caffesplit.engines import torch_device
from caffesplit.engines.caffe_random import Random
from caffesplit.engines.torch_data import ALONE, SOURCES, Batch, Share, Source, source
from caffesplit.engines.torch_data_dummy import Dummy
from caffesplit.engines.torch_net import Outputs, TorchNet
from caffesplit.engines.torch_prefetch import Prefetch
from caffesplit.engines.torch_process import keep_freed_memory
from caffesplit.formats import prototxt, schema
from caffesplit.formats.prototxt import Message
from caffesplit.net import graph
from caffesplit.net.graph import PHASES, Layer, Net
from caffesplit.net.solver import State
from caffesplit.net.upgrade import upgrade_net


@dataclass(frozen=True)
class Place:
    """Where nets run: on which device, with paths from which folder, on which part of the data.

    `bfloat16` lets matrix products and convolutions run in that type (torch.autocast); `threads`
    are what the CPU may use.
    """

    device: torch.device
    root: Path
    share: Share = ALONE
    bfloat16: bool = False
    threads: int = field(default_factory=torch.get_num_threads)


class FedNet:
    """A net in one state, set up, whose every pass takes the next batches of its data layers.

    A context, which ends its threads. `random` gives the seeds, in the order of the layers.

    Raises:
        NetError, DatabaseError, WeightsError: for a net or data that cannot be run.
    """

    def __init__(
        self,
        net: Net,
        state: State,
        place: Place,
        random: Random,
        sharing: FedNet | None = None,
        zeros: bool = False,
    ) -> None:
        """Set up the net; `sharing` is one whose blobs it takes (Net::ShareTrainedLayersWith).

        With `zeros`, layers that only a program can feed are given zeros, as in Caffe's tools.
        """
        self.layers, self.phase = state.layers(net), state.phase
        self._place = place
        self._closing = ExitStack()
        try:
            self._sources = [
                self._opened(each, state.phase, random, zeros)
                for each in self.layers
                if each.type in SOURCES
            ]
            inputs = {name: shape for each in self._sources for name, shape in each.shapes.items()}
            self.net: TorchNet = TorchNet(
                self.layers,
                state.phase,
                inputs,
                seed=random.draw(),
                device=place.device,
                share=sharing.net if sharing else None,
                force_backward=_forces_backward(net),
                root=place.root,
            )
        except BaseException:
            self._closing.close()
            raise

    def _opened(self, layer: Layer, phase: str, random: Random, zeros: bool) -> Prefetch:
        place = self._place
        if layer.message.HasField("phase"):
            phase = PHASES[layer.message.phase]
        opened: Source
        if zeros and layer.type == "Input":
            opened = Dummy(layer, torch.Generator())
        else:
            opened = source(layer, phase, place.root, random, place.share)
        prefetched = Prefetch(opened, max(1, layer.message.data_param.prefetch), place.device)
        self._closing.callback(prefetched.close)
        return prefetched

    @property
    def size(self) -> int:
        """How many values the tops of all layers hold."""
        return sum(prod(self.net.shapes[top]) for layer in self.layers for top in layer.tops)

    def suited(self) -> AbstractContextManager[None]:
        """A context in which the net computes fast."""
        if self._place.device.type == "cpu":
            keep_freed_memory()
        return torch_device.suited(self.size, self._place.threads)

    def batch(self) -> Batch:
        """The next batches of all data layers."""
        batch: Batch = {}
        for each in self._sources:
            batch |= each.next()
        return batch

    def forward(self) -> Outputs:
        """A pass over the next batch."""
        if not self._place.bfloat16:
            return self.net.forward(self.batch())
        with torch.autocast(self._place.device.type, torch.bfloat16):
            return self.net.forward(self.batch())

    def __enter__(self) -> FedNet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()


def build(tree: Message, path: str) -> Net:
    """The net of a prototxt of any age, in today's format, as Caffe makes it when it loads one.

    Raises:
        PrototxtError: for a field that BVLC Caffe does not have.
        PrototxtError, NetError: as `graph.build` and `upgrade_net` do.
    """
    net = graph.build(upgrade_net(tree, path).result, path)
    schema.refuse_unknown(net.unknown)
    return net


def _forces_backward(net: Net) -> bool:
    own = Message(net.tree.all("force_backward"))
    return bool(schema.read(own, "NetParameter").message.force_backward)


def read_net(path: Path) -> Net:
    """The net in a file; otherwise as `build`."""
    return build(prototxt.load(path), str(path))
