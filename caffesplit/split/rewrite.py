"""From a plan to a derived net and its weights: pure, files are the caller's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffesplit.errors import SplitError
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.net import graph
from caffesplit.net.graph import Net
from caffesplit.split import forms, layer_text
from caffesplit.split.forms import Base, Part, Setting
from caffesplit.split.plan import Plan
from caffesplit.split.requirements import splittable

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
        if layer_plan.num_output != layer.message.convolution_param.num_output:
            raise SplitError(
                f"a plan for {layer_plan.num_output} kernels of layer {layer.name!r}",
                f"its {layer.message.convolution_param.num_output}",
                "The plan is of another net; write one for this net with `caffesplit plan`.",
                layer.location,
            )
        base = Base(layer.name, layer.bottoms[0], layer.tops[0], tuple(weights[layer.name]))
        parts[layer.name] = forms.parts(base, layer_plan, setting, plan.seed)
    return Split(parts, setting)


def rewrite_net(net: Net, change: Split) -> Net:
    """The net with each split layer replaced by its parts; all other text stays as it is.

    Layers that this net lacks (a deploy net without its losses' branches) are passed over.

    Raises:
        SplitError: if the name of a part is taken by a layer or blob of the net.
    """
    _check_names(net, change)
    tree = net.tree
    for layer in net.layers:
        if layer.name in change.parts:
            new = layer_text.fields(layer.field, change.parts[layer.name], change.setting)
            tree = tree.replaced(layer.field, *new)
    return graph.build(tree)


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
