from __future__ import annotations

import random
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import plyvel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leveldb_files import TABLES, leveldb_of, tables_of

from caffesplit.errors import DatabaseError
from caffesplit.formats import leveldb, leveldb_manifest

DAMAGED = "The file is damaged, or was not copied to its end. Copy it again."


def some_records(count: int = 300, size: int = 800) -> list[tuple[bytes, bytes]]:
    values = random.Random(0)
    return [(b"%08d_image" % i, values.randbytes(size)) for i in range(count)]


def read(folder: Path, scratch: Path) -> list[tuple[bytes, bytes]]:
    with leveldb.opened(leveldb.files(folder), scratch) as records:
        return list(records)


def state(folder: Path) -> dict[str, object]:
    """All that can be seen of a folder: names, bytes, times, links."""
    paths = [folder, *sorted(folder.iterdir())]
    return {
        path.name: (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            path.stat().st_nlink,
            path.read_bytes() if path.is_file() else None,
        )
        for path in paths
    }


@pytest.fixture
def tables(tmp_path) -> Path:
    """A LevelDB of several tables and a log."""
    return leveldb_of(tmp_path / "db", some_records(), 3, **TABLES)


def error_of(folder: Path) -> str:
    with pytest.raises(DatabaseError) as caught:
        read(folder, folder.parent)
    return str(caught.value)


# Reading


@settings(max_examples=40, deadline=None)
@given(
    records=st.dictionaries(st.binary(min_size=1, max_size=20), st.binary(max_size=60)),
    deleted=st.integers(0, 5),
    sessions=st.integers(1, 3),
)
def test_all_records_are_read_in_the_order_of_their_keys(
    tmp_path_factory, records, deleted, sessions
):
    root = tmp_path_factory.mktemp("leveldb")
    folder = leveldb_of(root / "db", records.items(), sessions)
    gone = sorted(records)[:deleted]
    with plyvel.DB(str(folder)) as database:
        for key in gone:
            database.delete(key)

    kept = {key: value for key, value in records.items() if key not in gone}
    assert read(folder, root) == sorted(kept.items())


@pytest.mark.parametrize("sessions", [1, 3], ids=["log alone", "tables and log"])
def test_nothing_in_the_folder_changes_by_being_read(tmp_path, sessions):
    folder = leveldb_of(tmp_path / "db", some_records(), sessions)
    before = state(folder)

    assert read(folder, tmp_path) == some_records()

    assert state(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_nothing_changes_where_leveldb_writes_and_merges_tables_to_read(tmp_path):
    records = some_records(600, 40_000)
    random.Random(0).shuffle(shuffled := list(records))
    # As Caffe writes it: 24 MB in a log, of which LevelDB makes six tables when it is opened.
    folder = leveldb_of(tmp_path / "db", shuffled, write_buffer_size=1 << 28)
    assert not list(folder.glob("*.ldb"))
    before = state(folder)

    assert read(folder, tmp_path) == records
    assert state(folder) == before


def test_a_file_that_no_manifest_names_keeps_its_content_though_its_number_is_given_again(tmp_path):
    folder = leveldb_of(tmp_path / "db", some_records())
    for number in range(1, 40):  # What a writer leaves that was killed while it merged.
        for ending in leveldb.TABLE_ENDINGS:
            (folder / f"{number:06d}{ending}").write_bytes(b"of a merge")
    before = state(folder)

    assert read(folder, tmp_path) == some_records()
    assert state(folder) == before


def test_a_folder_that_nobody_may_write_to_is_read(tables, tmp_path):
    for path in (*tables.iterdir(), tables):
        path.chmod(path.stat().st_mode & 0o555)
    before = state(tables)
    assert read(tables, tmp_path) == some_records()
    assert state(tables) == before


def test_a_file_system_without_links_gets_copies(tables, tmp_path, monkeypatch):
    def refuse(path, target):
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    before = state(tables)
    assert read(tables, tmp_path) == some_records()
    assert state(tables) == before


def test_tables_named_as_before_2013_are_read(tables, tmp_path):
    for path in tables.glob("*.ldb"):
        path.rename(path.with_suffix(".sst"))
    assert read(tables, tmp_path) == some_records()


def test_a_relative_path_is_read(tables, monkeypatch):
    monkeypatch.chdir(tables.parent)
    assert read(Path("db"), Path()) == some_records()


# Refusals


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "no such folder, expected a LevelDB"),
        (lambda path: path.write_bytes(b""), "a file, expected a LevelDB, which is a folder"),
        (lambda path: path.mkdir(), "a folder without CURRENT, expected a LevelDB"),
    ],
)
def test_what_is_no_leveldb_is_named(tmp_path, make, found):
    make(tmp_path / "db")
    assert error_of(tmp_path / "db") == (
        f"{tmp_path}/db: {found}\nName a folder that convert_imageset --backend=leveldb wrote."
    )


def test_an_lmdb_is_recognised(tmp_path):
    (tmp_path / "db").mkdir()
    (tmp_path / "db/data.mdb").touch()
    assert error_of(tmp_path / "db") == (
        f"{tmp_path}/db: an LMDB, expected a LevelDB\n"
        "Data layers read it as it is, with `backend: LMDB`."
    )


def test_a_table_that_is_missing_is_named(tables):
    first, *_, last = tables_of(tables)
    remedy = "Copy the folder again, with all that is in it."
    last.unlink()
    assert error_of(tables) == (
        f"{tables}: no file {last.name}, expected all files of the LevelDB; the manifest names it\n"
        f"{remedy}"
    )
    first.unlink()
    assert f"{tables}: no file {first.name} and 1 more, expected all" in error_of(tables)


