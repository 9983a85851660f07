"""Writing a file as pieces: ranges of bytes of another one, and what stands between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from caffesplit.errors import Location, WeightsError

CHUNK = 1 << 20
"""Bytes that are copied at a time where the kernel does not do it."""


class Writable(Protocol):
    """Something that writes itself."""

    def write(self, file: BinaryIO) -> object: ...


Piece: TypeAlias = "range | bytes | Writable"


def write(pieces: Iterable[Piece], source: Path | str, file: BinaryIO) -> None:
    """Write the pieces one behind the other; the ranges are of the file `source`.

    Raises:
        WeightsError: if `source` has become shorter than its ranges.
    """
    with Path(source).open("rb") as original:
        for piece in pieces:
            if isinstance(piece, range):
                copy = in_kernel if sys.platform == "linux" else by_hand
                if not copy(original, piece, file):
                    raise WeightsError(
                        "the file became shorter while it was read",
                        "a file that nobody writes to",
                        "Wait until it is complete.",
                        Location(str(source)),
                    )
            elif isinstance(piece, bytes):
                file.write(piece)
            else:
                piece.write(file)


def in_kernel(source: BinaryIO, piece: range, file: BinaryIO) -> bool:
    """Let the kernel copy a piece, so that its bytes need not come here; whether it was all
    there."""
    file.flush()
    start = piece.start
    while start < piece.stop:
        copied = os.sendfile(file.fileno(), source.fileno(), start, piece.stop - start)
        if not copied:
            return False
        start += copied
    file.seek(0, os.SEEK_END)
    return True


def by_hand(source: BinaryIO, piece: range, file: BinaryIO) -> bool:
    """Copy a piece; whether it was all there."""
    source.seek(piece.start)
    left = len(piece)
    while left:
        chunk = source.read(min(left, CHUNK))
        if not chunk:
            return False
        file.write(chunk)
        left -= len(chunk)
    return True
