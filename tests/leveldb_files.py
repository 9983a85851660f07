"""LevelDBs for tests, as plyvel writes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import plyvel

from caffesplit.formats import leveldb

TABLES = {"write_buffer_size": 1 << 16, "max_file_size": 1 << 16, "block_size": 1 << 12}
"""Options with which a few hundred records fill several tables."""


def leveldb_of(
    folder: Path, records: Iterable[tuple[bytes, bytes]], sessions: int = 1, **options: int
) -> Path:
    """A LevelDB of the records. What the last session has put is in a log, the rest in tables."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    records = list(records)
    size = -(-len(records) // sessions)
    for session in range(sessions):
        with plyvel.DB(str(folder), create_if_missing=True, **options) as database:
            for key, value in records[session * size : (session + 1) * size]:
                database.put(key, value)
    return folder


def tables_of(folder: Path) -> list[Path]:
    """The tables that count: one that LevelDB was writing when it was closed lies beside them."""
    return [path for path in leveldb.files(folder) if path.suffix == ".ldb"]
