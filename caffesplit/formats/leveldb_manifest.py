"""What a LevelDB's manifest says: which files hold the records, and whether they are whole.

LevelDB itself misses a table that is gone, but neither a log that is gone nor a log or manifest
that ends too early: their records are then left out without a word.

The format (LevelDB 1.x, little-endian): manifests and logs are sequences of records, in blocks of
32 KiB; a record is one fragment or several, each with a header `crc u32, length u16, type u8`. A
manifest's records are edits to the set of tables: a tag, then what belongs to it, in varints and
strings. Checksums are LevelDB's own business, which reads all of it later.
Source: leveldb's doc/log_format.md, db/log_reader.cc, db/version_edit.cc.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from caffesplit.errors import DatabaseError, Location

BLOCK = 1 << 15

_HEADER = struct.Struct("<IHB")

_ZEROS, _FULL, _FIRST, _MIDDLE, _LAST = range(5)
"""Types of a fragment. Zeros are left by writers that mapped their file, and end a block."""

MAX_MANIFEST = 1 << 28
"""Bytes; a manifest has about a hundred for each table, which holds two million."""

NOT_WHOLE = "The file is damaged, or was not copied to its end. Copy it again."


@dataclass(frozen=True)
class Manifest:
    """The tables that hold the records, number → bytes, and the logs that do: those of a number
    from `log` on, and `previous_log`."""

    tables: Mapping[int, int]
    log: int
    previous_log: int


def read(path: Path) -> Manifest:
    """The manifest in the file `path`.

    Raises:
        DatabaseError: if it is none, or not whole.
    """
    check_end(path)
    if path.stat().st_size > MAX_MANIFEST:
        raise DatabaseError(
            f"a manifest of {path.stat().st_size:,} bytes", f"at most {MAX_MANIFEST:,}",
            NOT_WHOLE, Location(str(path)),
        )  # fmt: skip
    tables: dict[tuple[int, int], int] = {}
    logs = {"log": 0, "previous_log": 0}
    for end, record in _records(path.read_bytes()):
        try:
            _edit(_Fields(record), tables, logs)
        except (IndexError, ValueError) as error:
            raise DatabaseError(
                "no edit of a LevelDB's tables", "one", NOT_WHOLE,
                Location(str(path), byte=end - len(record)),
            ) from error  # fmt: skip
    return Manifest({number: size for (_, number), size in tables.items()}, **logs)


def check_end(path: Path) -> None:
    """Look whether a log or manifest ends where one of its records does.

    Raises:
        DatabaseError: if it does not.
    """
    size = path.stat().st_size
    if not size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = 0
        for kind, _, last in _fragments(data):
            if kind in (_FULL, _LAST):
                end = last
        if data[end:].strip(b"\0"):
            raise DatabaseError(
                f"{size - end:,} bytes that are no complete record",
                "the file to end with one",
                f"{NOT_WHOLE} If there is no more of it, since its\nwriter was stopped, do without "
                f"that record, in a copy of the folder: truncate -s {end} {path.name}",
                Location(str(path), byte=end),
            )


def _fragments(data: bytes | mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Type, start and end of each fragment, up to the first that cannot be one."""
    position = 0
    while position + _HEADER.size <= len(data):
        room = BLOCK - position % BLOCK
        if room < _HEADER.size:
            position += room
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        if kind == _ZEROS and not length:
            position += room
            continue
        start = position + _HEADER.size
        position = start + length
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or position > len(data):
            return
        if _HEADER.size + length > room:
            return
        yield kind, start, position


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Where each record ends, and its bytes."""
    parts: list[bytes] = []
    for kind, start, end in _fragments(data):
        if kind in (_FULL, _FIRST):
            parts.clear()
        parts.append(data[start:end])
        if kind in (_FULL, _LAST):
            yield end, b"".join(parts)


class _Fields:
    """The fields of an edit, one after the other. What runs past its end is an IndexError."""

    def __init__(self, record: bytes) -> None:
        self._record, self._position = record, 0

    def __bool__(self) -> bool:
        return self._position < len(self._record)

    def number(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._record[self._position]
            self._position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number of more than 10 bytes")

    def skip_string(self) -> None:
        length = self.number()
        self._position += length
        if self._position > len(self._record):
            raise IndexError("a string that runs past the end")


def _edit(fields: _Fields, tables: dict[tuple[int, int], int], logs: dict[str, int]) -> None:
    """Do what an edit says; tables are known by their level and number."""
    while fields:
        tag = fields.number()
        if tag == 1:  # comparator
            fields.skip_string()
        elif tag == 2:
            logs["log"] = fields.number()
        elif tag in (3, 4):  # next file's number, last record's number
            fields.number()
        elif tag == 5:  # where a level's next compaction starts
            fields.number()
            fields.skip_string()
        elif tag == 6:  # a table that is no longer one
            tables.pop((fields.number(), fields.number()), None)
        elif tag == 7:
            place = fields.number(), fields.number()
            tables[place] = fields.number()
            fields.skip_string()  # its first key
            fields.skip_string()  # its last key
        elif tag == 9:
            logs["previous_log"] = fields.number()
        else:
            raise ValueError(f"a tag {tag}")
