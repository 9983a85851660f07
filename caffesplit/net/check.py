"""Named rules of a legal net, and of weights that fit it: data, applied in order.

A broken rule is an error; what only a fork may know (fields, layer types) is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Protocol

from caffesplit.errors import Location
from caffesplit.net.blobs import Pattern, described, expected_blobs, fits, may_share
from caffesplit.net.findings import Finding, counted, limited, merged
from caffesplit.net.graph import PHASES, Layer, Net
from caffesplit.net.layer_rules import LAYER_RULES
from caffesplit.net.partial import Partial
from caffesplit.net.shapes import Shapes, infer_layers


class Blob(Protocol):
    """An array, or a record of one in a weight file."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Weights = Mapping[str, Sequence[Blob]]
"""Layer name → its blobs."""

MAX_STAGES = 8
"""Sets of stages that are examined in each phase."""


def check_net(net: Net, inputs: Mapping[str, Partial] = {}) -> tuple[Finding, ...]:
    """What is wrong with a net, in the rules' order; of each rule some, and a count of the rest.

    `inputs` gives shapes that the prototxt does not tell, as `shapes.infer` takes them.
    """
    states = tuple(_states(net, inputs))
    names = [state.name for state in states]
    of_net = (finding for rule in NET_RULES for finding in rule(net))
    of_states = (
        finding
        for rule in STATE_RULES
        for finding in merged((each for state in states for each in rule(net, state)), names)
    )
    of_layers = (each for rule in LAYER_RULES for layer in net.layers for each in rule(layer))
    return limited(chain(of_net, of_states, of_layers, unknown_fields(net)))


def check_weights(
    net: Net, weights: Weights, inputs: Mapping[str, Partial] = {}
) -> tuple[Finding, ...]:
    """Where a weight file does not fit a net. Caffe refuses other shapes, and skips other names.

    `inputs` gives shapes that the prototxt does not tell, as `shapes.infer` takes them.
    """
    states = tuple(_states(net, inputs))
    names = [state.name for state in states]
    misfits = (each for state in states for each in fitting_shapes(state, weights))
    others = (finding for rule in WEIGHT_RULES for finding in rule(net, weights))
    return limited(chain(merged(misfits, names), others))


@dataclass(frozen=True)
class State:
    """A phase, with or without stages, the layers a net has in it, and their shapes.

    Attributes:
        indexed: the layers by their indices in the net.
    """

    name: str
    indexed: Mapping[int, Layer]
    shapes: Shapes

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(self.indexed.values())


def no_byte_order_mark(net: Net) -> Iterator[Finding]:
    """protobuf's text format, as Caffe reads it, knows no byte order mark."""
    if net.tree.open.startswith("\ufeff"):
        place = Location(net.layers[0].location.path, line=1, column=1)
        message = "a byte order mark; Caffe refuses the file. Save it as UTF-8 without one"
        yield Finding("no-byte-order-mark", message, place)


def few_stages(net: Net) -> Iterator[Finding]:
    for phase in PHASES:
        count = len(_stages(net, phase))
        if count > MAX_STAGES:
            message = f"phase {phase} has {count:,} sets of stages, {MAX_STAGES} were examined"
            yield Finding("few-stages", message, net.layers[0].location, True, subject=phase)


def unknown_fields(net: Net) -> Iterator[Finding]:
    for unknown in net.unknown:
        message = f"{unknown.message_name} has no {unknown.name!r} in BVLC Caffe"
        yield Finding(
            "unknown-field", message, unknown.location, True, unknown.name, known=unknown.known
        )
    if net.further_unknown:
        message = f"{net.further_unknown} more fields that BVLC Caffe has not"
        yield Finding("unknown-field", message, warning=True, count=net.further_unknown)


def unique_names(net: Net, state: State) -> Iterator[Finding]:
    """Caffe runs two layers of one name, but loads and saves weights by name."""
    seen: set[str] = set()
    for layer in state.layers:
        if layer.name and layer.name in seen:
            message = f"a second layer {layer.name!r}; weights are loaded by name"
            yield Finding("unique-names", message, layer.location, True, states=(state.name,))
        seen.add(layer.name)


