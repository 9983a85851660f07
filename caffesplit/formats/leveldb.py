"""LevelDBs, Caffe's default backend: read, and left as they are to the byte.

    found = files("train_leveldb")
    with opened(found, scratch) as records:
        for key, value in records: ...

LevelDB writes into the folder of a database even to read it: it numbers its files anew, turns logs
into tables, merges and deletes. So it gets a folder of its own, where the short files that it
replaces are copies and those that hold the records links: it deletes links, and never writes to a
file that is finished. Only the files that the manifest names are linked: the number of any other
one might be given away again, and its content with it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from caffesplit.errors import DatabaseError, Location
from caffesplit.formats import leveldb_manifest
from caffesplit.formats.database import DATA_FILE
from caffesplit.formats.leveldb_manifest import Manifest

CURRENT, LOCK = "CURRENT", "LOCK"

MANIFEST = re.compile(r"MANIFEST-\d+")

LOG = re.compile(r"(\d+)\.log")

TABLE_ENDINGS = (".ldb", ".sst")
""".sst before LevelDB 1.14 (2013)."""

OPEN_FILES = 100
"""As Caffe has it (src/caffe/util/db_leveldb.cpp). LevelDB maps tables of 2 MB, usually."""

HELD = (errno.EACCES, errno.EAGAIN)

REMEDY = "Name a folder that convert_imageset --backend=leveldb wrote."


def is_leveldb(folder: Path) -> bool:
    """Whether the folder holds a LevelDB, sound or not."""
    return (folder / CURRENT).is_file()


def files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a LevelDB's records: CURRENT, the manifest, tables and logs.

    All of them are there and as long as they are to be; their records are not looked into.

    Raises:
        DatabaseError: if there is no LevelDB, or one of them is missing or too short.
    """
    if not is_leveldb(folder):
        raise _none(folder)
    current = folder / CURRENT
    text = current.read_text(errors="replace")
    named = text.removesuffix("\n")
    if named == text or not MANIFEST.fullmatch(named):
        raise DatabaseError(
            f"a file that says {text[:100]!r}", "the name of the manifest, as MANIFEST-000002",
            leveldb_manifest.NOT_WHOLE, Location(str(current)),
        )  # fmt: skip
    if not (folder / named).is_file():
        raise _missing(folder, [named], "CURRENT names it")
    manifest = leveldb_manifest.read(folder / named)
    return (current, folder / named, *_tables(folder, manifest), *_logs(folder, manifest))


@contextmanager
def opened(files: Sequence[Path], scratch: Path) -> Iterator[Iterator[tuple[bytes, bytes]]]:
    """The keys and values of the LevelDB of these `files`, in the byte order of its keys.

    One record is in memory at a time, and its checksum looked at. What LevelDB writes is below
    the folder `scratch`, and removed at the end: as much as the logs hold, or a little more.

    Raises:
        DatabaseError: if plyvel is missing, another process has the LevelDB open, or, then or
            where its turn comes, a file is damaged.
        OSError: if the disk is full.
    """
    plyvel, folder = _plyvel(), files[0].parent
    with ExitStack() as leaving:
        leaving.enter_context(_held(folder))
        own = Path(leaving.enter_context(TemporaryDirectory(prefix="leveldb.", dir=scratch)))
        for file in files:
            _mirror(file, own / file.name)
        try:
            database = plyvel.DB(os.fsencode(own), paranoid_checks=True, max_open_files=OPEN_FILES)
        except plyvel.Error as error:
            raise _refused(error, folder, own) from error
        yield _records(leaving.enter_context(database), folder, own)


def _records(database: Any, folder: Path, own: Path) -> Iterator[tuple[bytes, bytes]]:
    key = None
    try:
        with database.iterator(verify_checksums=True, fill_cache=False) as records:
            for key, value in records:
                yield key, value
    except _plyvel().Error as error:
        raise _refused(error, folder, own, key) from error


