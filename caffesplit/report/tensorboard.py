"""TensorBoard's event files: a log's scalars and its kernels' TPM as a sequence of records.

Source of names and field numbers: TensorFlow's core/util/event.proto and
core/framework/summary.proto; of the framing and its checksum: core/lib/io/record_writer.cc and
core/lib/hash/crc32c.h.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

from caffesplit.formats.trainlog import TestRow, TrainLog, TrainRow
from caffesplit.metric.trajectory import WindowScores

BINS = 30
"""Of a histogram of TPM over [0, 1]."""

VERSION = "brain.Event:2"
"""What the first event of a file says."""

AT_ONCE = 1024
"""Records whose checksums are computed together."""

CASTAGNOLI = 0x82F63B78
"""The polynomial of CRC-32C, lowest bit first."""

MASK_DELTA = 0xA282EAD8


@dataclass(frozen=True)
class Histogram:
    """Counts (B,) in bins between edges (B + 1,); least, greatest and sums of the values."""

    edges: Sequence[float]
    counts: Sequence[int]
    least: float
    greatest: float
    total: float
    squares: float


@dataclass(frozen=True)
class Event:
    """What is known at one iteration, by tag. `wall_time` is in seconds since 1970."""

    wall_time: float
    step: int
    scalars: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)


def events(log: TrainLog | None, scores: Sequence[WindowScores], start: float) -> list[Event]:
    """All of an experiment, by iteration: `train/loss`, `train/lr`, `test/OUTPUT` (`test1/OUTPUT`
    of the second test net) and, at the end of each window, a histogram `tpm/LAYER`.

    `start` is the wall time of the log's second 0; rows without a time stamp have that of the
    row before.
    """
    found = []
    wall_time = start
    rows: list[TrainRow | TestRow] = [*log.train, *log.test] if log else []
    times = {}
    for row in sorted(rows, key=lambda row: row.iteration):
        if math.isfinite(row.seconds):
            wall_time = start + row.seconds
        times[row.iteration] = wall_time
        found.append(Event(wall_time, row.iteration, _scalars(row)))
    for scored in scores:
        step = scored.iterations[-1]
        histograms = {
            f"tpm/{layer.name}": histogram
            for layer in scored.layers
            if (histogram := _histogram(layer.kernels)) is not None
        }
        found.append(Event(times.get(step, wall_time), step, histograms=histograms))
    return sorted(found, key=lambda event: event.step)


def _scalars(row: TrainRow | TestRow) -> dict[str, float]:
    if isinstance(row, TrainRow):
        scalars = {"train/loss": row.loss}
        return scalars if math.isnan(row.lr) else {**scalars, "train/lr": row.lr}
    phase = f"test{row.net or ''}"
    scalars = {f"{phase}/{name}": value for name, value in row.outputs.items()}
    if not math.isnan(row.loss):
        scalars.setdefault(f"{phase}/loss", row.loss)
    return scalars


def _histogram(tpm: NDArray[np.float64]) -> Histogram | None:
    """The histogram of TPM (N,); None where no kernel has one."""
    values = tpm[~np.isnan(tpm)]
    if not values.size:
        return None
    counts, edges = np.histogram(values, BINS, (0, 1))
    return Histogram(
        edges.tolist(),
        counts.tolist(),
        float(values.min()),
        float(values.max()),
        float(values.sum()),
        float(values @ values),
    )


def event_file(found: Sequence[Event]) -> Iterator[bytes]:
    """The pieces of an event file, in order."""
    classes = _messages()
    first = found[0].wall_time if found else 0.0
    opening = classes["Event"](wall_time=first, file_version=VERSION)
    yield from _records([opening.SerializeToString()])
    encoded = (_message(event, classes["Event"]).SerializeToString() for event in found)
    while batch := list(islice(encoded, AT_ONCE)):
        yield from _records(batch)


def _message(event: Event, message_class: Any) -> Any:
    message = message_class(wall_time=event.wall_time, step=event.step)
    for tag, value in event.scalars.items():
        message.summary.value.add(tag=tag, simple_value=value)
    for tag, histogram in event.histograms.items():
        histo = message.summary.value.add(tag=tag).histo
        histo.min, histo.max = histogram.least, histogram.greatest
        histo.num = sum(histogram.counts)
        histo.sum, histo.sum_squares = histogram.total, histogram.squares
        # The first bin of the file ends where ours begin, and is empty.
        histo.bucket_limit.extend(histogram.edges)
        histo.bucket.extend([0, *histogram.counts])
    return message


def _records(payloads: Sequence[bytes]) -> Iterator[bytes]:
    """Each payload between its length and its checksums."""
    lengths = [struct.pack("<Q", len(payload)) for payload in payloads]
    sums = zip(lengths, masked_crc32c(lengths), payloads, masked_crc32c(payloads), strict=True)
    for length, length_sum, payload, payload_sum in sums:
        yield length + struct.pack("<I", length_sum) + payload + struct.pack("<I", payload_sum)


def masked_crc32c(texts: Sequence[bytes]) -> list[int]:
    """The masked CRC-32C of every text, all of them at once."""
    table = _crc_table()
    lengths = np.array([len(text) for text in texts])
    longest = int(lengths.max(initial=0))
    padded = np.frombuffer(b"".join(text.ljust(longest, b"\0") for text in texts), np.uint8)
    columns = padded.reshape(len(texts), longest).T
    state = np.full(len(texts), 0xFFFFFFFF, np.uint32)
    for place, column in enumerate(columns):
        after = table[(state ^ column) & 0xFF] ^ (state >> np.uint32(8))
        state = np.where(place < lengths, after, state)
    return [_masked(int(each) ^ 0xFFFFFFFF) for each in state]


def _masked(crc: int) -> int:
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return (rotated + MASK_DELTA) & 0xFFFFFFFF


@functools.cache
def _crc_table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(CASTAGNOLI), table >> 1)
    return table.astype(np.uint32)


FIELDS = {
    "Event": (
        (1, "wall_time", "double"), (2, "step", "int64"), (3, "file_version", "string"),
        (5, "summary", "Summary"),
    ),
    "Summary": ((1, "value", "repeated Value"),),
    "Value": ((1, "tag", "string"), (2, "simple_value", "float"), (5, "histo", "Histogram")),
    "Histogram": (
        (1, "min", "double"), (2, "max", "double"), (3, "num", "double"), (4, "sum", "double"),
        (5, "sum_squares", "double"), (6, "bucket_limit", "repeated double"),
        (7, "bucket", "repeated double"),
    ),
}  # fmt: skip
"""Number, name and type of the fields that are written, by message."""


@functools.cache
def _messages() -> dict[str, Any]:
    """The classes of the messages in `FIELDS`."""
    package = "caffesplit.tensorboard"
    description = descriptor_pb2.FileDescriptorProto(
        name="caffesplit/tensorboard.proto", package=package, syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in FIELDS.items():
        message = description.message_type.add(name=name)
        for number, field_name, type_name in fields:
            own = message.field.add(name=field_name, number=number)
            repeated = type_name.startswith("repeated ")
            own.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            type_name = type_name.removeprefix("repeated ")
            if type_name in FIELDS:
                own.type, own.type_name = kinds.TYPE_MESSAGE, f".{package}.{type_name}"
            else:
                own.type = kinds.Type.Value(f"TYPE_{type_name.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(description)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in FIELDS
    }