def test_a_manifest_that_is_missing_is_named(tables):
    (manifest,) = tables.glob("MANIFEST-*")
    manifest.unlink()
    assert f"no file {manifest.name}, expected all files of the LevelDB; CURRENT names it" in (
        error_of(tables)
    )


def test_a_log_that_is_missing_is_named_though_leveldb_would_leave_its_records_out(tmp_path):
    folder = leveldb_of(tmp_path / "db", some_records())
    (folder / "000003.log").unlink()
    assert error_of(folder) == (
        f"{folder}: no file 000003.log, expected it, which holds the records that came last\n"
        "Copy it from where the LevelDB was made. If it is lost, an empty file in its place,\n"
        "in a copy of the folder, does without its records: touch 000003.log"
    )
    (folder / "000003.log").touch()
    assert read(folder, tmp_path) == []


def test_a_table_that_is_cut_off_is_named(tables):
    table = tables_of(tables)[1]
    whole = table.read_bytes()
    table.write_bytes(whole[:-1])
    assert error_of(tables) == (
        f"{table}: {len(whole) - 1:,} bytes, expected {len(whole):,}, as the manifest has it\n"
        f"{DAMAGED}"
    )


def test_a_log_that_is_cut_off_is_named_and_its_remedy_works(tmp_path):
    records = some_records(100)
    folder = leveldb_of(tmp_path / "db", records)
    log = folder / "000003.log"
    log.write_bytes(log.read_bytes()[:50_000])
    message = error_of(folder)
    end = int(message.split(f"{log}: byte ")[1].split(":")[0])
    assert message == (
        f"{log}: byte {end}: {50_000 - end:,} bytes that are no complete record, expected the file "
        f"to end with one\n{DAMAGED} If there is no more of it, since its\n"
        "writer was stopped, do without that record, in a copy of the folder: "
        f"truncate -s {end} 000003.log"
    )
    subprocess.run(message.split("folder: ")[1].split(), cwd=folder, check=True)
    assert read(folder, tmp_path) == records[: 50_000 // 840]


def test_zeros_that_a_writer_left_behind_the_last_record_are_no_damage(tmp_path):
    folder = leveldb_of(tmp_path / "db", some_records())
    with (folder / "000003.log").open("ab") as log:
        log.write(bytes(100_000))
    assert read(folder, tmp_path) == some_records()


@pytest.mark.parametrize("text", ["MANIFEST-000002", "../db/MANIFEST-000002\n", "", "\0\xff"])
def test_a_current_that_names_no_manifest_is_damaged(tmp_path, text):
    folder = leveldb_of(tmp_path / "db", some_records(3))
    (folder / "CURRENT").write_text(text)
    assert error_of(folder) == (
        f"{folder}/CURRENT: a file that says {text!r}, expected the name of the manifest, as "
        f"MANIFEST-000002\n{DAMAGED}"
    )


@pytest.mark.parametrize(
    "edit",
    [b"\x02", b"\x63", b"\x02" + b"\xff" * 11, b"\x01\x20short", b"\x07\x00\x05\x01"],
    ids=["ends", "unknown", "long number", "long string", "ends in a table"],
)
def test_a_manifest_of_something_else_is_damaged(tmp_path, edit):
    folder = leveldb_of(tmp_path / "db", some_records(3))
    (folder / "MANIFEST-000002").write_bytes(bytes(4) + bytes([len(edit), 0, 1]) + edit)
    assert error_of(folder) == (
        f"{folder}/MANIFEST-000002: byte 7: no edit of a LevelDB's tables, expected one\n{DAMAGED}"
    )


def test_a_manifest_larger_than_any_is_refused(tables, monkeypatch):
    monkeypatch.setattr(leveldb_manifest, "MAX_MANIFEST", 100)
    assert "bytes, expected at most 100\n" in error_of(tables)


def test_a_damaged_block_is_named_by_the_record_before_it(tables):
    table = tables_of(tables)[0]
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    message = error_of(tables)
    assert message.startswith(f"{tables}: LevelDB cannot read it behind record '000000")
    assert message.endswith(
        "_image' (Corruption: block checksum mismatch), expected a sound LevelDB\n"
        "A file of it is damaged. Copy the folder again, or make the database anew."
    )


def test_a_table_that_disappears_is_named_as_the_users_own(tables):
    files = leveldb.files(tables)
    name = tables_of(tables)[0].stem
    (tables / f"{name}.ldb").unlink()
    with pytest.raises(DatabaseError) as caught, leveldb.opened(files, tables.parent) as records:
        list(records)
    assert str(caught.value).startswith(f"{tables}: LevelDB cannot read it (NotFound: {name}.")


def test_a_leveldb_that_another_process_has_open_is_refused(tables):
    program = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tables)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        message = error_of(tables)
        process.stdin.write(b"\n")
    assert message == (
        f"{tables}: another process has the LevelDB open, expected it closed, so that it stays as "
        "is\nWait for the other process, or end it."
    )
    assert read(tables, tables.parent) == some_records()


def test_plyvel_is_asked_for_where_it_is_missing(tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    assert error_of(tables) == (
        "plyvel is not installed, which reads LevelDBs\nInstall it: pip install plyvel"
    )


@settings(max_examples=100, deadline=None)
@given(file=st.integers(0, 99), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_flips_is_told_or_makes_no_difference(sound, file, place, bit):
    folder = sound.with_name("flipped")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    files = sorted(path for path in folder.iterdir() if path.stat().st_size)
    path = files[file % len(files)]
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    before = state(folder)
    with suppress(DatabaseError):
        assert read(folder, folder.parent) == some_records()
    assert state(folder) == before


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return leveldb_of(tmp_path_factory.mktemp("leveldb") / "db", some_records(), 3, **TABLES)
