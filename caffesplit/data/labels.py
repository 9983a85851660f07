"""Labels shuffled among the images of an LMDB or of an image list; nothing else changes.

A net that learns such a set has memorised it. Source: Zhang et al., Understanding Deep Learning
Requires Rethinking Generalization (2017), whose labels are random; here they are permuted, so
that every label stays as frequent as it was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from caffesplit.data.prepare import Progress, expect_name, silent
from caffesplit.errors import DatabaseError, Location
from caffesplit.formats import database
from caffesplit.formats.output import check_targets, replacing
from caffesplit.formats.partial import SUFFIX, build, identity
from caffesplit.formats.wire import WireFile, encode_int

Labels = NDArray[np.int64]

DATUM_LABEL = 5
"""Field number of Datum."""

MAX_LINE = 1 << 16
"""Bytes of a line of an image list."""

LINE = re.compile(rb"(?P<path>.+) (?P<label>[+-]?\d{1,10})(?P<end>\r?\n?)")
"""As Caffe reads it: all before the last space is the path."""

SEVERAL = re.compile(rb".*\s[+-]?\d+")

INT32 = range(-(2**31), 2**31)
"""What a label can be, in a Datum and to Caffe's ImageData."""


@dataclass(frozen=True)
class Shuffled:
    """What was done: records, those among which the labels were permuted, those whose label is
    another one now, and how often each label comes, before and after."""

    records: int
    chosen: int
    changed: int
    histogram: dict[int, int]


def permuted(labels: Labels, seed: int, fraction: float = 1.0) -> tuple[Labels, int]:
    """The labels (N,), permuted among a random `fraction` of the places; and how many these are.

    Raises:
        ValueError: if `fraction` is not in 0 … 1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"a fraction of {fraction}")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(labels))[: round(fraction * len(labels))]
    result = labels.copy()
    result[np.sort(chosen)] = labels[chosen]
    return result, len(chosen)


def shuffle(
    source: Path,
    destination: Path,
    seed: int,
    fraction: float = 1.0,
    *,
    force: bool = False,
    progress: Progress = silent,
) -> Shuffled:
    """Write `source`, an LMDB or an image list, with permuted labels as `destination`.

    An image list is what convert_imageset and ImageData layers read: a path and a label per line.
    Of a record of an LMDB only the label's bytes change.

    Raises:
        DatabaseError: if the source is damaged, or a line has not one label.
        OutputError: if the destination is the source, or exists and `force` is false.
    """
    expect_name(destination)
    if source.is_dir():
        return _shuffle_lmdb(source, destination, seed, fraction, force, progress)
    return _shuffle_list(source, destination, seed, fraction, force)


def _shuffle_lmdb(
    source: Path, destination: Path, seed: int, fraction: float, force: bool, progress: Progress
) -> Shuffled:
    data = source / database.DATA_FILE
    check_targets([destination / database.DATA_FILE], force=True, inputs=[data])
    labels = _read_labels((datum.label for _, datum in database.read(source)), source)
    shuffled, chosen = permuted(labels, seed, fraction)

    def records(start: int) -> Iterator[tuple[bytes, bytes]]:
        following = islice(database.read_bytes(source), start, None)
        for (key, value), label in zip(following, shuffled[start:], strict=True):
            yield key, labelled(value, int(label))

    def make(partial: Path) -> None:
        database.complete(
            partial / destination.name,
            records,
            lambda done: progress(f"writing {destination.name}", done, len(labels)),
        )

    build(
        destination.with_name(destination.name + SUFFIX),
        [f"{destination.name}/{database.DATA_FILE}"],
        make,
        {"labels of": identity(data), "seed": seed, "fraction": fraction},
        force=force,
        inputs=[data],
    )
    return _report(labels, shuffled, chosen)


def labelled(value: bytes, label: int) -> bytes:
    """The bytes of a Datum with another label; all others stay as they are and where they are."""
    # Negative numbers are 64-bit ones in a varint.
    field = encode_int(DATUM_LABEL, label % 2**64)
    wire = WireFile("", value)
    parts, end = [], 0
    for found in wire.fields(0, len(value), Location("")):
        if found.number == DATUM_LABEL:
            # Of several ones, which protobuf allows, the last one holds.
            parts += [value[end : found.offset], field]
            end = found.end
    return b"".join(parts) + value[end:] if parts else value + field


def _shuffle_list(
    source: Path, destination: Path, seed: int, fraction: float, force: bool
) -> Shuffled:
    with replacing(destination, force=force, inputs=[source]) as (staged,):
        labels = _read_labels((label for _, label, _ in _lines(source)), source)
        shuffled, chosen = permuted(labels, seed, fraction)
        with staged.open("wb") as file:
            for (path, _, end), label in zip(_lines(source), shuffled, strict=True):
                file.write(b"%s %d%s" % (path, label, end))
    return _report(labels, shuffled, chosen)


def _lines(source: Path) -> Iterator[tuple[bytes, int, bytes]]:
    """Path, label and what ends the line, of each line."""
    if not source.is_file():
        raise DatabaseError(
            "no such file" if not source.exists() else "a device or pipe",
            "an LMDB, or an image list",
            "Check the path.",
            Location(str(source)),
        )
    with source.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
            match = LINE.fullmatch(line)
            if match is None or int(match["label"]) not in INT32:
                _refuse(source, number, "a line without a label behind its last space")
            if SEVERAL.fullmatch(match["path"]):
                _refuse(source, number, "a line that ends in several numbers")
            yield match["path"], int(match["label"]), match["end"]


def _refuse(source: Path, line: int, found: str) -> NoReturn:
    raise DatabaseError(
        found,
        "a path, a space and one label",
        "Caffe's ImageData and convert_imageset read one label per image, from such a list.",
        Location(str(source), line=line),
    )


def _read_labels(labels: Iterable[int], source: Path) -> Labels:
    found = np.fromiter(labels, np.int64)
    if not found.size:
        raise DatabaseError("no images", "some", at=Location(str(source)))
    return found


def _report(labels: Labels, shuffled: Labels, chosen: int) -> Shuffled:
    changed = int(np.count_nonzero(labels != shuffled))
    histogram = Counter(shuffled.tolist())
    assert histogram == Counter(labels.tolist())
    return Shuffled(len(labels), chosen, changed, dict(sorted(histogram.items())))
