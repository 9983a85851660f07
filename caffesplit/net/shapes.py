"""The shapes of a net's blobs, as Caffe would set them up: from the prototxt alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.descriptor import Descriptor

from caffesplit.formats import prototxt
from caffesplit.net.blobs import NO_BOTTOMS, Pattern, Shape, expected_blobs
from caffesplit.net.findings import Finding
from caffesplit.net.graph import Layer, Net
from caffesplit.net.layer_rules import is_sound
from caffesplit.net.partial import Partial, Refused, expect_blob
from caffesplit.net.shape_losses import LOSSES
from caffesplit.net.shape_rules import RULES
from caffesplit.net.shape_sources import SOURCES, Tops, input_shapes, source_tops


@dataclass(frozen=True)
class Shapes:
    """What could be inferred of a net in one state.

    A shape is a tuple of sizes, with None for a size that is not known: what a database holds
    may leave height and width open, but not how many channels the layers behind make. Where not
    even the number of axes is known, None stands for the whole shape.

    Attributes:
        partial: blob name → its last shape, known in all axes or in some.
        bottoms: index in `net.layers` → the shapes of the layer's bottoms.
        tops: likewise.
        settled: indices of layers whose bottoms are known, and are such as Caffe takes.
        findings: what Caffe would refuse; what depends on it is unknown, and no further finding.
    """

    net: Net = field(repr=False)
    partial: Mapping[str, Partial]
    bottoms: Mapping[int, Tops]
    tops: Mapping[int, Tops]
    settled: frozenset[int]
    findings: tuple[Finding, ...]

    @property
    def blobs(self) -> Mapping[str, Shape]:
        """Blob name → its last shape, of those that are known in all axes."""
        return {
            name: tuple(size for size in shape if size is not None)
            for name, shape in self.partial.items()
            if None not in shape
        }

    def learned(self, index: int, found: Sequence[Shape] = ()) -> tuple[Pattern, ...] | None:
        """The shapes of the blobs of layer `index` of the net; None where its type does not tell.

        `found` are those in a weight file, as `blobs.expected_blobs` takes them.
        """
        bottoms = self.bottoms[index] if index in self.settled else NO_BOTTOMS
        return expected_blobs(self.net.layers[index], found, bottoms)


def infer(
    net: Net,
    inputs: Mapping[str, Partial] = {},
    phase: str = "TRAIN",
    level: int = 0,
    stages: Iterable[str] = (),
) -> Shapes:
    """The shapes of the blobs that a net has in a state.

    Args:
        net: of any version (V1 too).
        inputs: top of a data layer, or input of the net → its shape, where the prototxt does not
            tell, or tells another.
        phase, level, stages: the state, as in NetState.
    """
    stages = tuple(stages)
    present = [index for index, layer in enumerate(net.layers) if layer.is_in(phase, level, stages)]
    return infer_layers(net, present, inputs)


def infer_layers(net: Net, present: Iterable[int], inputs: Mapping[str, Partial]) -> Shapes:
    """The shapes in a net of which only the layers `present` take part."""
    known: dict[str, Partial | None] = {**input_shapes(net), **inputs}
    bottoms: dict[int, Tops] = {}
    tops: dict[int, Tops] = {}
    settled, findings = set(), []
    for index in present:
        layer = net.layers[index]
        bottoms[index] = tuple(known.get(name) for name in layer.bottoms)
        tops[index] = tuple(None if layer.bottoms else inputs.get(name) for name in layer.tops)
        if layer.type in SHAPED and _is_understood(net, layer) and is_sound(layer):
            try:
                tops[index] = _tops(layer, bottoms[index], inputs)
            except Refused as refused:
                message = f"layer {layer.name!r}: {refused.message}"
                findings.append(Finding(refused.rule, message, layer.location))
            else:
                settled |= set() if None in bottoms[index] else {index}
        known.update(zip(layer.tops, tops[index], strict=True))
    partial = {name: shape for name, shape in known.items() if shape is not None}
    return Shapes(net, partial, bottoms, tops, frozenset(settled), tuple(findings))


def _tops(layer: Layer, bottoms: Sequence[Partial | None], inputs: Mapping[str, Partial]) -> Tops:
    """The shapes of the tops of a layer that is not faulty by itself."""
    known = tuple(shape for shape in bottoms if shape is not None)
    tops: Tops = (None,) * len(layer.tops)
    if layer.type in SOURCES:
        tops = source_tops(layer, inputs)
    elif len(known) == len(bottoms):
        tops = RULES[layer.type](layer, known)
    elif layer.type in LOSSES:
        tops = ((), *tops)[: len(tops)]
    for shape in tops:
        if shape is not None:
            expect_blob(shape)
    return tops


SHAPED = RULES.keys() | SOURCES.keys()
"""Types whose shapes the prototxt tells, at least in part."""


def _is_understood(net: Net, layer: Layer) -> bool:
    """Whether BVLC Caffe has all fields of the layer's parameters; a fork's may change shapes."""
    message = layer.field.value
    if not net.unknown or not isinstance(message, prototxt.Message):
        return True
    parameters = [each for each in message.fields if each.name.endswith("_param")]
    return _has_all(layer.message.DESCRIPTOR, parameters)


def _has_all(descriptor: Descriptor, fields: Iterable[prototxt.Field]) -> bool:
    for each in fields:
        known = descriptor.fields_by_name.get(each.name)
        if known is None:
            return False
        inner = each.value.fields if isinstance(each.value, prototxt.Message) else ()
        if inner and not _has_all(known.message_type, inner):
            return False
    return True
