"""Named rules of a legal net, and of weights that fit it: data, applied in order.

A broken rule is an error; what only a fork may know (fields, layer types) is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from caffesplit.errors import Location
from caffesplit.net.blobs import described, expected_blobs, fits
from caffesplit.net.findings import Finding, counted, limited, merged
from caffesplit.net.graph import PHASES, Layer, Net
from caffesplit.net.layer_rules import LAYER_RULES


class Blob(Protocol):
    """An array, or a record of one in a weight file."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Weights = Mapping[str, Sequence[Blob]]
"""Layer name → its blobs."""

MAX_STAGES = 8
"""Sets of stages that are examined in each phase."""


def check_net(net: Net) -> tuple[Finding, ...]:
    """What is wrong with a net, in the rules' order; of each rule some, and a count of the rest."""
    states = tuple(_states(net))
    names = [state.name for state in states]
    findings = [finding for rule in NET_RULES for finding in rule(net)]
    for rule in STATE_RULES:
        findings += merged((each for state in states for each in rule(net, state)), names)
    findings += [each for rule in LAYER_RULES for layer in net.layers for each in rule(layer)]
    return limited([*findings, *unknown_fields(net)])


def check_weights(net: Net, weights: Weights) -> tuple[Finding, ...]:
    """Where a weight file does not fit a net. Caffe refuses other shapes, and skips other names."""
    return limited(finding for rule in WEIGHT_RULES for finding in rule(net, weights))


@dataclass(frozen=True)
class State:
    """A phase, with or without stages, and the layers a net has in it."""

    name: str
    layers: tuple[Layer, ...]


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


def known_layers(net: Net, weights: Weights) -> Iterator[Finding]:
    names = {layer.name for layer in net.layers}
    for name, blobs in weights.items():
        if name not in names and blobs:
            message = f"the weight file has layer {name!r}, the net has not; Caffe skips it"
            yield Finding("known-layers", message, warning=True)


def present_weights(net: Net, weights: Weights) -> Iterator[Finding]:
    for layer in net.layers:
        if expected_blobs(layer) and layer.name not in weights and not layer.shared_params:
            message = f"layer {layer.name!r} has no weights in the file; Caffe fills them anew"
            yield Finding("present-weights", message, layer.location, warning=True)


def fitting_shapes(net: Net, weights: Weights) -> Iterator[Finding]:
    """As many blobs as the layer has, each of its shape (Net::CopyTrainedLayersFrom)."""
    for layer in _loading_layers(net):
        if layer.name not in weights:
            continue
        shapes = [blob.shape for blob in weights[layer.name]]
        patterns = expected_blobs(layer, shapes)
        if patterns is None:
            continue
        if len(shapes) != len(patterns):
            message = f"layer {layer.name!r}: {counted(len(shapes), 'blob')} in the weight file"
            message += f", expected {len(patterns)}"
            yield Finding("fitting-shapes", message, layer.location)
            continue
        for index, (shape, pattern) in enumerate(zip(shapes, patterns, strict=True)):
            if not fits(shape, pattern):
                message = f"layer {layer.name!r}: blob {index} in the weight file is {shape}"
                message += f", expected {described(pattern)}"
                yield Finding("fitting-shapes", message, layer.location, subject=str(index))


NET_RULES: tuple[Callable[[Net], Iterator[Finding]], ...] = (no_byte_order_mark, few_stages)
STATE_RULES: tuple[Callable[[Net, State], Iterator[Finding]], ...] = (
    unique_names,
    defined_bottoms,
    single_producers,
)
WEIGHT_RULES: tuple[Callable[[Net, Weights], Iterator[Finding]], ...] = (
    fitting_shapes,
    present_weights,
    known_layers,
)


def _loading_layers(net: Net) -> list[Layer]:
    """Those that weights are loaded into: of several of one name in a state, the first."""
    loading: dict[int, Layer] = {}
    for state in _states(net):
        first: dict[str, Layer] = {}
        for layer in state.layers:
            first.setdefault(layer.name, layer)
        loading |= {id(layer): layer for layer in first.values()}
    return [layer for layer in net.layers if id(layer) in loading]


def _states(net: Net) -> Iterator[State]:
    """Each phase; where layers of it ask for stages, each of those sets alone instead."""
    for phase in PHASES:
        for stages in _stages(net, phase)[:MAX_STAGES]:
            layers = tuple(layer for layer in net.layers if layer.is_in(phase, stages=stages))
            yield State(", stage ".join((f"phase {phase}", *stages)), layers)


def _stages(net: Net, phase: str) -> list[tuple[str, ...]]:
    """The sets of stages that layers ask for in a phase, or else the empty one."""
    rules = (rule for layer in net.layers for rule in layer.message.include)
    asked = {
        tuple(sorted(rule.stage))
        for rule in rules
        if rule.stage and (not rule.HasField("phase") or PHASES[rule.phase] == phase)
    }
    return sorted(asked) or [()]
