"""Fold a net: its linear blocks become single layers that compute the same in TEST.

What is found is decided by the graph and the weights alone, so it holds for nets of any origin:
split ones, RepVGG's (arXiv:2101.03697), ACNet's (arXiv:1908.03930).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from caffesplit.errors import NetError
from caffesplit.net import evaluate, graph
from caffesplit.net.graph import UPGRADE, Layer, Net
from caffesplit.split import fold_text, geometry
from caffesplit.split.fold_blocks import Block, Obstacle, Scope, Weights, blocks
from caffesplit.split.fold_steps import CONVOLVING
from caffesplit.split.linear import Axis, Blob, Linear

__all__ = ["Block", "Fold", "FoldedLayer", "Obstacle", "Scope", "blobs", "deviation", "fold"]

MAX_VALUES = 1 << 22
"""Values of a kernel that are computed at a time, in float64."""

SIZES = 12
"""Sizes of the test image that are tried: some branches' outputs agree for even ones alone."""


@dataclass(frozen=True)
class FoldedLayer:
    """A layer of a folded net that stands for a block of the unfolded one."""

    layer: Layer
    block: Block

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the layers that it replaces, in file order."""
        return tuple(layer.name for layer in self.block.layers)

    @property
    def has_bias(self) -> bool:
        parameter = getattr(self.layer.message, geometry.PARAMETERS[self.layer.type])
        return bool(parameter.bias_term)


@dataclass(frozen=True)
class Fold:
    """A folded net, what was folded in it, and what was left alone and why."""

    net: Net
    folded: tuple[FoldedLayer, ...]
    left: tuple[Obstacle, ...]


def fold(
    net: Net,
    weights: Weights,
    scope: Scope | None = None,
    kept: Iterable[str] = (),
    reserved: Iterable[str] = (),
) -> Fold:
    """Fold all linear blocks of a net, except those with layers named in `kept`.

    The text of all other layers stays as it is, byte for byte. No folded layer gets one of the
    names in `reserved` (those of other nets of the same weights) unless a layer of its own has it.

    Raises:
        NetError: if the net is in the V1 format.
    """
    if net.legacy:
        location = net.layers[0].location
        raise NetError("a net in the V1 format", "the current format", UPGRADE, location)
    found, left = blocks(net, weights, scope or Scope(), frozenset(kept))
    taken = {*reserved, *weights, *(layer.name for layer in net.layers)}
    named: dict[str, set[str]] = {}
    tree = net.tree
    for block in found:
        template, members = _template(block), {layer.name for layer in block.layers}
        name = _name(block, template)
        if (name in taken and name not in members) or named.get(name, members) != members:
            name = template.name
        named[name] = members
        field = fold_text.folded_layer(template, name, block, _axes(template, block.map))
        tree = fold_text.merged(tree, [layer.field for layer in block.layers], field)
    derived = graph.build(tree)
    return Fold(derived, tuple(_folded_layers(net, derived, found)), left)


def _folded_layers(net: Net, derived: Net, found: Sequence[Block]) -> Iterator[FoldedLayer]:
    """The layers of the derived net that stand where the blocks' last layers stood."""
    ends = {id(block.layers[-1]): block for block in found}
    gone = {id(layer) for block in found for layer in block.layers} - ends.keys()
    remaining = (layer for layer in net.layers if id(layer) not in gone)
    for before, after in zip(remaining, derived.layers, strict=True):
        if id(before) in ends:
            yield FoldedLayer(after, ends[id(before)])


def blobs(folded: FoldedLayer) -> tuple[Blob, ...]:
    """The folded layer's blobs, in float32: computed some input channels at a time."""
    own, layer = folded.block.map, folded.layer
    group = own.group
    outputs, channels = own.outputs // group, own.channels // group
    extents = [axis.kernel for axis in own.axes]
    parameter = getattr(layer.message, geometry.PARAMETERS[layer.type])
    transposed = layer.type == "InnerProduct" and parameter.transpose
    if transposed:
        kernel = np.empty((channels, own.outputs), np.float32).T
    else:
        kernel = np.empty((own.outputs, channels, *extents), np.float32)
    step = max(MAX_VALUES // max(kernel[:, :1].size, 1), 1)
    for index in range(group):
        rows = slice(index * outputs, (index + 1) * outputs)
        for start in range(0, channels, step):
            stop = min(start + step, channels)
            wanted = slice(index * channels + start, index * channels + stop)
            kernel[rows, start:stop] = own.weight(wanted)[rows]
    stored = kernel.T if transposed else kernel
    return (stored, own.bias.astype(np.float32)) if parameter.bias_term else (stored,)


def deviation(folded: FoldedLayer, own: Sequence[Blob], weights: Weights) -> float:
    """How far the layer with the blobs `own` is from its block, as evaluated in float64.

    The largest difference of outputs for random input, borders included, relative to the
    largest output; NaN where they cannot be compared.
    """
    block, layer = folded.block, folded.layer
    source, top = layer.bottoms[0], layer.tops[0]
    rng = np.random.default_rng(0)
    for extra in range(SIZES):
        image = rng.standard_normal(_shape(block, extra))
        try:
            before = evaluate.forward(block.layers, weights, {source: image})[top]
        except ValueError:
            continue  # Branches of different sizes, as no input of a legal net makes them.
        after = evaluate.forward([layer], {layer.name: own}, {source: image})[top]
        if before.shape == after.shape:
            return float(np.abs(after - before).max() / (np.abs(before).max() or 1.0))
    return float("nan")


def _name(block: Block, template: Layer) -> str:
    """What the names of a block's kernels have in common; a sequence keeps its convolution's."""
    kernels = [layer.name for layer in block.layers if layer.type in CONVOLVING]
    return (fold_text.stem(kernels) if block.is_joined else "") or template.name


def _template(block: Block) -> Layer:
    """The layer whose text the folded one gets: of its geometry if there is one, else the
    largest."""
    layers = [layer for layer in block.layers if layer.type in CONVOLVING]
    for layer in layers:
        same_group = layer.type == "InnerProduct" or layer.group == block.map.group
        if _axes(layer, block.map) == block.map.axes and same_group:
            return layer
    return max(layers, key=lambda layer: prod(axis.kernel for axis in _axes(layer, block.map)))


def _axes(layer: Layer, own: Linear) -> tuple[Axis, ...]:
    return geometry.read(layer, len(own.axes)).axes


def _shape(block: Block, extra: int) -> tuple[int, ...]:
    """A small image with all of its borders: (1, C, …), or (1, …, K) for an InnerProduct."""
    own = block.map
    for layer in block.layers:
        if layer.type == "InnerProduct":
            outer = max(layer.message.inner_product_param.axis, 1)
            return (*[1] * outer, own.channels)
    sizes = [
        axis.dilation * (axis.kernel - 1) + 1 + (1 + position) * axis.stride + extra
        for position, axis in enumerate(own.axes)
    ]
    return (1, own.channels, *sizes)
