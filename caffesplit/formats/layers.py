"""A layer's message in each version of Caffe's weight files: indexed, and encoded.

Only name, type and blobs are understood, and those fields never moved within a version;
forks reuse the numbers of many others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from caffesplit.errors import Location, WeightsError
from caffesplit.formats.blobs import Array, BlobBytes, BlobRecord, index_blob
from caffesplit.formats.wire import (
    LENGTH,
    VARINT,
    Field,
    WireFile,
    encode_int,
    encode_length,
    encode_text,
    expect_wire,
)

V1_LAYER = 1
"""Field number of V1LayerParameter that holds a whole V0 layer."""

V1_TYPES = {
    1: "Accuracy",
    2: "BNLL",
    3: "Concat",
    4: "Convolution",
    5: "Data",
    6: "Dropout",
    7: "EuclideanLoss",
    8: "Flatten",
    9: "HDF5Data",
    10: "HDF5Output",
    11: "Im2col",
    12: "ImageData",
    13: "InfogainLoss",
    14: "InnerProduct",
    15: "LRN",
    16: "MultinomialLogisticLoss",
    17: "Pooling",
    18: "ReLU",
    19: "Sigmoid",
    20: "Softmax",
    21: "SoftmaxWithLoss",
    22: "Split",
    23: "TanH",
    24: "WindowData",
    25: "Eltwise",
    26: "Power",
    27: "SigmoidCrossEntropyLoss",
    28: "HingeLoss",
    29: "MemoryData",
    30: "ArgMax",
    31: "Threshold",
    32: "DummyData",
    33: "Slice",
    34: "MVN",
    35: "AbsVal",
    36: "Silence",
    37: "ContrastiveLoss",
    38: "Exp",
    39: "Deconvolution",
}
"""Today's names of V1LayerParameter.LayerType, as UpgradeV1LayerType gives them
(src/caffe/util/upgrade_proto.cpp)."""

FIRST_BLOB_AXES = {"Convolution": 4, "Deconvolution": 4, "InnerProduct": 2}
"""Axes of a layer's first blob, where it has more than one; all its others have one
(BaseConvolutionLayer and InnerProductLayer, LayerSetUp)."""

V1_NUMBERS = {name: number for number, name in V1_TYPES.items()}


@dataclass(frozen=True)
class _Numbers:
    """Field numbers: of the layer in NetParameter, and of what is read in the layer."""

    layer: int
    name: int
    type: int
    blobs: int
    bottom: int
    top: int


VERSIONS = {
    0: _Numbers(layer=2, name=1, type=2, blobs=50, bottom=0, top=0),
    1: _Numbers(layer=2, name=4, type=5, blobs=6, bottom=2, top=3),
    2: _Numbers(layer=100, name=1, type=2, blobs=7, bottom=3, top=4),
}
"""V0LayerParameter (inside a V1 one), V1LayerParameter (`layers`), LayerParameter (`layer`)."""


@dataclass(frozen=True)
class LayerRecord:
    """A layer in a weight file: `length` bytes from byte `offset`, its tag included.

    `type` is today's name of the layer's type (V0's own in a V0 record; the number where V1 has
    no such type; empty where the file does not tell). `version` is 0, 1 or 2. `others` are the
    bytes of all fields but name, type and blobs.
    """

    name: str
    type: str
    offset: int
    length: int
    version: int
    blobs: tuple[BlobRecord, ...]
    others: tuple[range, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The blobs' shapes as Caffe has them today: without the 1s that a legacy one starts with.

        Caffe forgives those in legacy fields alone (Blob::ShapeEquals, src/caffe/blob.cpp).
        """
        axes = [FIRST_BLOB_AXES.get(self.type, 1), *(1 for _ in self.blobs[1:])]
        return tuple(
            _without_leading_ones(blob.shape, least) if blob.legacy else blob.shape
            for blob, least in zip(self.blobs, axes, strict=False)
        )


@dataclass(frozen=True)
class LayerWeights:
    """A layer to be written: its blobs, and the rest of it, if given: a LayerParameter, or the
    bytes of the other fields of a message of the version that it is written in."""

    name: str
    type: str
    blobs: tuple[Array, ...]
    definition: Any = None


