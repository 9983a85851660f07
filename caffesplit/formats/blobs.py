"""BlobProto: where a blob's values lie in a file, its array on access, its bytes for writing.

Source: Blob::FromProto and Blob::ToProto, src/caffe/blob.cpp, in BVLC's Caffe and in NVIDIA's
(0.16 and later), which stores values as they are in memory: `raw_data`, in `raw_data_type`.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from caffesplit.errors import Location, WeightsError
from caffesplit.formats.wire import (
    DAMAGED,
    FIXED32,
    FIXED64,
    LENGTH,
    NOT_CAFFES,
    VARINT,
    WIDTH,
    Field,
    WireFile,
    encode_length,
    encode_varint,
    expect_wire,
    open_map,
    signed,
)

Array = np.ndarray[Any, np.dtype[Any]]

LEGACY_AXES = {1: "num", 2: "channels", 3: "height", 4: "width"}
DATA, SHAPE, DOUBLE_DATA = 5, 7, 8
RAW_DATA_TYPE, RAW_DATA = 10, 12
"""Field numbers of BlobProto; the last two are NVCaffe's."""

RAW_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f8"), 1: np.dtype("<f4"), 2: np.dtype("<f2")}
"""NVCaffe's Type: DOUBLE, FLOAT, FLOAT16. It has others, but loads none of them from a file."""

FLOAT16 = np.dtype(np.float16)

SHAPE_DIM = 1
"""Field number of BlobShape."""

MAX_AXES = 32
"""kMaxBlobAxes, include/caffe/blob.hpp."""

MAX_COUNT = 2**31 - 1
"""Values in a blob, whose count is an int (Blob::Reshape)."""


@dataclass(frozen=True)
class Chunk:
    """`count` values in a file: from byte `offset` on, one every `stride` bytes."""

    offset: int
    count: int
    stride: int


@dataclass(frozen=True)
class BlobRecord:
    """Where a blob's values are: its shape, their type (float16, 32 or 64) and its chunks.

    `legacy` tells that the shape comes from num, channels, height and width: four axes, the
    first of which are 1 where the blob has fewer. `raw` tells that NVCaffe wrote the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[Chunk, ...]
    legacy: bool = False
    raw: bool = False

    def array(self, buffer: mmap.mmap) -> Array:
        """The blob's values as `view` gives them, but float16 as float32: fit to compute with."""
        values = self.view(buffer)
        if values.dtype == FLOAT16:
            values = values.astype(np.float32)
            values.flags.writeable = False
        return values

    def view(self, buffer: mmap.mmap) -> Array:
        """The blob's values as a read-only view on `buffer`; several chunks are copied together."""
        parts = [
            np.ndarray((chunk.count,), self.dtype, buffer, chunk.offset, (chunk.stride,))
            for chunk in self.chunks
        ]
        flat = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, self.dtype), *parts])
        flat.flags.writeable = False
        return flat.reshape(self.shape)


def read_blob(path: Path | str) -> Array:
    """The values in a file that is one BlobProto: a mean, an infogain matrix.

    Raises:
        WeightsError: if it cannot be read, is damaged or of another kind.
    """
    buffer = open_map(path)
    file = WireFile(str(path), buffer)
    whole = Field(number=0, wire=LENGTH, offset=0, start=0, end=file.size)
    return index_blob(file, whole, Location(str(path))).array(buffer)


def index_blob(file: WireFile, field: Field, at: Location) -> BlobRecord:
    """Index the BlobProto in `field` of `file`; `at` names its layer and blob.

    Raises:
        WeightsError: where the values are damaged, or are not as many as the shape says.
    """
    expect_wire(field, LENGTH, "a blob", at)
    shape: list[int] = []
    legacy: dict[int, int] = {}
    chunks: dict[int, list[Chunk]] = {DATA: [], DOUBLE_DATA: []}
    raw: dict[int, Field] = {}
    for part in file.fields(field.start, field.end, at):
        if part.number in chunks:
            chunks[part.number].append(_chunk(part, at))
        elif part.number == SHAPE:
            shape += _dimensions(file, part, at)
        elif part.number in LEGACY_AXES:
            expect_wire(part, VARINT, LEGACY_AXES[part.number], at)
            legacy[part.number] = signed(part.value)
        elif part.number in (RAW_DATA, RAW_DATA_TYPE):
            raw[part.number] = part
    if legacy:  # Present, they win over `shape` in Caffe too.
        shape = [legacy.get(axis, 0) for axis in LEGACY_AXES]
    number = DOUBLE_DATA if any(chunk.count for chunk in chunks[DOUBLE_DATA]) else DATA
    dtype, held = np.dtype("<f8" if number == DOUBLE_DATA else "<f4"), tuple(chunks[number])
    is_raw = RAW_DATA in raw and not any(chunk.count for chunk in held)
    if is_raw:  # NVCaffe too looks there last.
        dtype = _raw_type(raw.get(RAW_DATA_TYPE), replace(at, byte=raw[RAW_DATA].offset))
        expect_wire(raw[RAW_DATA], LENGTH, "values", at)
        held = (_packed(raw[RAW_DATA], dtype.itemsize, at),)
    record = BlobRecord(tuple(shape), dtype, held, bool(legacy), is_raw)
    check_blob(record, replace(at, byte=field.offset))
    return record


