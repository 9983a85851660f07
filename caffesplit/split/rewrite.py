"""From a plan to a derived net and its weights: pure, files are the caller's business."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from caffesplit.errors import SplitError
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.net import graph
from caffesplit.net.graph import Layer, Net
from caffesplit.split import forms, layer_text
from caffesplit.split.forms import Base, Part, Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.requirements import check_convolution, splittable

Weights = Mapping[str, Sequence[npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class Split:
    """The parts that replace each planned layer, by its name: what all rewrites follow."""

    parts: Mapping[str, tuple[Part, ...]]
    setting: Setting


def split(net: Net, weights: Weights, plan: Plan, setting: Setting) -> Split:
    """The parts of every planned layer, with their initial weights from `weights`.

    Raises:
        SplitError: if a planned layer cannot be split (see `requirements`).
    """
    parts = {}
    for layer_plan in plan.layers:
        layer = splittable(net, weights, layer_plan.name)
        _check_plan(layer, layer_plan)
        weight, *bias = weights[layer.name]
        # Before 2015 a bias was written with four axes, (1, 1, 1, N).
        blobs = (weight, *(blob.reshape(-1) for blob in bias))
        base = Base(layer.name, layer.bottoms[0], layer.tops[0], blobs)
        parts[layer.name] = forms.parts(base, layer_plan, setting, plan.seed)
        for part in parts[layer.name]:
            if part.name in weights:
                raise SplitError(
                    f"the weights have a layer {part.name!r}",
                    f"a name free for a part of layer {layer.name!r}",
                    "Caffe would load it in the part's place. Rename that layer.",
                    layer.location,
                )
    return Split(parts, setting)


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
            parts = _for_layer(net, layer, change.parts[layer.name])
            tree = tree.replaced(
                layer.field, *layer_text.fields(layer.field, parts, change.setting)
            )
    return graph.build(tree)


def _for_layer(net: Net, layer: Layer, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, between this net's own bottom and top of the layer (a deploy net may have
    other ones)."""
    check_convolution(net, layer)
    num_output = parts[-1].num_output
    if layer.message.convolution_param.num_output != num_output:
        raise SplitError(
            f"layer {layer.name!r} with num_output {layer.message.convolution_param.num_output}",
            f"{num_output}, as the net that is split has",
            "Are these nets of one experiment?",
            layer.location,
        )
    renamed = {parts[0].bottoms[0]: layer.bottoms[0]}
    inner = [
        replace(part, bottoms=tuple(renamed.get(bottom, bottom) for bottom in part.bottoms))
        for part in parts
    ]
    return (*inner[:-1], replace(inner[-1], top=layer.tops[0]))


def rewrite_weights(derived: Net, change: Split) -> dict[str, tuple[LayerWeights, ...]]:
    """What replaces each split layer's record in the weight file: its parts' records."""
    definitions = {layer.name: layer.message for layer in derived.layers}
    return {
        name: tuple(
            LayerWeights(part.name, layer_text.TYPES[part.kind], part.blobs, definitions[part.name])
            for part in parts
        )
        for name, parts in change.parts.items()
    }


def _check_plan(layer: Layer, plan: LayerPlan) -> None:
    num_output = layer.message.convolution_param.num_output
    if plan.num_output != num_output:
        raise SplitError(
            f"a plan for {plan.num_output} kernels of layer {layer.name!r}",
            f"its {num_output}",
            "The plan is of another net; write one for this net with `caffesplit plan`.",
            layer.location,
        )
    size = num_output // layer.group
    shares = Counter(kernel // size for kernel in plan.fast)
    if len({shares[group] for group in range(layer.group)}) > 1:
        raise SplitError(
            f"a plan with {', '.join(str(shares[g]) for g in range(layer.group))} fast kernels in "
            f"the {layer.group} groups of layer {layer.name!r}",
            "the same number in every group",
            "Otherwise the parts are no grouped convolutions.",
            layer.location,
        )


def _check_names(net: Net, change: Split) -> None:
    names, blobs = {layer.name for layer in net.layers}, net.blobs
    for base, parts in change.parts.items():
        for part in parts:
            last = part is parts[-1]
            if part.name in names or (part.top in blobs and not last):
                raise SplitError(
                    f"the name {part.name!r} is taken",
                    f"a name free for a part of layer {base!r}",
                    "Rename the layer or blob that has it.",
                    net.named(part.name)[0].location if part.name in names else None,
                )
            names.add(part.name)
            blobs |= {part.top}