def _plyvel() -> Any:
    try:
        import plyvel
    except ImportError as error:
        raise DatabaseError(
            "plyvel is not installed, which reads LevelDBs",
            remedy="Install it: pip install plyvel",
        ) from error
    return plyvel


def _none(folder: Path) -> DatabaseError:
    found, expected, remedy = f"a folder without {CURRENT}", "a LevelDB", REMEDY
    if not folder.exists():
        found = "no such folder"
    elif not folder.is_dir():
        found, expected = "a file", "a LevelDB, which is a folder"
    elif (folder / DATA_FILE).exists():
        found, remedy = "an LMDB", "Data layers read it as it is, with `backend: LMDB`."
    return DatabaseError(found, expected, remedy, Location(str(folder)))


def _missing(folder: Path, names: Sequence[str], why: str) -> DatabaseError:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return DatabaseError(
        f"no file {names[0]}{more}", f"all files of the LevelDB; {why}",
        "Copy the folder again, with all that is in it.", Location(str(folder)),
    )  # fmt: skip


def _tables(folder: Path, manifest: Manifest) -> list[Path]:
    """The files of the tables, which are as large as the manifest says, or larger."""
    found, missing = [], []
    for number, size in sorted(manifest.tables.items()):
        names = [f"{number:06d}{ending}" for ending in TABLE_ENDINGS]
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is None:
            missing.append(names[0])
        elif path.stat().st_size < size:
            raise DatabaseError(
                f"{path.stat().st_size:,} bytes", f"{size:,}, as the manifest has it",
                leveldb_manifest.NOT_WHOLE, Location(str(path)),
            )  # fmt: skip
        else:
            found.append(path)
    if missing:
        raise _missing(folder, missing, "the manifest names it")
    return found


def _logs(folder: Path, manifest: Manifest) -> list[Path]:
    """The logs whose records are in no table yet; a small LevelDB has all of its own there."""
    numbers = {
        int(match[1]): path for path in folder.iterdir() if (match := LOG.fullmatch(path.name))
    }
    found = [
        path
        for number, path in sorted(numbers.items())
        if number >= manifest.log or number == manifest.previous_log
    ]
    if manifest.log and manifest.log not in numbers:
        name = f"{manifest.log:06d}.log"
        raise DatabaseError(
            f"no file {name}", "it, which holds the records that came last",
            "Copy it from where the LevelDB was made. If it is lost, an empty file in its place,\n"
            f"in a copy of the folder, does without its records: touch {name}",
            Location(str(folder)),
        )  # fmt: skip
    for path in found:
        leveldb_manifest.check_end(path)
    return found


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Share the LevelDB's lock, so that nobody opens and changes it meanwhile."""
    with ExitStack() as leaving:
        if (folder / LOCK).exists():
            lock = leaving.enter_context((folder / LOCK).open("rb"))
            try:
                fcntl.lockf(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in HELD:  # Otherwise it is a file system without locks.
                    raise DatabaseError(
                        "another process has the LevelDB open", "it closed, so that it stays as is",
                        "Wait for the other process, or end it.", Location(str(folder)),
                    ) from error  # fmt: skip
        yield


def _mirror(file: Path, place: Path) -> None:
    if file.name == CURRENT or MANIFEST.fullmatch(file.name):
        shutil.copyfile(file, place)
        return
    try:
        place.symlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, place)  # A file system without links.


def _refused(
    error: Exception, folder: Path, own: Path, key: bytes | None = None
) -> DatabaseError | OSError:
    """What LevelDB says of the files in its `own` folder, said of those of the user."""
    text = error.args[0].decode(errors="replace")
    if text.endswith(os.strerror(errno.ENOSPC)):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    behind = "" if key is None else f" behind record {key.decode(errors='replace')!r}"
    return DatabaseError(
        f"LevelDB cannot read it{behind} ({text.replace(f'{own}/', '')})", "a sound LevelDB",
        "A file of it is damaged. Copy the folder again, or make the database anew.",
        Location(str(folder)),
    )  # fmt: skip
