"""What a layer is set up from, and what it becomes: a function of tensors.

A layer's backward pass is what autograd makes of that function. Where Caffe's own backward pass
is no derivative of its forward pass, the function takes its gradient from elsewhere
(`with_gradient_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caffesplit.errors import NetError
from caffesplit.net.blobs import Shape
from caffesplit.net.graph import Layer
from caffesplit.net.partial import Partial

Tensors = Sequence[Tensor]

Forward = Callable[[Tensors, Tensors], Tensors]
"""A layer that is set up: its bottoms and its blobs → its tops. No bottom is ever overwritten."""


@dataclass(frozen=True)
class Setup:
    """A layer of a net, and what it has to know before any data comes.

    Attributes:
        phase: TRAIN or TEST.
        bottoms: the bottoms' shapes. Behind a Filter, batches have fewer items than that.
        generator: for layers that draw numbers; on the net's device.
        root: the folder that relative paths start from.
    """

    layer: Layer
    phase: str
    bottoms: tuple[Shape, ...]
    generator: torch.Generator
    root: Path

    @property
    def message(self) -> Any:
        return self.layer.message

    def refuse(self, found: str, expected: str, remedy: str = "") -> NetError:
        """The error about this layer."""
        return NetError(
            f"layer {self.layer.name!r}: {found}", expected, remedy, self.layer.location
        )


SHAPES_KEPT = 256
"""Shapes of bottoms of which a layer keeps what they lead to; images may all differ in size."""

Build = Callable[[Setup], Forward]
"""Sets up the layers of a type."""


def elementwise(function: Callable[[Tensor], Tensor]) -> Forward:
    """A layer that makes one top of one bottom, without blobs."""
    return lambda bottoms, blobs: (function(bottoms[0]),)


def axis_of(shape: Sequence[int], axis: int) -> int:
    """A positive axis (Blob::CanonicalAxisIndex)."""
    return axis if axis >= 0 else len(shape) + axis


def pads_of(before: Sequence[int], behind: Sequence[int]) -> list[int]:
    """What functional.pad takes for so much before and behind each of the last axes."""
    pairs = zip(reversed(before), reversed(behind), strict=True)
    return [size for pair in pairs for size in pair]


def top_shapes(
    setup: Setup, rule: Callable[[Layer, Sequence[Partial]], tuple[Partial, ...]]
) -> Callable[[Tensors], tuple[Shape, ...]]:
    """The shapes of a layer's tops, of bottoms as they come: by a rule of `net.shape_rules`."""

    @lru_cache(SHAPES_KEPT)
    def tops(*shapes: Shape) -> tuple[Shape, ...]:
        made = rule(setup.layer, shapes)
        return tuple(tuple(size for size in top if size is not None) for top in made)

    return lambda bottoms: tops(*(tuple(bottom.shape) for bottom in bottoms))


class _WithGradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def with_gradient_of(other: Tensor, value: Tensor) -> Tensor:
    """A value with the gradient of another tensor of its shape."""
    result: Tensor = _WithGradientOf.apply(value.detach(), other)
    return result
