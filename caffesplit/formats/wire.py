"""Reading and writing protobuf's wire format in place, without messages.

A weight file is a few thousand fields around hundreds of megabytes of numbers. Walking the
fields and leaving the numbers where they lie takes milliseconds; parsing messages copies
everything. Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from caffesplit.errors import Location, OutputError, WeightsError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5

WIDTH = {FIXED32: 4, FIXED64: 8}
"""Bytes of one value of a fixed-width wire type."""

MAX_FILE_BYTES = 2**31 - 1
"""What Caffe itself reads (kProtoReadBytesLimit, src/caffe/util/io.cpp)."""

MAX_FIELDS = 1_000_000
"""Fields in one file; a run of fixed-width ones counts once. A deep net has some ten thousand."""

MAX_NAME_BYTES = 2**16
"""Bytes of a name of a net or layer."""

MAX_FIELD_NUMBER = 2**29 - 1


@dataclass(frozen=True)
class Field:
    """One field of a message, or a run of consecutive ones of the same fixed-width field.

    `offset` is the byte of its tag; the payload lies in bytes `start` to `end`. A run's values
    are `stride` bytes apart, tags between them. `value` is a varint's.
    """

    number: int
    wire: int
    offset: int
    start: int
    end: int
    value: int = 0
    stride: int = 0


class WireFile:
    """A mapped file in protobuf's wire format; positions are bytes from its start.

    Raises:
        WeightsError: if the file is larger than Caffe reads, or text.
    """

    def __init__(self, path: str, buffer: mmap.mmap | bytes) -> None:
        self.path, self.buffer, self.size = path, buffer, len(buffer)
        self._fields_left = MAX_FIELDS
        at = Location(path)
        if self.size > MAX_FILE_BYTES:
            raise WeightsError(
                f"a file of {self.size:,} bytes",
                f"at most {MAX_FILE_BYTES:,}, which is what Caffe reads",
                "Snapshot larger nets in HDF5 (`snapshot_format: HDF5`).",
                at,
            )
        if not any(byte in CONTROL_CHARACTERS for byte in buffer[:TEXT_BYTES]):
            raise WeightsError(
                "the file is text",
                "a binary file",
                "A definition (prototxt) holds no weights: give the file that Caffe wrote.",
                at,
            )

    def fields(self, start: int, end: int, at: Location) -> Iterator[Field]:
        """Yield the fields of the message in bytes `start` to `end`, which `at` names.

        Raises:
            WeightsError: where a field does not fit the message, or its tag is none.
        """
        position = start
        while position < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise WeightsError(
                    f"the file holds more than {MAX_FIELDS:,} fields",
                    "a net's weights",
                    NOT_CAFFES,
                    replace(at, byte=position),
                )
            field = self._field(position, end, at)
            yield field
            position = field.end

    def text(self, field: Field, at: Location) -> str:
        """The string in `field`. Bytes that are not UTF-8 come out escaped."""
        expect_wire(field, LENGTH, "a string", at)
        if field.end - field.start > MAX_NAME_BYTES:
            raise WeightsError(
                f"a name of {field.end - field.start:,} bytes",
                f"at most {MAX_NAME_BYTES:,}",
                DAMAGED,
                replace(at, byte=field.offset),
            )
        return self.buffer[field.start : field.end].decode("utf-8", "backslashreplace")

    def varint(self, position: int, end: int, at: Location) -> tuple[int, int]:
        """The unsigned varint at `position`, and the position behind it."""
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise WeightsError(
                    "a number runs past the end of its message",
                    f"it to end before byte {end}",
                    DAMAGED,
                    replace(at, byte=position),
                )
            byte = self.buffer[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position
        raise WeightsError(
            "a number of more than 10 bytes", "a varint", DAMAGED, replace(at, byte=position)
        )

    def _field(self, offset: int, end: int, at: Location) -> Field:
        tag, start = self.varint(offset, end, at)
        number, wire = tag >> 3, tag & 7
        if not 0 < number <= MAX_FIELD_NUMBER or wire not in (VARINT, FIXED64, LENGTH, FIXED32):
            raise WeightsError(
                f"field {number} of wire type {wire}",
                "a field of Caffe's messages",
                NOT_CAFFES,
                replace(at, byte=offset),
            )
        if wire == VARINT:
            value, stop = self.varint(start, end, at)
            return Field(number, wire, offset, start, stop, value)
        if wire == LENGTH:
            length, start = self.varint(start, end, at)
        else:
            length = WIDTH[wire]
        if length > end - start:
            raise WeightsError(
                f"field {number} says that {length:,} bytes follow",
                f"at most the {end - start:,} that are left",
                DAMAGED,
                replace(at, byte=offset),
            )
        if wire == LENGTH:
            return Field(number, wire, offset, start, start + length)
        return self._run(number, wire, offset, start, end)

    def _run(self, number: int, wire: int, offset: int, start: int, end: int) -> Field:
        """The longest run of the fixed-width field whose first value is at `start`."""
        tag = np.frombuffer(self.buffer, np.uint8, start - offset, offset)
        stride = tag.size + WIDTH[wire]
        count, length, step = 1, (end - offset) // stride, 1
        while count < length:
            step = min(4 * step, RUN_STEP, length - count)
            tags = np.ndarray(
                (step, tag.size), np.uint8, self.buffer, offset + count * stride, (stride, 1)
            )
            differs = np.flatnonzero((tags != tag).any(axis=1))
            count += int(differs[0]) if differs.size else step
            if differs.size:
                break
        return Field(
            number, wire, offset, start, start + (count - 1) * stride + WIDTH[wire], 0, stride
        )


CONTROL_CHARACTERS = frozenset(range(32)) - frozenset(b"\t\n\f\r")
"""Bytes that no text holds, and every message of Caffe's in its first tags and lengths."""

