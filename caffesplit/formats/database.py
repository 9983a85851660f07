"""LMDBs of Datum messages, which Caffe's Data layers read.

    write("digits_train_lmdb", ((key(i), datum(image, label)) for i, (image, label) in ...))
    for key, datum in read("digits_train_lmdb"):
        image = pixels(datum)

Caffe reads the records in the byte order of their keys, hence `key`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffesplit.errors import DatabaseError, Location
from caffesplit.formats import schema
from caffesplit.formats.lmdb_pages import Pages
from caffesplit.formats.output import replacing
from caffesplit.formats.wire import encode_length

Datum: TypeAlias = Any
"""Caffe's message: channels, height, width, label, and data (uint8) or float_data."""

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]

Records: TypeAlias = "Iterable[tuple[bytes, Datum | bytes]]"
"""Keys and Datums, or the latter's bytes as they are to be written."""

BATCH = 1000
"""Records in one transaction, as convert_imageset has it."""

BATCH_BYTES = 1 << 24
"""Bytes in one transaction, where the records are so large that there are fewer of them."""

FIRST_MAP_SIZE = 1 << 24
"""Bytes; doubled whenever the records outgrow it."""

DATA_FILE = "data.mdb"

FLOAT_DATA = 6
"""Field number of Datum."""


def key(index: int) -> bytes:
    """The key of the record at `index`, as convert_imageset counts: eight digits."""
    return b"%08d" % index


def datum(image: Pixels, label: int) -> Datum:
    """The Datum of an image (C, H, W), uint8 (kept as bytes) or float32, and its class.

    Raises:
        ValueError: for any other shape or type.
    """
    if image.ndim != 3 or image.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f"an image is (C, H, W) in uint8 or float32, got {image.shape} in {image.dtype}"
        )
    channels, height, width = image.shape
    message = schema.message_class("Datum")(
        channels=channels, height=height, width=width, label=label
    )
    if image.dtype == np.uint8:
        message.data = image.tobytes()
    else:
        # Parsing the values, packed, makes no Python float of each: fifty times as fast.
        message.MergeFromString(
            encode_length(FLOAT_DATA, image.nbytes) + image.astype("<f4").tobytes()
        )
    return message


def pixels(message: Datum) -> Pixels:
    """The image of a Datum that is not `encoded`: (C, H, W), uint8, or float32 for float_data."""
    shape = (message.channels, message.height, message.width)
    if message.data:
        return np.frombuffer(message.data, np.uint8).reshape(shape)
    return np.asarray(message.float_data, np.float32).reshape(shape)


def write(folder: Path | str, records: Records, *, force: bool = False) -> int:
    """Write an LMDB, complete or not at all; return the number of records.

    Raises:
        DatabaseError: if the lmdb package is missing, or a key comes twice.
        OutputError: if there is an LMDB already and `force` is false, or the disk is full.
    """
    with replacing(Path(folder) / DATA_FILE, force=force) as (staged,):
        return _append(staged.parent, records, Location(str(folder)))


