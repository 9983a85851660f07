"""What a net computes in a forward pass, one run after the other: layers with their blobs.

A BatchNorm and the Scale behind it are one run: one pass over the values in place of three.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffesplit.engines.torch_layers_setup import Forward
from caffesplit.engines.torch_net_steps import Step


@dataclass(frozen=True)
class Run:
    """A layer, or two that are computed as one.

    Attributes:
        stopped: the positions of bottoms that get no gradient.
        losses: positions of tops that count in the loss, and their weights.
    """

    forward: Forward
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: tuple[Tensor, ...]
    stopped: frozenset[int]
    losses: tuple[tuple[int, float], ...]

    def __call__(self, values: dict[str, Tensor]) -> list[Tensor]:
        """Add the tops to the values, by name; what they count in the loss."""
        bottoms = [values[name] for name in self.bottoms]
        for index in self.stopped:
            bottoms[index] = bottoms[index].detach()
        tops = self.forward(bottoms, self.blobs)
        values.update(zip(self.tops, tops, strict=False))
        return [_weighted(tops[index], weight) for index, weight in self.losses]


def _weighted(top: Tensor, weight: float) -> Tensor:
    total = top.sum() if top.dim() else top
    return total if weight == 1 else total * weight


def runs_of(steps: Sequence[tuple[Step, tuple[Tensor, ...]]]) -> tuple[Run, ...]:
    """The runs of steps with their blobs."""
    readers = Counter(bottom for step, _ in steps for bottom in step.layer.bottoms)
    runs: list[Run] = []
    behind: Step | None = None
    for step, own in steps:
        if behind is not None and _is_scaled(behind, step, readers):
            normalise = runs.pop()
            own, forward, bottoms = normalise.blobs + own, normalise.forward, normalise.bottoms
            stopped = normalise.stopped
        else:
            forward, bottoms, stopped = step.forward, step.layer.bottoms, step.stopped
        runs.append(Run(forward, bottoms, step.layer.tops, own, stopped, step.losses))
        behind = step
    return tuple(runs)


def _is_scaled(one: Step, other: Step, readers: Mapping[str, int]) -> bool:
    """Whether a BatchNorm's top goes into a Scale with a factor for each channel, only there."""
    if (one.layer.type, other.layer.type) != ("BatchNorm", "Scale") or one.losses or other.stopped:
        return False
    (top,), channels = one.layer.tops, one.blobs[0]
    is_only_reader = other.layer.tops == (top,) or readers[top] == 1
    parameter = other.layer.message.scale_param
    per_channel = parameter.axis == 1 and other.blobs[:1] == (channels,)
    return other.layer.bottoms == (top,) and is_only_reader and per_channel


def laid_out(value: Tensor) -> Tensor:
    """A batch of images in the layout that torch convolves fastest: on the CPU, channels last."""
    if value.dim() != 4 or not value.is_cpu:
        return value
    if value.shape[1] == 1:
        # Both layouts hold the same bytes; torch goes by the strides that they are told with.
        return value[:, 0, :, :, None].permute(0, 3, 1, 2)
    return value.contiguous(memory_format=torch.channels_last)