TEXT_BYTES = 512
"""Bytes looked at to tell text from messages."""

RUN_STEP = 2**18
"""Values of a run looked at in one step: large enough for speed, small enough for memory."""

DAMAGED = "The file is damaged or cut off: compare its size with the original's and copy it again."

NOT_CAFFES = "Caffe did not write this file, or it is damaged."


def open_map(path: Path | str) -> mmap.mmap:
    """Map a file read-only. The map lives as long as an array that looks at it.

    Raises:
        WeightsError: if it cannot be read or is empty.
    """
    at = Location(str(path))
    try:
        # Anything but a regular file (a pipe, say) could block at opening already.
        if not Path(path).is_file():
            raise WeightsError("no such file", "a weight file", "Check the path.", at)
        with Path(path).open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                raise WeightsError("the file is empty", "a weight file", DAMAGED, at)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror})", at=at) from error


def check_size(size: int, path: Path | str, limit: int = MAX_FILE_BYTES) -> None:
    """Raise OutputError if a file of `size` bytes at `path` would outgrow Caffe."""
    if size > limit:
        raise OutputError(
            f"the file would take {size:,} bytes",
            f"at most {limit:,}, which is what Caffe reads",
            "HDF5 holds more: give a name that ends in `.h5`, or `caffesplit split` its --hdf5.",
            Location(str(path)),
        )


def expect_wire(field: Field, wire: int, what: str, at: Location) -> None:
    """Raise WeightsError unless `field`, which should hold `what`, has that wire type."""
    if field.wire != wire:
        raise WeightsError(
            f"field {field.number} of wire type {field.wire}",
            f"{what} (wire type {wire})",
            NOT_CAFFES,
            replace(at, byte=field.offset),
        )


def signed(value: int) -> int:
    """A varint's value as int64."""
    return value - 2**64 if value >= 2**63 else value


def encode_varint(value: int) -> bytes:
    """The bytes of an unsigned varint."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_int(number: int, value: int) -> bytes:
    """A varint field; `value` is not negative."""
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def encode_length(number: int, length: int) -> bytes:
    """The head of a length-delimited field; `length` bytes have to follow."""
    return encode_varint(number << 3 | LENGTH) + encode_varint(length)


def encode_text(number: int, text: str) -> bytes:
    """A string field."""
    encoded = text.encode()
    return encode_length(number, len(encoded)) + encoded