def complete(
    folder: Path | str,
    records: Callable[[int], Records],
    progress: Callable[[int], None] = lambda written: None,
) -> int:
    """Write into `folder` the records that its LMDB lacks; return how many it has then.

    `records(n)` gives those from the n-th on, the same ones in every call. What a killed call has
    written stays, up to the last transaction, and the next one goes on behind it. `progress`
    learns the number of records after every transaction.

    Raises:
        DatabaseError: if the lmdb package is missing, or a key comes twice.
        OSError: if the disk is full.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    done = 0
    with suppress(DatabaseError):  # None yet, or one that a power cut damaged.
        pages = Pages(_data_file(folder))
        pages.check()
        done = len(pages)
    if not done:
        (folder / DATA_FILE).unlink(missing_ok=True)
    progress(done)
    at = Location(str(folder))
    return done + _append(folder, records(done), at, lambda written: progress(done + written))


def read(folder: Path | str) -> Iterator[tuple[bytes, Datum]]:
    """The keys and Datums of an LMDB, in the keys' order, one in memory at a time.

    The whole file's structure is checked before the first record is handed out, each record
    when its turn comes.

    Raises:
        DatabaseError: if there is no LMDB, or it is damaged, or a record is no Datum.
    """
    folder = Path(folder)
    for record_key, value in read_bytes(folder):
        yield record_key, parse(record_key, value, folder)


def read_bytes(folder: Path | str) -> Iterator[tuple[bytes, bytes]]:
    """The keys and the bytes of the values of an LMDB; `read` without a look into the records.

    Raises:
        DatabaseError: if there is no LMDB, or it is damaged.
    """
    yield from Pages(_data_file(Path(folder)))


def count(folder: Path | str) -> int:
    """The number of records, as the file says it: nothing else of it is looked at.

    Raises:
        DatabaseError: if there is no LMDB.
    """
    return len(Pages(_data_file(Path(folder))))


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise DatabaseError(
            "lmdb is not installed",
            remedy="Install it: pip install lmdb",
        ) from error
    return lmdb


def _append(
    folder: Path,
    records: Records,
    at: Location,
    progress: Callable[[int], None] = lambda written: None,
) -> int:
    """Put the records into the LMDB in `folder`; `at` is the name it has for the user."""
    lmdb = _lmdb()
    file, written = folder / DATA_FILE, 0
    size = max(FIRST_MAP_SIZE, file.stat().st_size if file.exists() else 0)
    try:
        # Without the lock file, which nobody needs here: lmdb maps it, and a disk without room
        # for it ends the process with SIGBUS.
        with lmdb.open(str(folder), map_size=size, lock=False) as environment:
            for batch in _batches(records):
                _put(environment, batch, at)
                written += len(batch)
                progress(written)
    except lmdb.Error as error:
        # What a disk that fills up does not take of a page is an EIO to lmdb.
        if isinstance(error, lmdb.DiskError) or str(error).endswith(os.strerror(errno.EIO)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise DatabaseError(f"the LMDB cannot be written ({error})", at=at) from error
    return written


def _batches(records: Records) -> Iterator[list[tuple[bytes, bytes]]]:
    """Keys and bytes, as many as one transaction takes."""
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for record_key, record in records:
        value = record if isinstance(record, bytes) else record.SerializeToString()
        batch.append((record_key, value))
        size += len(value)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _put(environment: Any, batch: list[tuple[bytes, bytes]], at: Location) -> None:
    """Put a batch in one transaction, in a larger map if it does not fit."""
    lmdb = _lmdb()
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for record_key, value in batch:
                    if not transaction.put(record_key, value, overwrite=False):
                        raise DatabaseError(
                            f"key {record_key.decode(errors='replace')!r} comes twice",
                            "one record per key",
                            at=at,
                        )
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()["map_size"])


def _data_file(folder: Path) -> Path:
    at = Location(str(folder))
    remedy = "Name a folder that convert_imageset --backend=lmdb, or caffesplit data, wrote."
    if not folder.exists():
        raise DatabaseError("no such folder", "an LMDB", remedy, at)
    if not folder.is_dir():
        raise DatabaseError("a file", "an LMDB, which is a folder", remedy, at)
    if not (folder / DATA_FILE).is_file():
        found = f"a folder without {DATA_FILE}"
        if (folder / "CURRENT").exists():
            found = "a LevelDB"
            remedy = f"Write its records into one: caffesplit data lmdb {folder} -o OUT"
        raise DatabaseError(found, "an LMDB", remedy, at)
    return folder / DATA_FILE


def parse(record_key: bytes, value: bytes, folder: Path) -> Datum:
    """The Datum in the bytes of a record of the LMDB in `folder`.

    Raises:
        DatabaseError: if they are none, or its values do not fill its shape.
    """
    message: Datum = schema.message_class("Datum")()
    try:
        message.ParseFromString(value)
    except DecodeError:
        _refuse(record_key, folder, "no Datum")
    if message.encoded:
        if not message.data:
            _refuse(record_key, folder, "an encoded Datum without data")
        return message
    shape = (message.channels, message.height, message.width)
    needed = shape[0] * shape[1] * shape[2]
    held = len(message.data) or len(message.float_data)
    if min(shape) < 1 or held != needed:
        _refuse(record_key, folder, f"a Datum of shape {shape} with {held} values")
    return message


def _refuse(record_key: bytes, folder: Path, found: str) -> NoReturn:
    raise DatabaseError(
        f"record {record_key.decode(errors='replace')!r} is {found}",
        "channels, height, width and as many values",
        "The record is damaged, or the database holds something else than images.",
        Location(str(folder)),
    )