def defined_bottoms(net: Net, state: State) -> Iterator[Finding]:
    """Every bottom is a top of an earlier layer, or an input (Net::AppendBottom)."""
    produced_last = {top: index for index, layer in enumerate(state.layers) for top in layer.tops}
    known = (*net.inputs, *produced_last)
    defined = set(net.inputs)
    for index, layer in enumerate(state.layers):
        for bottom in layer.bottoms:
            if bottom not in defined:
                later = ", but a later one's" if produced_last.get(bottom, -1) > index else ""
                message = f"layer {layer.name!r}: bottom {bottom!r} is no earlier layer's top"
                yield Finding(
                    "defined-bottoms",
                    message + later,
                    layer.location,
                    subject=bottom,
                    states=(state.name,),
                    known=() if bottom in produced_last else known,
                )
        defined.update(layer.tops)


def single_producers(net: Net, state: State) -> Iterator[Finding]:
    """No two layers have the same top, unless the later works in place (Net::AppendTop)."""
    produced = set(net.inputs)
    for layer in state.layers:
        for index, top in enumerate(layer.tops):
            in_place = index < len(layer.bottoms) and layer.bottoms[index] == top
            if top in produced and not in_place:
                message = f"layer {layer.name!r}: top {top!r} is produced already"
                yield Finding(
                    "single-producers", message, layer.location, False, top, (state.name,)
                )
            produced.add(top)


def lone_in_place(net: Net, state: State) -> Iterator[Finding]:
    """A layer in place is the only one to read the value it replaces.

    What several layers read, Caffe hands to each of them under another name (InsertSplits), so
    that to work on it is no longer to work in place.
    """
    readers: dict[str, list[str]] = {}
    for layer in state.layers:
        for bottom in layer.bottoms:
            readers.setdefault(bottom, []).append(layer.name)
        for bottom, top in zip(layer.bottoms, layer.tops, strict=False):
            if bottom == top and len(readers[top]) > 1:
                message = f"layer {layer.name!r}: works in place on {top!r}, which layer "
                message += f"{readers[top][0]!r} reads too, expected a top of another name"
                yield Finding("lone-in-place", message, layer.location, False, top, (state.name,))
        for index, top in enumerate(layer.tops):
            is_loss = any(layer.message.loss_weight[index : index + 1])
            readers[top] = [layer.name] if is_loss else []


READS_ITS_TOP = ("ELU", "Exp", "LRN", "LSTMUnit", "MVN", "Power", "Sigmoid", "Softmax", "TanH")
"""Types that go back by the values of their top (Backward_cpu in src/caffe/layers)."""


def kept_tops(net: Net, state: State) -> Iterator[Finding]:
    """No layer in place changes what the one before it goes back by; a ReLU's zeros do no harm."""
    if not state.name.startswith("phase TRAIN"):
        return
    makers: dict[str, Layer] = {}
    for layer in state.layers:
        is_harmless = layer.type == "ReLU" and not layer.message.relu_param.negative_slope
        for bottom, top in zip(layer.bottoms, layer.tops, strict=False):
            maker = makers.get(top)
            if bottom == top and not is_harmless and maker and maker.type in READS_ITS_TOP:
                message = f"layer {layer.name!r}: works in place on the top of {maker.name!r}; "
                message += f"Caffe's gradients through that {maker.type} are of what then stands "
                message += "there; a top of another name mends it"
                yield Finding("kept-tops", message, layer.location, True, top, (state.name,))
        makers |= dict.fromkeys(layer.tops, layer)


def shared_shapes(net: Net, state: State) -> Iterator[Finding]:
    """Blobs that share their values have one shape, or as many values (Net::AppendParam)."""
    owners: dict[str, tuple[str, Pattern]] = {}
    for index, layer in state.indexed.items():
        blobs = state.shapes.learned(index)
        if not blobs:
            continue
        for (name, permissive), pattern in zip(_sharing(layer.message), blobs, strict=False):
            if not name:
                continue
            owner, owned = owners.setdefault(name, (layer.name, pattern))
            if not may_share(owned, pattern, permissive):
                message = f"layer {layer.name!r}: shares {name!r} as {described(pattern)}, which "
                message += f"layer {owner!r} has as {described(owned)}, expected "
                message += "as many values" if permissive else "equal shapes"
                yield Finding("shared-shapes", message, layer.location, False, name, (state.name,))


def fitting_bottoms(net: Net, state: State) -> Iterator[Finding]:
    """What Caffe refuses of a layer with bottoms of these shapes; rules with names of their own."""
    for finding in state.shapes.findings:
        yield replace(finding, states=(state.name,))


