"""A net's layers set up one after the other, each for the shapes that those before it make.

Sources: Net::Init, AppendTop, AppendBottom (src/caffe/net.cpp), src/caffe/util/insert_splits.cpp
and include/caffe/layer.hpp (Caffe 1.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from caffesplit.engines.torch_layers import DATA_TYPES, build_of
from caffesplit.engines.torch_layers_setup import Forward, Setup
from caffesplit.errors import NetError
from caffesplit.net.blobs import Shape, expected_blobs
from caffesplit.net.graph import PHASES, Layer
from caffesplit.net.layer_rules import LAYER_RULES
from caffesplit.net.losses import loss_weights
from caffesplit.net.partial import Refused, expect_blob
from caffesplit.net.shape_rules import RULES


@dataclass(frozen=True)
class Step:
    """A layer that is set up.

    Attributes:
        blobs: the shapes of its blobs.
        stopped: the positions of bottoms that get no gradient (`propagate_down: false`).
        losses: positions of tops that count in the loss, and their weights.
    """

    layer: Layer
    forward: Forward
    blobs: tuple[Shape, ...]
    stopped: frozenset[int]
    losses: tuple[tuple[int, float], ...]


def set_up(
    layers: Sequence[Layer],
    phase: str,
    inputs: Mapping[str, Shape],
    generator: torch.Generator,
    root: Path,
) -> tuple[tuple[Step, ...], dict[str, Shape]]:
    """The layers that compute something, in order, and the last shape of each blob.

    Raises:
        NetError: for the first layer that Caffe refuses, or that this engine does not have.
    """
    shapes = {name: tuple(shape) for name, shape in inputs.items()}
    produced = {top for layer in layers if layer.type in DATA_TYPES for top in layer.tops}
    shapes_made = {name for name in shapes if name not in produced}
    steps = []
    for layer in layers:
        _expect_new_tops(layer, shapes_made)
        shapes_made |= set(layer.tops)
        if layer.type in DATA_TYPES:
            _expect_given(layer, shapes)
            continue
        bottoms = tuple(_bottom(layer, name, shapes) for name in layer.bottoms)
        step, tops = _step(layer, bottoms, phase, generator, root)
        steps.append(step)
        shapes |= zip(layer.tops, tops, strict=False)
    return tuple(steps), shapes


def _step(
    layer: Layer, bottoms: tuple[Shape, ...], phase: str, generator: torch.Generator, root: Path
) -> tuple[Step, tuple[Shape, ...]]:
    """The layer, and the shapes of its tops."""
    build = build_of(layer)
    for rule in LAYER_RULES:
        for finding in rule(layer):
            if not finding.warning:
                raise NetError(finding.message, at=layer.location)
    try:
        tops = _top_shapes(layer, bottoms)
        blobs = _blob_shapes(layer, bottoms)
    except Refused as refused:
        raise NetError(f"layer {layer.name!r}: {refused.message}", at=layer.location) from None
    own = PHASES[layer.message.phase] if layer.message.HasField("phase") else phase
    forward = build(Setup(layer, own, bottoms, generator, root))
    stopped = {index for index, passes in enumerate(layer.message.propagate_down) if not passes}
    weights = loss_weights(layer)
    losses = tuple((index, weight) for index, weight in enumerate(weights) if weight)
    return Step(layer, forward, blobs, frozenset(stopped), losses), tops


def _top_shapes(layer: Layer, bottoms: tuple[Shape, ...]) -> tuple[Shape, ...]:
    if layer.type == "Parameter":
        return _blob_shapes(layer, bottoms)
    tops = RULES[layer.type](layer, bottoms)
    for top in tops:
        expect_blob(top)
    # Before any data is there, a Filter's tops are as long as its bottoms, as in Caffe.
    return tuple(tuple(size if size is not None else bottoms[0][0] for size in top) for top in tops)


def _blob_shapes(layer: Layer, bottoms: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """Known in all axes, since the bottoms' shapes are."""
    patterns = expected_blobs(layer, (), bottoms) or ()
    return tuple(tuple(int(dim) for dim in pattern) for pattern in patterns)  # type: ignore[arg-type]


def _bottom(layer: Layer, name: str, shapes: Mapping[str, Shape]) -> Shape:
    if name not in shapes:
        raise NetError(
            f"layer {layer.name!r}: unknown bottom blob {name!r}",
            "a top of an earlier layer, or an input of the net",
            at=layer.location,
        )
    return shapes[name]


def _expect_given(layer: Layer, inputs: Mapping[str, Shape]) -> None:
    for top in layer.tops:
        if top not in inputs:
            raise NetError(f"layer {layer.name!r}: no data for its top {top!r}", at=layer.location)


def _expect_new_tops(layer: Layer, known: set[str]) -> None:
    for index, top in enumerate(layer.tops):
        in_place = index < len(layer.bottoms) and layer.bottoms[index] == top
        if top in known and not in_place:
            raise NetError(
                f"layer {layer.name!r}: top blob {top!r} is produced by an earlier layer too",
                "a name of its own",
                at=layer.location,
            )


def output_blobs(
    layers: Sequence[Layer], inputs: Mapping[str, Shape]
) -> tuple[tuple[str, str, float], ...]:
    """The tops that no layer reads: shown as, blob, loss weight; sorted by what they are shown as.

    A top that both counts in the loss by a `loss_weight` of its own and is read, Caffe splits;
    what counts is an output under the name of that split.
    """
    produced = {top for layer in layers for top in layer.tops}
    outputs = {name: (name, 0.0) for name in inputs if name not in produced}
    splits: dict[str, tuple[str, float]] = {}
    for layer in layers:
        for bottom in layer.bottoms:
            outputs.pop(bottom, None)
            if bottom in splits:
                name, weight = splits.pop(bottom)
                outputs[name] = (bottom, weight)
        weights = (*loss_weights(layer), *(0.0,) * len(layer.tops))
        for index, (top, weight) in enumerate(zip(layer.tops, weights, strict=False)):
            outputs[top] = (top, weight)
            splits.pop(top, None)
            if weight and layer.message.loss_weight:
                splits[top] = (f"{top}_{layer.name}_{index}_split_0", weight)
    return tuple((name, *outputs[name]) for name in sorted(outputs))
