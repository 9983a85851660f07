"""The records of a LevelDB as an LMDB: the same keys and values, to the byte, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from caffesplit.data.prepare import Progress, expect_name, silent
from caffesplit.errors import DatabaseError, Location, OutputError
from caffesplit.formats import database, leveldb
from caffesplit.formats.partial import SUFFIX, build, identity

Records = Iterator[tuple[bytes, bytes]]

MAX_KEY = 511
"""Bytes of a key in an LMDB; Caffe's own tools write 256 at most."""


def write(
    source: Path, destination: Path, *, force: bool = False, progress: Progress = silent
) -> int:
    """Write the records of the LevelDB `source` as the LMDB `destination`; return how many.

    `source` is left as it is, to the byte; see `formats.leveldb`.

    Raises:
        DatabaseError: if plyvel is missing, or there is no LevelDB, or it is damaged or empty, or
            its first record is no Datum, or a key has no room in an LMDB.
        OutputError: if there is an LMDB already and `force` is false, or it would be in `source`.
    """
    expect_name(destination)
    _refuse_inside(source, destination)
    files = leveldb.files(source)

    def make(partial: Path) -> None:
        with leveldb.opened(files, partial) as found:
            records = _checked(found, source)
            database.complete(
                partial / destination.name,
                lambda start: islice(records, start, None),
                lambda done: progress(f"writing {destination.name}", done, 0),
            )

    build(
        destination.with_name(destination.name + SUFFIX),
        [f"{destination.name}/{database.DATA_FILE}"],
        make,
        {"records of": [identity(path) for path in files]},
        force=force,
        inputs=files,
    )
    return database.count(destination)


def _checked(records: Records, source: Path) -> Records:
    """The records, if they are for a Data layer: the first one's Datum tells, and all keys."""
    first = next(records, None)
    if first is None:
        raise DatabaseError("a LevelDB without records", "some", at=Location(str(source)))
    database.parse(*first, source)
    for key, value in chain([first], records):
        if not 0 < len(key) <= MAX_KEY:
            raise DatabaseError(
                f"a key of {len(key):,} bytes, {key[:40]!r}",
                f"1 to {MAX_KEY}, for which an LMDB has room",
                "Make an LMDB of the images: convert_imageset --backend=lmdb.",
                Location(str(source)),
            )
        yield key, value


def _refuse_inside(source: Path, destination: Path) -> None:
    """The LevelDB's folder is the user's, and stays as it is."""
    place = destination.resolve()
    if source.resolve() in (place, *place.parents):
        raise OutputError(
            "the output is in the LevelDB's own folder",
            "another path",
            "Give another output; inputs are never changed.",
            Location(str(destination)),
        )
