"""The text of a log file in pieces, whatever the file may turn out to be."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator

from caffesplit.errors import Location, LogError

PIECE = 1 << 17
"""Characters read at a time. Much larger ones are slower, as they leave the processor's cache."""

GZIP = b"\x1f\x8b"


UNDECODABLE = 0.1
"""A file is binary if more of its first piece is no UTF-8. Logs with holes of zeros are not."""


class Source:
    """The pieces of a log, gzipped or not; `-` is standard input. Iterating raises LogError if
    the file cannot be read or is binary."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.empty = True
        """Whether no piece has been read so far."""

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._pieces()
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._refused(f"the log cannot be read ({reason})") from error

    def _pieces(self) -> Iterator[str]:
        stdin = self.path == "-"
        with open(0 if stdin else self.path, "rb", closefd=not stdin) as raw:
            binary = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == GZIP else raw
            text = io.TextIOWrapper(binary, encoding="utf-8", errors="replace", newline="\n")
            while piece := text.read(PIECE):
                if self.empty and piece.count("\ufffd") > UNDECODABLE * len(piece):
                    raise self._refused("the file is binary")
                self.empty = False
                yield piece

    def _refused(self, found: str) -> LogError:
        return LogError(
            found,
            "a text file, gzipped or not",
            "Give the file that holds what `caffe train` printed.",
            Location(self.path),
        )
