"""Weight files of Caffe's older formats → today's, blobs copied as they lie.

The file that results says what upgrade_net_proto_binary's does (tools/, src/caffe/util/
upgrade_proto.cpp), and takes the memory of the definition in it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError

from caffesplit.errors import Location, NetError, OutputError, WeightsError
from caffesplit.formats import caffemodel, hdf5, schema
from caffesplit.formats.layers import V1_LAYER, VERSIONS
from caffesplit.formats.output import replacing
from caffesplit.formats.pieces import write as write_pieces
from caffesplit.formats.wire import (
    NOT_CAFFES,
    Field,
    WireFile,
    check_size,
    encode_length,
    open_map,
)
from caffesplit.net.findings import Finding, counted
from caffesplit.net.upgrade_message import upgrade_message
from caffesplit.net.upgrade_rules import Upgrade, has_old_statistics, mixture, no_place, not_zero

Piece: TypeAlias = bytes | range
"""A part of the new file: bytes, or where they are in the old one."""

MAX_DEFINITION = 64 << 20
"""Bytes of a weight file beside its blobs; a net of a thousand layers has half a million."""

PARAM = 6
"""Field number of LayerParameter."""


def upgrade_model(source: Path, destination: Path, force: bool = False) -> Upgrade[None]:
    """Upgrade a weight file of any age. One in today's format, or in HDF5, is copied.

    Raises:
        WeightsError: if it is damaged or no weight file.
        NetError: for layers of several formats, and for what Caffe refuses to upgrade.
        OutputError: if `destination` is the source, exists and `force` is false, or would
            outgrow Caffe.
    """
    is_hdf5 = caffemodel.index(source).hdf5
    if is_hdf5 != hdf5.is_wanted(destination):
        raise OutputError(
            f"{'HDF5' if is_hdf5 else 'BINARYPROTO'} weights",
            "a name that ends in `.h5` for HDF5, and only for HDF5",
            "An upgrade keeps the kind of file; `caffesplit convert` changes it.",
            Location(str(destination)),
        )
    if is_hdf5:
        made: Upgrade[list[Piece]] = Upgrade([])
    else:
        made = _upgraded(_take_apart(WireFile(str(source), open_map(source))))
    with open_map(source) as original:
        pieces = made.result if made.steps else [range(len(original))]
        check_size(sum(map(len, pieces)), destination)
        with (
            replacing(destination, force=force, inputs=[source]) as (staged,),
            staged.open("wb") as file,
        ):
            write_pieces(pieces, source, file)
    return Upgrade(None, made.steps, made.findings)


@dataclass
class _Parts:
    """A weight file taken apart.

    Attributes:
        net: its NetParameter without V2 layers. In place of each blob stands an empty one whose
            `num` is the blob's index in `blobs`.
        blobs: where their messages are.
        layers: the V2 layers.
        unknown: fields of a fork's net.
        findings: fields of a fork's V0 and V1 layers, which have no place in V2.
    """

    file: WireFile
    net: Any
    blobs: list[Field] = field(default_factory=list)
    layers: list[Field] = field(default_factory=list)
    unknown: list[Field] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    definition_bytes: int = 0

    def merge(self, message: Any, parts: list[Field], at: Location) -> None:
        """Add fields to a message."""
        self.definition_bytes += sum(part.end - part.offset for part in parts)
        if self.definition_bytes > MAX_DEFINITION:
            raise WeightsError(
                f"more than {MAX_DEFINITION >> 20} MiB beside the blobs", "a net", NOT_CAFFES, at
            )
        encoded = b"".join(self.file.buffer[part.offset : part.end] for part in parts)
        try:
            message.MergeFromString(encoded)
        except DecodeError as error:
            found = f"a {message.DESCRIPTOR.name} that cannot be read"
            raise WeightsError(found, "a net's definition", NOT_CAFFES, at) from error

    def fill(self, layer: Any, whole: Field, version: int, at: Location) -> None:
        """Fill a V1LayerParameter, or the V0 layer in it, from a field of the file."""
        numbers, known = VERSIONS[version], layer.DESCRIPTOR.fields_by_number
        definition = []
        for part in self.file.fields(whole.start, whole.end, at):
            if version == 1 and part.number == V1_LAYER:
                layer.layer.SetInParent()
                self.fill(layer.layer, part, 0, at)
            elif part.number == numbers.blobs:
                layer.blobs.add(num=len(self.blobs))
                self.blobs.append(part)
            elif part.number in known:
                if version == 1 and part.number == numbers.type:
                    _check_type(part, at)
                definition.append(part)
            else:
                place = replace(at, byte=part.offset)
                self.findings.append(no_place(f"field {part.number} of a fork's layer", place))
        self.merge(layer, definition, at)


def _check_type(part: Field, at: Location) -> None:
    layer_types = schema.message_class("V1LayerParameter").DESCRIPTOR.fields_by_name["type"]
    if part.value not in layer_types.enum_type.values_by_number:
        raise NetError(
            f"V1 has no layer type {part.value}",
            f"0 to {max(layer_types.enum_type.values_by_number)}",
            "Types of a fork exist in V2 alone; upgrade the file with that fork's own tool.",
            replace(at, byte=part.offset),
        )


def _take_apart(file: WireFile) -> _Parts:
    at = Location(file.path)
    parts = _Parts(file, schema.message_class("NetParameter")())
    known = parts.net.DESCRIPTOR.fields_by_number
    own: list[Field] = []
    for each in file.fields(0, file.size, at):
        if each.number == VERSIONS[1].layer:
            parts.fill(parts.net.layers.add(), each, 1, replace(at, byte=each.offset))
        elif each.number == VERSIONS[2].layer:
            parts.layers.append(each)
        else:
            (own if each.number in known else parts.unknown).append(each)
    parts.merge(parts.net, own, at)
    return parts


def _upgraded(parts: _Parts) -> Upgrade[list[Piece]]:
    at = Location(parts.file.path)
    if parts.net.layers and parts.layers:
        raise mixture(at)
    made = upgrade_message(parts.net, parts.file.path)
    definition = type(made.result)()
    definition.CopyFrom(made.result)
    definition.ClearField("layer")
    pieces: list[Piece] = [definition.SerializePartialToString()]
    pieces += [range(each.offset, each.end) for each in parts.unknown]
    for layer in made.result.layer:
        pieces += _layer(layer, parts.blobs)
    frozen = 0
    for each in parts.layers:
        patched = list(_patched(parts.file, each, at))
        frozen += bool(patched)
        pieces += patched or [range(each.offset, each.end)]
    steps = made.steps + ((counted(frozen, "BatchNorm layer"),) if frozen else ())
    return Upgrade(pieces, steps, made.findings + tuple(parts.findings))


def _layer(layer: Any, blobs: list[Field]) -> list[Piece]:
    """A LayerParameter as a field of NetParameter, with the blobs that its own stand for."""
    inside: list[Piece] = []
    for stand_in in layer.blobs:
        blob = blobs[stand_in.num]
        inside.append(encode_length(VERSIONS[2].blobs, blob.end - blob.start))
        inside.append(range(blob.start, blob.end))
    definition = type(layer)()
    definition.CopyFrom(layer)
    definition.ClearField("blobs")
    return _message(VERSIONS[2].layer, [definition.SerializePartialToString(), *inside])


def _patched(file: WireFile, layer: Field, at: Location) -> Iterator[Piece]:
    """A BatchNorm layer of old with its multipliers set to 0; nothing for any other layer."""
    spec_class = schema.message_class("ParamSpec")
    seen = schema.message_class("LayerParameter")()
    inside: list[Piece] = []
    for part in file.fields(layer.start, layer.end, at):
        if part.number == VERSIONS[2].type:
            seen.type = file.text(part, at)
        if part.number != PARAM:
            inside.append(range(part.offset, part.end))
            continue
        try:
            spec: Any = spec_class.FromString(file.buffer[part.start : part.end])
        except DecodeError:
            return  # A fork's field; the layer stays as it is.
        seen.param.append(spec)
        for name in not_zero(spec):
            setattr(spec, name, 0)
        encoded = spec.SerializeToString()
        inside += [encode_length(PARAM, len(encoded)) + encoded]
    if has_old_statistics(seen):
        yield from _message(VERSIONS[2].layer, inside)


def _message(number: int, inside: list[Piece]) -> list[Piece]:
    return [encode_length(number, sum(map(len, inside))), *inside]
