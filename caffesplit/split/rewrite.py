"""From a plan to a derived net and its weights: pure, files are the caller's business."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from caffesplit.errors import SplitError
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.net import graph
from caffesplit.net.graph import Layer, Net
from caffesplit.split import forms, layer_text
from caffesplit.split.forms import Base, Part, Setting
from caffesplit.split.geometry import Geometry
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.requirements import Weights as Weights
from caffesplit.split.requirements import check_alike, check_layer, layer_geometry, splittable

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Split:
    """The parts that replace each planned layer, by its name: what all rewrites follow."""

    parts: Mapping[str, tuple[Part, ...]]
    geometries: Mapping[str, Geometry]
    """Of the planned layers themselves."""
    setting: Setting


def split(
    net: Net, weights: Weights, plan: Plan, setting: Setting, shapes: Shapes | None = None
) -> Split:
    """The parts of every planned layer, with their initial weights from `weights`.

    `shapes` are those of the TRAIN net's blobs, by name, as far as they are known.

    Raises:
        SplitError: if a planned layer cannot be split (see `requirements`), or not so.
    """
    if setting.activation != "none" and all(layer.method != "residual" for layer in plan.layers):
        raise SplitError(
            f"activation {setting.activation} without a residual split",
            "a layer with method residual: no other form has a place for it",
            "Leave out --activation, or choose --method residual.",
        )
    parts, geometries = {}, {}
    for layer_plan in plan.layers:
        layer = splittable(net, weights, layer_plan.name)
        base = _base(layer, weights, shapes or {})
        _check_plan(layer, base.geometry, layer_plan)
        try:
            parts[layer.name] = forms.parts(base, layer_plan, setting, plan.seed)
        except SplitError as error:
            raise SplitError(
                f"layer {layer.name!r}: {error.found}", error.expected, error.remedy, layer.location
            ) from error
        geometries[layer.name] = base.geometry
        for part in parts[layer.name]:
            if part.name in weights:
                raise SplitError(
                    f"the weights have a layer {part.name!r}",
                    f"a name free for a part of layer {layer.name!r}",
                    "Caffe would load it in the part's place. Rename that layer.",
                    layer.location,
                )
    return Split(parts, geometries, setting)


def _base(layer: Layer, weights: Weights, shapes: Shapes) -> Base:
    geometry = layer_geometry(layer, weights)
    weight, *bias = (np.asarray(blob, np.float32) for blob in weights[layer.name])
    # Before 2015 every blob was written with four axes, (1, 1, N, K) or (1, 1, 1, N).
    weight = weight.reshape(weight.shape[-2 - len(geometry.axes) :])
    blobs = (weight, *(blob.reshape(-1) for blob in bias))
    bottom = layer.bottoms[0]
    sizes = shapes.get(bottom, ())[2:]
    known = sizes if len(sizes) == len(geometry.axes) else None
    return Base(layer.name, bottom, layer.tops[0], blobs, geometry, known)


def rewrite_net(net: Net, change: Split) -> Net:
    """The net with each split layer replaced by its parts; all other text stays as it is.

    Layers that this net lacks (a deploy net without its losses' branches) are passed over.

    Raises:
        SplitError: if the name of a part is taken by a layer or blob of the net, or if its layer
            is another one than was split.
    """
    _check_names(net, change)
    tree = net.tree
    for layer in net.layers:
        if layer.name in change.parts:
            geometry = change.geometries[layer.name]
            check_layer(net, layer)
            check_alike(layer, geometry)
            parts = _between(layer, change.parts[layer.name])
            tree = tree.replaced(
                layer.field, *layer_text.fields(layer.field, geometry, parts, change.setting)
            )
    return graph.build(tree)


def _between(layer: Layer, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, between this very layer's bottom and top: a deploy net, or a phase's own layer,
    may have others."""
    renamed = {parts[0].bottoms[0]: layer.bottoms[0]}
    inner = [
        replace(part, bottoms=tuple(renamed.get(bottom, bottom) for bottom in part.bottoms))
        for part in parts
    ]
    return (*inner[:-1], replace(inner[-1], top=layer.tops[0]))


def rewrite_weights(derived: Net, change: Split) -> dict[str, tuple[LayerWeights, ...]]:
    """What replaces each split layer's record in the weight file: its parts' records."""
    definitions = {layer.name: layer.message for layer in derived.layers}
    definitions |= {layer.name: layer.message for layer in derived.layers if layer.is_in("TRAIN")}
    return {
        name: tuple(
            LayerWeights(part.name, definitions[part.name].type, part.blobs, definitions[part.name])
            for part in parts
        )
        for name, parts in change.parts.items()
    }


def _check_plan(layer: Layer, geometry: Geometry, plan: LayerPlan) -> None:
    plan.check_kernels(geometry.num_output, at=layer.location)
    size = geometry.num_output // geometry.group
    counts = Counter(kernel // size for kernel in plan.fast)
    shares = [counts[group] for group in range(geometry.group)]
    if len(set(shares)) > 1:
        raise SplitError(
            f"a plan with {', '.join(map(str, shares))} fast kernels in the {geometry.group} "
            f"groups of layer {layer.name!r}",
            "the same number in every group",
            "Otherwise the parts are no grouped convolutions.",
            layer.location,
        )


def _check_names(net: Net, change: Split) -> None:
    names, blobs = {layer.name for layer in net.layers}, net.blobs
    for base, parts in change.parts.items():
        for part in parts:
            own = part is parts[-1] or part.top in part.bottoms
            if part.name in names or (part.top in blobs and not own):
                raise SplitError(
                    f"the name {part.name!r} is taken",
                    f"a name free for a part of layer {base!r}",
                    "Rename the layer or blob that has it.",
                    net.named(part.name)[0].location if part.name in names else None,
                )
            names.add(part.name)
            blobs |= {part.top}
