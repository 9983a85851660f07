"""LMDBs of Datum messages, which Caffe's Data layers read.

    write("digits_train_lmdb", ((key(i), datum(image, label)) for i, (image, label) in ...))
    for key, datum in read("digits_train_lmdb"):
        image = pixels(datum)

Caffe reads the records in the byte order of their keys, hence `key`.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffesplit.errors import DatabaseError, Location
from caffesplit.formats import schema
from caffesplit.formats.lmdb_pages import Pages
from caffesplit.formats.output import replacing

Datum: TypeAlias = Any
"""Caffe's message: channels, height, width, label, and data (uint8) or float_data."""

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]

BATCH = 1000
"""Records in one transaction, as convert_imageset has it."""

FIRST_MAP_SIZE = 1 << 24
"""Bytes; doubled whenever the records outgrow it."""

DATA_FILE = "data.mdb"


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
        message.float_data.extend(image.ravel().tolist())
    return message


def pixels(message: Datum) -> Pixels:
    """The image of a Datum that is not `encoded`: (C, H, W), uint8, or float32 for float_data."""
    shape = (message.channels, message.height, message.width)
    if message.data:
        return np.frombuffer(message.data, np.uint8).reshape(shape)
    return np.asarray(message.float_data, np.float32).reshape(shape)


def write(
    folder: Path | str, records: Iterable[tuple[bytes, Datum]], *, force: bool = False
) -> int:
    """Write an LMDB, complete or not at all; return the number of records.

    Raises:
        DatabaseError: if the lmdb package is missing, or a key comes twice.
        OutputError: if there is an LMDB already and `force` is false, or the disk is full.
    """
    lmdb = _lmdb()
    at = Location(str(folder))
    written = 0
    with replacing(Path(folder) / DATA_FILE, force=force) as (staged,):
        try:
            # Without the lock file, which nobody needs here: lmdb maps it, and a disk without room
            # for it ends the process with SIGBUS.
            with lmdb.open(
                str(staged.parent), map_size=FIRST_MAP_SIZE, sync=False, lock=False
            ) as environment:
                remaining = iter(records)
                while batch := list(itertools.islice(remaining, BATCH)):
                    _put(environment, batch, at)
                    written += len(batch)
                environment.sync(True)
        except lmdb.Error as error:
            # What a disk that fills up does not take of a page is an EIO to lmdb.
            if isinstance(error, lmdb.DiskError) or str(error).endswith(os.strerror(errno.EIO)):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise DatabaseError(f"the LMDB cannot be written ({error})", at=at) from error
    return written


def read(folder: Path | str) -> Iterator[tuple[bytes, Datum]]:
    """The keys and Datums of an LMDB, in the keys' order, one in memory at a time.

    The whole file's structure is checked before the first record is handed out, each record
    when its turn comes.

    Raises:
        DatabaseError: if there is no LMDB, or it is damaged, or a record is no Datum.
    """
    for record_key, value in Pages(_data_file(Path(folder))):
        yield record_key, _parse(record_key, value, Path(folder))


def count(folder: Path | str) -> int:
    """The number of records.

    Raises:
        DatabaseError: if there is no LMDB, or it is damaged.
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


def _put(environment: Any, batch: list[tuple[bytes, Datum]], at: Location) -> None:
    """Put a batch in one transaction, in a larger map if it does not fit."""
    lmdb = _lmdb()
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for record_key, message in batch:
                    value = message.SerializeToString()
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
        kind = "a LevelDB" if (folder / "CURRENT").exists() else f"a folder without {DATA_FILE}"
        raise DatabaseError(kind, "an LMDB", remedy, at)
    return folder / DATA_FILE


def _parse(record_key: bytes, value: bytes, folder: Path) -> Datum:
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