def known_layers(net: Net, weights: Weights) -> Iterator[Finding]:
    names = {layer.name for layer in net.layers}
    for name, blobs in weights.items():
        if name not in names and blobs:
            message = f"the weight file has layer {name!r}, the net has not; Caffe skips it"
            yield Finding("known-layers", message, warning=True)


def present_weights(net: Net, weights: Weights) -> Iterator[Finding]:
    """Weights that belong to the net at all; Caffe takes others, and then fills every layer."""
    learned = [layer for layer in net.layers if expected_blobs(layer)]
    if learned and not any(layer.name in weights for layer in learned):
        message = "the weight file has no layer of the net, expected weights that belong to it; "
        place = Location(learned[0].location.path)
        yield Finding("present-weights", f"{message}Caffe fills them all anew", place)
        return
    for layer in learned:
        if layer.name not in weights and not layer.shared_params:
            message = f"layer {layer.name!r} has no weights in the file; Caffe fills them anew"
            yield Finding("present-weights", message, layer.location, warning=True)


def fitting_shapes(state: State, weights: Weights) -> Iterator[Finding]:
    """As many blobs as the layer has, each of its shape (Net::CopyTrainedLayersFrom)."""
    loaded: set[str] = set()
    for index, layer in state.indexed.items():
        # Of several layers of one name, Caffe loads the first.
        if layer.name not in weights or layer.name in loaded:
            continue
        loaded.add(layer.name)
        for subject, message in _misfits(weights[layer.name], state.shapes, index):
            message = f"layer {layer.name!r}: {message}"
            yield Finding("fitting-shapes", message, layer.location, False, subject, (state.name,))


def _misfits(blobs: Sequence[Blob], shapes: Shapes, index: int) -> Iterator[tuple[str, str]]:
    """The blobs of a weight file that are not those of layer `index`, and what is expected."""
    patterns = shapes.learned(index, [blob.shape for blob in blobs])
    if patterns is None:
        return
    if len(blobs) != len(patterns):
        found = counted(len(blobs), "blob")
        yield "", f"{found} in the weight file, expected {len(patterns)}"
        return
    for number, (blob, pattern) in enumerate(zip(blobs, patterns, strict=True)):
        if not fits(blob.shape, pattern, getattr(blob, "legacy", None)):
            expected = described(pattern)
            yield (
                str(number),
                f"blob {number} in the weight file is {blob.shape}, expected {expected}",
            )


NET_RULES: tuple[Callable[[Net], Iterator[Finding]], ...] = (no_byte_order_mark, few_stages)
STATE_RULES: tuple[Callable[[Net, State], Iterator[Finding]], ...] = (
    unique_names,
    defined_bottoms,
    single_producers,
    lone_in_place,
    kept_tops,
    shared_shapes,
    fitting_bottoms,
)
WEIGHT_RULES: tuple[Callable[[Net, Weights], Iterator[Finding]], ...] = (
    present_weights,
    known_layers,
)


def _sharing(message: Any) -> Iterator[tuple[str, bool]]:
    """For each `param`, the name under which it is shared, and whether only its count counts."""
    if message.DESCRIPTOR.name == "LayerParameter":
        for spec in message.param:
            yield spec.name, spec.share_mode == spec.PERMISSIVE
        return
    modes = (*message.blob_share_mode, *(message.STRICT,) * len(message.param))
    for name, mode in zip(message.param, modes, strict=False):
        yield name, mode == message.PERMISSIVE


def _states(net: Net, inputs: Mapping[str, Partial]) -> Iterator[State]:
    """Each phase; where layers of it ask for stages, each of those sets alone instead."""
    for phase in PHASES:
        for stages in _stages(net, phase)[:MAX_STAGES]:
            indexed = {
                index: layer
                for index, layer in enumerate(net.layers)
                if layer.is_in(phase, stages=stages)
            }
            shapes = infer_layers(net, indexed, inputs)
            yield State(", stage ".join((f"phase {phase}", *stages)), indexed, shapes)


def _stages(net: Net, phase: str) -> list[tuple[str, ...]]:
    """The sets of stages that layers ask for in a phase, or else the empty one."""
    rules = (rule for layer in net.layers for rule in layer.message.include)
    asked = {
        tuple(sorted(rule.stage))
        for rule in rules
        if rule.stage and (not rule.HasField("phase") or PHASES[rule.phase] == phase)
    }
    return sorted(asked) or [()]
