"""A net's outputs as they are printed: of one batch, and averaged over several."""

from __future__ import annotations

import math

import torch

from caffesplit.engines.caffe_log import Output
from caffesplit.engines.torch_net import Outputs


def printed(outputs: Outputs) -> list[Output]:
    """The outputs of one batch."""
    return [
        Output(name, value.detach().flatten().tolist(), weight)
        for name, value, weight in outputs.values
    ]


class Tally:
    """Means of a net's outputs over batches, on the net's device until they are asked for."""

    def __init__(self) -> None:
        self._batches = 0
        self._sums: list[torch.Tensor] = []
        self._last: Outputs | None = None

    def add(self, outputs: Outputs) -> None:
        values = [outputs.loss, *(value for _, value, _ in outputs.values)]
        if self._batches:
            torch._foreach_add_(self._sums, values)
        else:
            self._sums = [value.detach().clone() for value in values]
        self._batches, self._last = self._batches + 1, outputs

    @property
    def loss(self) -> float:
        """No number, as in Caffe, where there was no batch (`test_iter: 0`)."""
        return float(self._sums[0]) / self._batches if self._batches else math.nan

    def outputs(self) -> list[Output]:
        values = self._last.values if self._last else ()
        means = [value / self._batches for value in self._sums[1:]]
        return [
            Output(name, mean.flatten().tolist(), weight)
            for (name, _, weight), mean in zip(values, means, strict=True)
        ]