def check_blob(record: BlobRecord, at: Location) -> None:
    """Raise WeightsError unless `record` has a legal shape and as many values as it says."""
    if len(record.shape) > MAX_AXES:
        raise WeightsError(
            f"a shape of more than {MAX_AXES} axes", f"at most {MAX_AXES}", NOT_CAFFES, at
        )
    # Without the zeros, which make numpy no less strict about the other dimensions.
    needed, room = prod(record.shape), prod(dim for dim in record.shape if dim)
    if min(record.shape, default=0) < 0 or room > MAX_COUNT:
        raise WeightsError(
            f"shape {record.shape}",
            f"no negative dimension, and at most {MAX_COUNT:,} values in a blob",
            NOT_CAFFES,
            at,
        )
    held = sum(chunk.count for chunk in record.chunks)
    if held != needed:
        raise WeightsError(
            f"shape {record.shape} needs {needed:,} values, the blob holds {held:,}",
            "as many as the shape says",
            DAMAGED if held else "Snapshot the net again, with its weights.",
            at,
        )


def _chunk(field: Field, at: Location) -> Chunk:
    """The values in one `data` or `double_data` field, packed, or a run of single ones."""
    wire = FIXED64 if field.number == DOUBLE_DATA else FIXED32
    width = WIDTH[wire]
    if field.wire == LENGTH:
        return _packed(field, width, at)
    expect_wire(field, wire, "values", at)
    return Chunk(field.start, (field.end - field.start - width) // field.stride + 1, field.stride)


def _packed(field: Field, width: int, at: Location) -> Chunk:
    """The values of `width` bytes that fill a length-delimited field."""
    length = field.end - field.start
    if length % width:
        raise WeightsError(
            f"{length:,} bytes of values",
            f"a multiple of {width}",
            DAMAGED,
            replace(at, byte=field.offset),
        )
    return Chunk(field.start, length // width, width)


def _raw_type(field: Field | None, at: Location) -> np.dtype[Any]:
    """The type that NVCaffe's raw_data_type tells; `at` is the place of the values."""
    if field is not None:
        expect_wire(field, VARINT, "raw_data_type", at)
    if field is None or field.value not in RAW_TYPES:
        raise WeightsError(
            f"raw_data of type {field.value}" if field else "raw_data without a raw_data_type",
            "DOUBLE (0), FLOAT (1) or FLOAT16 (2), which are what NVCaffe loads",
            NOT_CAFFES,
            at,
        )
    return RAW_TYPES[field.value]


def _dimensions(file: WireFile, shape: Field, at: Location) -> list[int]:
    """The `dim` values, packed or single, of the BlobShape in `shape`; one too many at most."""
    expect_wire(shape, LENGTH, "a shape", at)
    dims: list[int] = []
    for field in file.fields(shape.start, shape.end, at):
        if field.number != SHAPE_DIM:
            continue
        if field.wire != LENGTH:
            expect_wire(field, VARINT, "a dimension", at)
            dims.append(signed(field.value))
            continue
        position = field.start
        while position < field.end and len(dims) <= MAX_AXES:
            value, position = file.varint(position, field.end, at)
            dims.append(signed(value))
    return dims[: MAX_AXES + 1]


def as_float32(array: Array) -> Array:
    """The values as they are written: float32, one behind the other; itself where it is so.

    What float32 cannot hold becomes infinite, as it does where Caffe reads it.
    """
    with np.errstate(over="ignore"):
        return np.asarray(array, "<f4", order="C")


@dataclass(frozen=True)
class BlobBytes:
    """A blob as a packed BlobProto, float32."""

    array: Array

    @property
    def head(self) -> bytes:
        """Everything of the message but the values."""
        dims = b"".join(encode_varint(dim) for dim in self.array.shape)
        shape = encode_length(SHAPE_DIM, len(dims)) + dims if dims else b""
        return encode_length(SHAPE, len(shape)) + shape + encode_length(DATA, 4 * self.array.size)

    def __len__(self) -> int:
        return len(self.head) + 4 * self.array.size

    def write(self, file: BinaryIO) -> None:
        """Write the message; values of other types are rounded to float32."""
        file.write(self.head)
        file.write(as_float32(self.array).data)
