"""Files of known names and sizes, in a tar archive or in a folder, read where they lie.

Nothing is unpacked to the disk. An archive may come from anywhere: whatever its headers say, no
more than `MAX_BYTES` of it are decompressed, and what is no plain file is refused.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from caffesplit.errors import DatabaseError, Location

MAX_BYTES = 256 << 20
"""Of an archive, decompressed; CIFAR's are 185 MB."""

GZIP_MAGIC = b"\x1f\x8b"

DAMAGED = "The archive is damaged or cut off. Download it again."


@dataclass(frozen=True)
class Region:
    """Where a file's bytes are: `size` of them from `offset` on, of what `path` holds
    (decompressed, if it is a gzip file)."""

    path: Path
    offset: int
    size: int

    def chunks(self, start: int, size: int) -> Iterator[bytes]:
        """The bytes from `start` on, `size` at a time.

        Raises:
            DatabaseError: if the file is damaged or ends before its region.
        """
        with _opened(self.path) as file:
            file.seek(self.offset + start)
            left = self.size - start
            while left > 0:
                chunk = file.read(min(size, left))
                if len(chunk) < min(size, left):
                    raise DatabaseError("the file ends too early", "", DAMAGED, self.at)
                yield chunk
                left -= len(chunk)

    @property
    def at(self) -> Location:
        return Location(str(self.path))


def find(path: Path) -> dict[str, Region]:
    """The files in an archive or a folder, by their names without folders.

    Raises:
        DatabaseError: if the archive is none, is damaged, or holds anything but plain files in
            its own folder, each name once.
    """
    return _in_folder(path) if path.is_dir() else _in_archive(path)


def _in_folder(folder: Path) -> dict[str, Region]:
    return {
        path.name: Region(path, 0, path.stat().st_size)
        for path in folder.iterdir()
        if path.is_file()
    }


def _in_archive(path: Path) -> dict[str, Region]:
    regions: dict[str, Region] = {}
    with _opened(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            at = Location(f"{path}: {member.name}")
            if name.is_absolute() or ".." in name.parts:
                raise DatabaseError(
                    "a member that leads out of the archive's folder", "a name in it", DAMAGED, at
                )
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise DatabaseError("a link or device in the archive", "files", DAMAGED, at)
            if name.name in regions:
                raise DatabaseError("a name that comes twice", "one file of it", DAMAGED, at)
            regions[name.name] = Region(path, member.offset_data, member.size)
    return regions


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, decompressed if it is a gzip file; what is wrong with it is told."""
    at = Location(str(path))
    try:
        with ExitStack() as closing:
            file = closing.enter_context(path.open("rb"))
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            yield _Bounded(closing.enter_context(gzip.open(file)) if packed else file, at)
    except tarfile.ReadError as error:
        raise DatabaseError(f"no tar archive ({error})", "one", DAMAGED, at) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatabaseError(f"it cannot be decompressed ({error})", "", DAMAGED, at) from error


class _Bounded:
    """A file of which nothing behind `MAX_BYTES` is read."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, at: Location) -> None:
        self._file, self._at = file, at

    def read(self, size: int = -1) -> bytes:
        self._check(self._file.tell() + (size if size >= 0 else MAX_BYTES))
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, end: int) -> None:
        if end > MAX_BYTES:
            raise DatabaseError(
                f"the archive holds {end:,} bytes or more",
                f"at most {MAX_BYTES:,}",
                DAMAGED,
                self._at,
            )
