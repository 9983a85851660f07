"""LMDB files read page by page, every number checked before it is followed.

The lmdb library trusts its file: a truncated or damaged one ends the process with SIGBUS, without
a word. Reading needs little of the format, so it is done here, on a read-only map, without a lock.

The format (version 1 of LMDB 0.9, 64 bits, little-endian): pages of equal size, each with a header
`pgno u64, pad u16, flags u16, lower u16, upper u16`. Pages 0 and 1 are meta pages; the one of the
later transaction holds. The records are a B+ tree of branch and leaf pages; a page's nodes lie
between `upper` and its end, at the u16 offsets listed between its header and `lower`. A value too
large for its leaf lies on overflow pages. Source: lmdb's mdb.c (MDB_page, MDB_node, MDB_meta).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from caffesplit.errors import DatabaseError, Location

MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE_SIZES = tuple(1 << bits for bits in range(9, 17))
MAX_DEPTH = 32
"""Pages above each other, as in lmdb itself (CURSOR_STACK)."""

_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_PAGE_KINDS = 0x6F
"""All page flags of the format but the one that only means "not written yet"."""

_BIG_DATA = 1
_NO_PAGE = 2**64 - 1

_HEADER = struct.Struct("<QHHHH")
_OVERFLOW_HEADER = struct.Struct("<QHHI")
_META_HEAD = struct.Struct("<IIQQ")
_DB = struct.Struct("<IHHQQQQQ")
_TRANSACTION = struct.Struct("<QQ")
_META_SIZE = _HEADER.size + _META_HEAD.size + 2 * _DB.size + _TRANSACTION.size
_NODE = struct.Struct("<HHHH")
_PAGE_NUMBER = struct.Struct("<Q")


@dataclass(frozen=True)
class _Meta:
    """What a meta page says."""

    page_size: int
    flags: int
    entries: int
    root: int
    transaction: int


@dataclass(frozen=True)
class _Page:
    start: int
    kind: int
    nodes: tuple[int, ...]


class Pages:
    """A data.mdb; iterating gives its keys and values, in the keys' byte order.

    Its pages are checked once, before the first record; values are not looked into.

    Raises:
        DatabaseError: on creation, if the file is no LMDB; later as `check` does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        if self._size < _META_SIZE:
            self._fail(f"{self._size} bytes", "an LMDB", 0, "Name a folder that holds an LMDB.")
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._meta = self._newest_meta()
        self._is_checked = False

    def __len__(self) -> int:
        """The number of records, as the file has it; no page is looked at."""
        return self._meta.entries

    def check(self) -> None:
        """Look at all pages.

        Raises:
            DatabaseError: if one of them is not there or cannot be right.
        """
        if not self._is_checked:
            for _ in self._records():
                pass
            self._is_checked = True

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        self.check()
        for key, start, size in self._records():
            yield key, self._map[start : start + size]

    def _newest_meta(self) -> _Meta:
        first = self._read_meta(0)
        if first.page_size not in PAGE_SIZES:
            self._fail(f"pages of {first.page_size} bytes", "512 … 65536", 0)
        if first.page_size + _META_SIZE > self._size:
            self._fail(f"{self._size} bytes", "two pages at least", self._size)
        second = self._read_meta(first.page_size)
        newest = max(first, second, key=lambda meta: meta.transaction)
        if newest.flags:
            self._fail("keys of a special kind", "plain ones, as Caffe writes them", 0)
        return newest

    def _read_meta(self, start: int) -> _Meta:
        at = start + _HEADER.size
        magic, version, _, _ = _META_HEAD.unpack_from(self._map, at)
        if (magic, version) != (MAGIC, VERSION):
            self._fail(
                f"the number {magic:#010x}, version {version}",
                f"LMDB's {MAGIC:#010x}, version {VERSION}",
                at,
                "Write the database anew with this machine's convert_imageset.",
            )
        at += _META_HEAD.size
        page_size = _DB.unpack_from(self._map, at)[0]
        _, flags, _, _, _, _, entries, root = _DB.unpack_from(self._map, at + _DB.size)
        _, transaction = _TRANSACTION.unpack_from(self._map, at + 2 * _DB.size)
        return _Meta(page_size, flags, entries, root, transaction)

    def _records(self) -> Iterator[tuple[bytes, int, int]]:
        """Key, and where the value starts and how long it is, of every record."""
        pages_left, bytes_left = self._size // self._meta.page_size, self._size
        pending = [] if self._meta.root == _NO_PAGE else [(self._meta.root, 1)]
        entries, previous = 0, None
        while pending:
            number, depth = pending.pop()
            page = self._page(number)
            pages_left -= 1
            if pages_left < 0 or depth > MAX_DEPTH:
                self._fail("pages that lead back to each other", "a tree", page.start)
            if page.kind == _BRANCH:
                children = [self._child(node) for node in page.nodes]
                pending += [(child, depth + 1) for child in reversed(children)]
                continue
            for node in page.nodes:
                key, start, size = self._record(page, node)
                if previous is not None and key <= previous:
                    self._fail("keys out of order", "them sorted", node)
                bytes_left -= len(key) + size
                if bytes_left < 0:
                    self._fail("records that share their bytes", "bytes of their own", node)
                entries, previous = entries + 1, key
                yield key, start, size
        if entries != self._meta.entries:
            self._fail(f"{entries} records", f"{self._meta.entries}", 0)

    def _page(self, number: int) -> _Page:
        """A branch or leaf page; `nodes` are the bytes its nodes start at."""
        start, size = self._start(number), self._meta.page_size
        found, _, flags, lower, upper = _HEADER.unpack_from(self._map, start)
        kind = flags & _PAGE_KINDS
        if found != number or kind not in (_BRANCH, _LEAF):
            self._fail(f"a page {found} of kind {kind}", f"page {number} of the tree", start)
        if not _HEADER.size <= lower <= upper <= size or lower % 2:
            self._fail("a page without a right end", "one", start)
        offsets = struct.unpack_from(f"<{(lower - _HEADER.size) // 2}H", self._map, start + 16)
        for offset in offsets:
            if not upper <= offset <= size - _NODE.size:
                self._fail("a record outside of its page", "one inside", start + offset)
        return _Page(start, kind, tuple(start + offset for offset in offsets))

    def _child(self, node: int) -> int:
        low, middle, high, _ = _NODE.unpack_from(self._map, node)
        return int(low | middle << 16 | high << 32)

    def _record(self, page: _Page, node: int) -> tuple[bytes, int, int]:
        low, high, flags, key_size = _NODE.unpack_from(self._map, node)
        start, size = node + _NODE.size + key_size, low | high << 16
        stored = _PAGE_NUMBER.size if flags == _BIG_DATA else size
        if start + stored > page.start + self._meta.page_size or flags not in (0, _BIG_DATA):
            self._fail("a record that is larger than its page", "one inside", node)
        key = self._map[node + _NODE.size : start]
        if flags == _BIG_DATA:
            start = self._overflow(_PAGE_NUMBER.unpack_from(self._map, start)[0], size)
        return key, start, size

    def _overflow(self, number: int, size: int) -> int:
        """Where the value of `size` bytes starts that overflow page `number` holds."""
        start = self._start(number)
        found, _, flags, pages = _OVERFLOW_HEADER.unpack_from(self._map, start)
        room = min(pages * self._meta.page_size, self._size - start) - _OVERFLOW_HEADER.size
        if found != number or flags & _PAGE_KINDS != _OVERFLOW:
            self._fail(f"a page {found} of another kind", f"overflow page {number}", start)
        if size > room:
            self._fail(f"a value of {size} bytes where {room} have room", "it to fit", start)
        return start + _OVERFLOW_HEADER.size

    def _start(self, number: int) -> int:
        size = self._meta.page_size
        if number < 2 or (number + 1) * size > self._size:
            self._fail(f"{self._size} bytes", f"page {number} of {size} bytes", self._size)
        return number * size

    def _fail(self, found: str, expected: str, byte: int, remedy: str = "") -> NoReturn:
        raise DatabaseError(
            f"found {found}",
            expected,
            remedy or "The file is damaged, or was not copied to its end. Copy it again.",
            Location(str(self._path), byte=byte),
        )
