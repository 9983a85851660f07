"""Named rules of a legal net, and of weights that fit it: data, applied in order.

A broken rule is an error; what only a fork may know (fields, layer types) is a warning.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffesplit.errors import Location
from caffesplit.formats import schema
from caffesplit.net.graph import PHASES, Layer, Net

Weights = Mapping[str, Sequence[npt.NDArray[np.float32]]]


@dataclass(frozen=True)
class Finding:
    """One place where a rule is broken, or one thing that only a fork's Caffe may know."""

    rule: str
    message: str
    at: Location | None = None
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.at}: " if self.at else ""
        return f"{place}{'warning' if self.warning else 'error'}: {self.message} [{self.rule}]"


def check_net(net: Net) -> tuple[Finding, ...]:
    """What is wrong with a net, in the rules' order."""
    return _once(finding for rule in NET_RULES for finding in rule(net))


def check_weights(net: Net, weights: Weights) -> tuple[Finding, ...]:
    """Where a weight file does not fit a net. Caffe refuses other shapes, and skips other names."""
    return _once(finding for rule in WEIGHT_RULES for finding in rule(net, weights))


def no_byte_order_mark(net: Net) -> Iterator[Finding]:
    """protobuf's text format, as Caffe reads it, knows no byte order mark."""
    if net.tree.open.startswith("\ufeff"):
        place = Location(net.layers[0].location.path, line=1, column=1)
        message = "a byte order mark; Caffe refuses the file. Save it as UTF-8 without one"
        yield Finding("no-byte-order-mark", message, place)


def unknown_fields(net: Net) -> Iterator[Finding]:
    for unknown in net.unknown:
        close = f"; did you mean {unknown.suggestion}?" if unknown.suggestion else ""
        message = f"{unknown.message_name} has no {unknown.name!r} in BVLC Caffe{close}"
        yield Finding("unknown-field", message, unknown.location, warning=True)


def unknown_types(net: Net) -> Iterator[Finding]:
    known = schema.layer_types()
    for layer in net.layers:
        if layer.type not in known:
            close = difflib.get_close_matches(layer.type, sorted(known), n=1)
            message = f"layer {layer.name!r}: BVLC Caffe has no layer type {layer.type!r}"
            message += f"; did you mean {close[0]}?" if close else ""
            yield Finding("unknown-type", message, layer.location, warning=True)


def unique_names(net: Net) -> Iterator[Finding]:
    """Caffe runs two layers of one name, but loads and saves weights by name."""
    for state in _states(net):
        seen: set[str] = set()
        for layer in state.layers:
            if layer.name in seen:
                message = f"a second layer {layer.name!r}; weights are loaded by name"
                yield Finding("unique-names", message, layer.location, warning=True)
            seen.add(layer.name)


def defined_bottoms(net: Net) -> Iterator[Finding]:
    """Every bottom is a top of an earlier layer, or an input (Net::AppendBottom)."""
    for state in _states(net):
        defined = set(net.inputs)
        for layer in state.layers:
            for bottom in layer.bottoms:
                if bottom not in defined:
                    close = difflib.get_close_matches(bottom, sorted(defined), n=1)
                    message = f"layer {layer.name!r}: bottom {bottom!r} is no earlier layer's top"
                    message += f" in {state.name}"
                    message += f"; did you mean {close[0]!r}?" if close else ""
                    yield Finding("defined-bottoms", message, layer.location)
            defined.update(layer.tops)


def single_producers(net: Net) -> Iterator[Finding]:
    """No two layers have the same top, unless the later works in place (Net::AppendTop)."""
    for state in _states(net):
        produced: set[str] = set()
        for layer in state.layers:
            for index, top in enumerate(layer.tops):
                in_place = index < len(layer.bottoms) and layer.bottoms[index] == top
                if top in produced and not in_place:
                    message = f"layer {layer.name!r}: top {top!r} is an earlier layer's top already"
                    yield Finding("single-producers", message, layer.location)
                produced.add(top)


def known_layers(net: Net, weights: Weights) -> Iterator[Finding]:
    names = {layer.name for layer in net.layers}
    for name in weights:
        if name not in names:
            yield Finding(
                "known-layers",
                f"the weight file has layer {name!r}, the net has not; Caffe skips it",
                warning=True,
            )


def present_weights(net: Net, weights: Weights) -> Iterator[Finding]:
    for layer in net.layers:
        if layer.type in ("Convolution", "Deconvolution", "InnerProduct"):
            shared = layer.shared_params
            if layer.name not in weights and not shared:
                message = f"layer {layer.name!r} has no weights in the file; Caffe fills them anew"
                yield Finding("present-weights", message, layer.location, warning=True)


def fitting_shapes(net: Net, weights: Weights) -> Iterator[Finding]:
    for layer in net.layers:
        blobs = weights.get(layer.name)
        expected = _num_output(layer)
        if not blobs or expected is None:
            continue
        found = blobs[0].shape[_output_axis(layer)] * _output_groups(layer)
        if found != expected:
            message = (
                f"layer {layer.name!r}: num_output is {expected}, "
                f"the weight file has {found} (shape {blobs[0].shape})"
            )
            yield Finding("fitting-shapes", message, layer.location)


NET_RULES: tuple[Callable[[Net], Iterator[Finding]], ...] = (
    no_byte_order_mark,
    unique_names,
    defined_bottoms,
    single_producers,
    unknown_types,
    unknown_fields,
)
WEIGHT_RULES: tuple[Callable[[Net, Weights], Iterator[Finding]], ...] = (
    fitting_shapes,
    present_weights,
    known_layers,
)


def _once(findings: Iterator[Finding]) -> tuple[Finding, ...]:
    """Each finding of a rule at a place once, though it may hold in several phases."""
    kept = {
        (finding.rule, finding.at, finding.message.partition(" in phase")[0]): finding
        for finding in reversed(list(findings))
    }
    return tuple(reversed(kept.values()))


@dataclass(frozen=True)
class _State:
    """A phase, with or without a stage, and the layers a net has in it."""

    name: str
    layers: tuple[Layer, ...]


def _states(net: Net) -> Iterator[_State]:
    """Each phase; where layers of it ask for stages, each of those stages alone instead."""
    for phase in PHASES:
        rules = [rule for layer in net.layers for rule in layer.message.include]
        stages = sorted(
            {
                stage
                for rule in rules
                if not rule.HasField("phase") or PHASES[rule.phase] == phase
                for stage in rule.stage
            }
        )
        for stage in stages or [""]:
            layers = (layer for layer in net.layers if layer.is_in(phase, stages={stage} - {""}))
            yield _State(f"phase {phase}" + (f", stage {stage}" if stage else ""), tuple(layers))


def _num_output(layer: Layer) -> int | None:
    if layer.type in ("Convolution", "Deconvolution"):
        return int(layer.message.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return int(layer.message.inner_product_param.num_output)
    return None


def _output_axis(layer: Layer) -> int:
    """The weight blob's axis of output channels (deconv_layer.cpp, inner_product_layer.cpp)."""
    transposed = layer.type == "InnerProduct" and layer.message.inner_product_param.transpose
    return 1 if layer.type == "Deconvolution" or transposed else 0


def _output_groups(layer: Layer) -> int:
    """A Deconvolution's weights have the outputs of one group on that axis."""
    is_grouped = layer.type == "Deconvolution"
    return int(layer.message.convolution_param.group) if is_grouped else 1
