"""A pass over a batch one layer at a time, forward and backward: to look at layers, or time them.

Sources: `time` in tools/caffe.cpp; Net::ForwardDebugInfo and BackwardDebugInfo, src/caffe/net.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from caffesplit.engines.caffe_log import Log
from caffesplit.engines.torch_data import SOURCES
from caffesplit.engines.torch_feed import FedNet
from caffesplit.engines.torch_net import Outputs
from caffesplit.engines.torch_net_steps import Step
from caffesplit.net.graph import Layer


@dataclass
class Turn:
    """A layer's part in a pass; `seconds` are those of its last computation.

    Attributes:
        bottoms, tops: cut off from the other layers' computations, so that gradients end there.
    """

    layer: Layer
    bottoms: Sequence[Tensor]
    blobs: Sequence[Tensor]
    tops: Sequence[Tensor]
    seconds: float


class Layerwise:
    """A pass over the net's next batch. Parameters' gradients add up as in an ordinary one."""

    def __init__(self, fed: FedNet) -> None:
        self._fed = fed
        self._values: dict[str, Tensor] = {}
        self._done: list[tuple[Step, Turn, Sequence[Tensor]]] = []
        self._loss = torch.zeros((), device=fed.net.device)

    def forward(self) -> Iterator[Turn]:
        """Compute layer by layer; data layers come first, the first one with the time of all."""
        start = perf_counter()
        self._values = dict(self._fed.batch())
        seconds = self._since(start)
        for layer in self._fed.layers:
            if layer.type in SOURCES:
                tops = [self._values[name] for name in layer.tops]
                yield Turn(layer, (), (), tops, seconds)
                seconds = 0.0
        for step, blobs in self._fed.net.steps:
            yield self._forward_through(step, blobs)

    def _forward_through(self, step: Step, blobs: Sequence[Tensor]) -> Turn:
        bottoms = [self._values[name] for name in step.layer.bottoms]
        for index in step.stopped:
            bottoms[index] = bottoms[index].detach()
        start = perf_counter()
        computed = step.forward(bottoms, blobs)
        seconds = self._since(start)
        tops = [each.detach().requires_grad_(each.requires_grad) for each in computed]
        for index, weight in step.losses:
            self._loss = self._loss + weight * tops[index].detach().sum()
        self._values.update(zip(step.layer.tops, tops, strict=False))
        turn = Turn(step.layer, bottoms, blobs, tops, seconds)
        self._done.append((step, turn, computed))
        return turn

    def outputs(self) -> Outputs:
        """What the pass puts out; its loss has no gradient, which `backward` computes."""
        values = self._values
        shown = self._fed.net.outputs
        return Outputs(
            self._loss, tuple((name, values[blob], weight) for name, blob, weight in shown)
        )

    def backward(self) -> Iterator[Turn]:
        """Compute gradients layer by layer, from the last one to the first."""
        for step, turn, computed in reversed(self._done):
            roots, gradients = [], []
            weights = dict(step.losses)
            for index, (top, own) in enumerate(zip(turn.tops, computed, strict=True)):
                gradient = top.grad
                if weight := weights.get(index):
                    loss = torch.full_like(own, weight)
                    gradient = loss if gradient is None else gradient + loss
                if own.requires_grad and gradient is not None:
                    roots.append(own)
                    gradients.append(gradient)
            start = perf_counter()
            if roots:
                torch.autograd.backward(roots, gradients)
            turn.seconds = self._since(start)
            yield turn

    def _since(self, start: float) -> float:
        if self._fed.net.device.type == "cuda":
            torch.cuda.synchronize(self._fed.net.device)
        return perf_counter() - start


def logged(fed: FedNet, log: Log) -> Outputs:
    """A pass forward and backward that logs the mean absolute values of all blobs and gradients."""
    layerwise = Layerwise(fed)
    for turn in layerwise.forward():
        for name, blob in zip(turn.layer.tops, turn.tops, strict=False):
            log.debug_forward(turn.layer.name, "top", name, _mean(blob))
        for index, blob in enumerate(turn.blobs):
            log.debug_forward(turn.layer.name, "param", _param(turn.layer, index), _mean(blob))
    for turn in layerwise.backward():
        for name, blob in zip(turn.layer.bottoms, turn.bottoms, strict=True):
            if blob.grad is not None:
                log.debug_backward(turn.layer.name, "bottom", name, _mean(blob.grad))
        for index, blob in enumerate(turn.blobs):
            if blob.grad is not None:
                log.debug_backward(turn.layer.name, "param", str(index), _mean(blob.grad))
    tensors = [parameter.tensor.detach() for parameter in fed.net.parameters]
    gradients = [each.tensor.grad for each in fed.net.parameters if each.tensor.grad is not None]
    log.debug_norms(
        (_norm(tensors, 1), _norm(gradients, 1)), (_norm(tensors, 2), _norm(gradients, 2))
    )
    return layerwise.outputs()


def _param(layer: Layer, index: int) -> str:
    """The name of a blob of a layer, or its number (param_display_names_)."""
    specs = layer.message.param
    return (specs[index].name if index < len(specs) else "") or str(index)


def _mean(blob: Tensor) -> float:
    return float(blob.detach().abs().mean())


def _norm(blobs: Sequence[Tensor], order: int) -> float:
    """Of all the values together."""
    norms = [torch.linalg.vector_norm(blob, order) for blob in blobs]
    return float(torch.linalg.vector_norm(torch.stack(norms), order)) if norms else 0.0
