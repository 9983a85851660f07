"""The text of a log file in pieces, whatever the file may turn out to be."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caffesplit.errors import Location, LogError

PIECE = 1 << 17
"""Characters read at a time. Much larger ones are slower, as they leave the processor's cache."""

GZIP = b"\x1f\x8b"


UNDECODABLE = 0.1
"""A file is binary if more of its first piece is no UTF-8. Logs with holes of zeros are not."""


HEAD = 4096
"""Bytes by which a file is known again."""


class Source:
    """The pieces of a log, gzipped or not; `-` is standard input. Each time it is iterated it
    goes on where it ended. Iterating raises LogError if the file cannot be read or is binary."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.empty = True
        """Whether no piece has been read so far."""
        self._head = b""
        self._end = 0
        """Bytes read so far."""

    def replaced(self) -> bool:
        """Whether the file no longer is what has been read of it, with or without more behind.

        A gzipped file that has changed counts as another, since it cannot be read on.

        Raises:
            LogError: if the file cannot be read.
        """
        if not self._head:
            return False
        with self._refusing(), Path(self.path).open("rb") as file:
            head = file.read(HEAD)
            size = file.seek(0, os.SEEK_END)
        if self._head[:2] == GZIP:
            return size != self._end
        return size < self._end or not head.startswith(self._head)

    def __iter__(self) -> Iterator[str]:
        with self._refusing():
            yield from self._pieces()

    def _pieces(self) -> Iterator[str]:
        stdin = self.path == "-"
        with open(0 if stdin else self.path, "rb", closefd=not stdin) as raw:
            if self._end:
                raw.seek(self._end)
            else:
                self._head = raw.peek(HEAD)[:HEAD]
            zipped = self._head[:2] == GZIP and not self._end
            binary = gzip.GzipFile(fileobj=raw) if zipped else raw
            text = io.TextIOWrapper(binary, encoding="utf-8", errors="replace", newline="\n")
            while piece := text.read(PIECE):
                if self.empty and piece.count("\ufffd") > UNDECODABLE * len(piece):
                    raise self._refused("the file is binary")
                self.empty = False
                yield piece
            self._end = raw.tell() if raw.seekable() else 0

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._refused(f"the log cannot be read ({reason})") from error

    def _refused(self, found: str) -> LogError:
        return LogError(
            found,
            "a text file, gzipped or not",
            "Give the file that holds what `caffe train` printed.",
            Location(self.path),
        )