def index_layer(file: WireFile, field: Field, version: int, at: Location) -> LayerRecord:
    """Index the layer message of `version` (1 may hold 0) in `field` of `file`.

    Raises:
        WeightsError: where it is damaged.
    """
    expect_wire(field, LENGTH, "a layer", at)
    numbers = VERSIONS[version]
    name = layer_type = ""
    blobs: list[BlobRecord] = []
    others: list[range] = []
    for part in file.fields(field.start, field.end, at):
        if version == 1 and part.number == V1_LAYER:
            inner = index_layer(file, part, 0, at)
            return replace(inner, offset=field.offset, length=field.end - field.offset)
        if part.number == numbers.name:
            name = file.text(part, at)
            at = replace(at, layer=name)
        elif part.number == numbers.type and version == 1:
            expect_wire(part, VARINT, "a layer's type", at)
            layer_type = V1_TYPES.get(part.value, str(part.value))
        elif part.number == numbers.type:
            layer_type = file.text(part, at)
        elif part.number == numbers.blobs:
            blobs.append(index_blob(file, part, replace(at, blob=len(blobs))))
        else:
            others.append(range(part.offset, part.end))
    return LayerRecord(
        name,
        layer_type,
        field.offset,
        field.end - field.offset,
        version,
        tuple(blobs),
        tuple(others),
    )


def _without_leading_ones(shape: tuple[int, ...], least: int) -> tuple[int, ...]:
    """The shape without 1s in front, but with `least` axes."""
    while len(shape) > least and shape[0] == 1:
        shape = shape[1:]
    return shape


class LayerBytes:
    """A layer as a field of NetParameter, version 1 or 2, written blob after blob.

    Raises:
        WeightsError: if the version has no such layer type.
    """

    def __init__(self, layer: LayerWeights, version: int) -> None:
        numbers = VERSIONS[version]
        fields = _fields_v1(layer) if version == 1 else _fields(layer)
        self._blobs = [BlobBytes(blob) for blob in layer.blobs]
        self._heads = [encode_length(numbers.blobs, len(blob)) for blob in self._blobs]
        length = len(fields) + sum(map(len, self._heads)) + sum(map(len, self._blobs))
        self._head = encode_length(numbers.layer, length) + fields
        self._length = length - len(fields) + len(self._head)

    def __len__(self) -> int:
        return self._length

    def write(self, file: BinaryIO) -> None:
        """Write the field."""
        file.write(self._head)
        for head, blob in zip(self._heads, self._blobs, strict=True):
            file.write(head)
            blob.write(file)


def _fields(layer: LayerWeights) -> bytes:
    """A LayerParameter without its blobs."""
    if layer.definition is None or isinstance(layer.definition, bytes):
        numbers = VERSIONS[2]
        named = encode_text(numbers.name, layer.name) + encode_text(numbers.type, layer.type)
        return named + (layer.definition or b"")
    message = type(layer.definition)()
    message.CopyFrom(layer.definition)
    message.ClearField("blobs")
    message.name, message.type = layer.name, layer.type
    encoded: bytes = message.SerializePartialToString()
    return encoded


def _fields_v1(layer: LayerWeights) -> bytes:
    """A V1LayerParameter's bottoms, tops, name and type: what Caffe reads in a weight file."""
    if layer.type not in V1_NUMBERS:
        raise WeightsError(
            f'layer "{layer.name}" of type {layer.type} does not fit into a V1 file',
            "a layer type of V1",
            "Upgrade the file first (`caffesplit upgrade`).",
        )
    numbers = VERSIONS[1]
    wiring = b""
    if isinstance(layer.definition, bytes):
        wiring = layer.definition
    elif layer.definition is not None:
        wiring += b"".join(encode_text(numbers.bottom, name) for name in layer.definition.bottom)
        wiring += b"".join(encode_text(numbers.top, name) for name in layer.definition.top)
    name = encode_text(numbers.name, layer.name)
    return wiring + name + encode_int(numbers.type, V1_NUMBERS[layer.type])
