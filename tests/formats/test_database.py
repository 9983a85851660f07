from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_disk import mounted

from caffesplit.errors import DatabaseError, OutputError
from caffesplit.formats import database, schema

PAGE = 4096


def images(count: int, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(folder: Path, pictures: np.ndarray) -> Path:
    database.write(
        folder, ((database.key(i), database.datum(p, i % 10)) for i, p in enumerate(pictures))
    )
    return folder


def read_by_lmdb(folder: Path) -> list[tuple[bytes, bytes]]:
    """The oracle: the lmdb library's own reader."""
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as transaction:
        return list(transaction.cursor())


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    count=st.integers(0, 40),
    seed=st.integers(0, 99),
    as_float=st.booleans(),
)
def test_what_was_written_is_read_again(tmp_path_factory, shape, count, seed, as_float):
    folder = tmp_path_factory.mktemp("lmdb") / "db"
    pictures = images(count, shape, seed)
    if as_float:
        pictures = pictures.astype(np.float32) / 7

    write(folder, pictures)
    found = list(database.read(folder))

    assert [key for key, _ in found] == [b"%08d" % i for i in range(count)]
    assert [datum.label for _, datum in found] == [i % 10 for i in range(count)]
    for picture, (_, datum) in zip(pictures, found, strict=True):
        assert database.pixels(datum).dtype == picture.dtype
        np.testing.assert_array_equal(database.pixels(datum), picture)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 32, 32), (3, 200, 200)])
def test_values_in_leaves_and_on_overflow_pages_are_those_that_lmdb_itself_reads(tmp_path, shape):
    folder = write(tmp_path / "db", images(300, shape))

    found = [(key, datum.SerializeToString()) for key, datum in database.read(folder)]

    assert found == read_by_lmdb(folder)
    assert database.count(folder) == 300


def test_records_that_were_deleted_and_rewritten_are_read_as_lmdb_itself_reads_them(tmp_path):
    folder = write(tmp_path / "db", images(2000))
    with lmdb.open(str(folder), map_size=1 << 26) as environment:
        for first in range(0, 2000, 100):
            with environment.begin(write=True) as transaction:
                for i in range(first, first + 60):
                    transaction.delete(database.key(i))
                picture = images(1, (3, 50, 50), first)[0]
                transaction.put(b"x%d" % first, database.datum(picture, 1).SerializeToString())

    found = [(key, datum.SerializeToString()) for key, datum in database.read(folder)]

    assert found == read_by_lmdb(folder)


def test_the_map_grows_with_the_records(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "FIRST_MAP_SIZE", 1 << 16)
    monkeypatch.setattr(database, "BATCH", 100)

    folder = write(tmp_path / "db", images(1000, (3, 16, 16)))

    assert database.count(folder) == 1000
    assert (folder / "data.mdb").stat().st_size > 1 << 19


def test_a_written_lmdb_is_its_data_file_alone(tmp_path):
    folder = write(tmp_path / "db", images(3))

    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    assert [path.name for path in folder.iterdir()] == ["data.mdb"]


def test_an_lmdb_that_exists_is_replaced_only_by_force(tmp_path):
    folder = write(tmp_path / "db", images(3))
    list(lmdb.open(str(folder)).begin().cursor())  # leaves a lock file behind
    with pytest.raises(OutputError, match="the output exists already"):
        write(folder, images(5))
    assert database.count(folder) == 3

    database.write(folder, [(b"a", database.datum(images(1)[0], 1))], force=True)

    assert [key for key, _ in database.read(folder)] == [b"a"]


def test_a_write_that_fails_midway_leaves_nothing(tmp_path):
    def records():
        for i in range(2500):
            yield database.key(i), database.datum(images(1)[0], 0)
        raise RuntimeError("the source fails")

    with pytest.raises(RuntimeError, match="the source fails"):
        database.write(tmp_path / "db", records())

    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of its own, of 64 KiB."""
    with mounted(tmp_path / "disk", "64k") as disk:
        yield disk


@pytest.mark.parametrize("free", [64, 8, 4, 0], ids=lambda free: f"{free} KiB")
def test_a_full_disk_is_told_and_left_as_it_was(small_disk, free):
    (small_disk / "other").write_bytes(bytes((64 - free) << 10))

    with pytest.raises(OutputError) as caught:
        write(small_disk / "db", images(100, (3, 32, 32)))

    assert re.fullmatch(
        rf"{small_disk}/db: the output does not fit on the disk "
        rf"\(.*, {free << 10:,} bytes are free\), expected room for all of it\n"
        "Make room, or give an output on another disk.",
        str(caught.value),
    )
    assert [path.name for path in small_disk.iterdir()] == ["other"]


def test_a_key_that_comes_twice_is_refused(tmp_path):
    datum = database.datum(images(1)[0], 0)

    with pytest.raises(DatabaseError) as caught:
        database.write(tmp_path / "db", [(b"1", datum), (b"1", datum)])

    assert str(caught.value) == f"{tmp_path}/db: key '1' comes twice, expected one record per key"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((1, 8, 8), np.int64)])
def test_an_image_of_another_shape_or_type_is_refused(image):
    with pytest.raises(ValueError, match=r"an image is \(C, H, W\) in uint8 or float32"):
        database.datum(image, 0)


def test_caffe_reads_what_was_written(caffe, tmp_path):
    pictures = images(500, (3, 20, 20))
    folder = write(tmp_path / "db", pictures)

    subprocess.run(
        [caffe.with_name("compute_image_mean"), folder, tmp_path / "mean"],
        check=True,
        capture_output=True,
    )

    mean = schema.message_class("BlobProto").FromString((tmp_path / "mean").read_bytes())
    np.testing.assert_allclose(mean.data, pictures.astype(float).mean(axis=0).ravel(), rtol=1e-5)


def test_what_caffe_wrote_is_read(caffe, tmp_path):
    pictures, labels = images(300, (1, 28, 28))[:, 0], np.arange(300, dtype=np.uint8) % 10
    (tmp_path / "images").write_bytes(struct.pack(">IIII", 2051, 300, 28, 28) + pictures.tobytes())
    (tmp_path / "labels").write_bytes(struct.pack(">II", 2049, 300) + labels.tobytes())

    subprocess.run(
        [
            caffe.with_name("convert_mnist_data"),
            "--backend=lmdb",
            *(tmp_path / name for name in ("images", "labels", "db")),
        ],
        check=True,
        capture_output=True,
    )

    found = list(database.read(tmp_path / "db"))
    assert [key for key, _ in found] == [database.key(i) for i in range(300)]
    assert [datum.label for _, datum in found] == labels.tolist()
    np.testing.assert_array_equal([database.pixels(datum)[0] for _, datum in found], pictures)


# What is no LMDB


def error_of(folder: Path) -> str:
    with pytest.raises(DatabaseError) as caught:
        list(database.read(folder))
    return str(caught.value)


REMEDY = "Name a folder that convert_imageset --backend=lmdb, or caffesplit data, wrote."


def test_a_missing_folder_is_named(tmp_path):
    assert error_of(tmp_path / "db") == (
        f"{tmp_path}/db: no such folder, expected an LMDB\n{REMEDY}"
    )


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "db").write_bytes(b"")
    assert error_of(tmp_path / "db") == (
        f"{tmp_path}/db: a file, expected an LMDB, which is a folder\n{REMEDY}"
    )


def test_a_leveldb_is_recognised(tmp_path):
    (tmp_path / "CURRENT").write_text("MANIFEST-000002\n")
    assert error_of(tmp_path) == (
        f"{tmp_path}: a LevelDB, expected an LMDB\n"
        f"Write its records into one: caffesplit data lmdb {tmp_path} -o OUT"
    )


def test_an_empty_folder_is_named(tmp_path):
    assert error_of(tmp_path) == (
        f"{tmp_path}: a folder without data.mdb, expected an LMDB\n{REMEDY}"
    )


def test_a_record_that_is_no_datum_is_named(tmp_path):
    with lmdb.open(str(tmp_path)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"00000000", b"\xff\xff")
    assert error_of(tmp_path).startswith(f"{tmp_path}: record '00000000' is no Datum, expected")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"channels": 1, "height": 2, "width": 2, "data": b"123"}, "shape (1, 2, 2) with 3 values"),
        ({"channels": 2**31 - 1, "height": 2**31 - 1, "width": 2**31 - 1}, "with 0 values"),
        ({"channels": -1, "height": -1, "width": 1, "data": b"1"}, "shape (-1, -1, 1)"),
        ({"encoded": True}, "an encoded Datum without data"),
        ({}, "shape (0, 0, 0) with 0 values"),
    ],
)
def test_a_datum_whose_values_do_not_fill_its_shape_is_named(tmp_path, fields, found):
    value = schema.message_class("Datum")(**fields).SerializeToString()
    with lmdb.open(str(tmp_path)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"00000007", value)
    assert found in error_of(tmp_path)


# Damaged files. The lmdb library dies of some of these by SIGBUS.


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("good") / "db"
    database.write(
        folder,
        (
            (database.key(i), database.datum(picture, i))
            for size in (8, 60)
            for i, picture in enumerate(images(150, (1, size, size)), start=1000 * size)
        ),
    )
    return (folder / "data.mdb").read_bytes()


def damaged(folder: Path, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "data.mdb").write_bytes(data)
    return folder


def page_starts(data: bytes, kind: int) -> list[int]:
    return [
        start
        for start in range(2 * PAGE, len(data), PAGE)
        if struct.unpack_from("<H", data, start + 10)[0] == kind
        and struct.unpack_from("<Q", data, start)[0] == start // PAGE
    ]


def changed(data: bytes, at: int, form: str, value: int) -> bytes:
    mutable = bytearray(data)
    struct.pack_into(form, mutable, at, value)
    return bytes(mutable)


BRANCH, LEAF, OVERFLOW = 1, 2, 4
NODE = 16  # where a page's first offset stands


def first_node(data: bytes, page: int) -> int:
    return page + struct.unpack_from("<H", data, page + NODE)[0]


FAILURES = {
    "empty": (lambda data: b"", "found 0 bytes, expected an LMDB"),
    "another format": (lambda data: b"SQLite format 3\0" * 1000, "found the number 0x"),
    "one page": (lambda data: data[:PAGE], "found 4096 bytes, expected two pages at least"),
    "half copied": (lambda data: data[: len(data) // 2], "bytes, expected page "),
    "another version": (lambda data: changed(data, 20, "<I", 2), "version 2, expected LMDB's"),
    "pages of no size": (lambda data: changed(data, 40, "<I", 0), "found pages of 0 bytes"),
    "keys of another kind": (
        lambda data: changed(changed(data, 92, "<H", 4), PAGE + 92, "<H", 4),
        "found keys of a special kind",
    ),
    "records missing": (
        lambda data: changed(data, PAGE + 120, "<Q", 2**60),
        f"found 300 records, expected {2**60}",
    ),
    "root beyond the end": (
        lambda data: changed(data, PAGE + 128, "<Q", 2**63),
        f"expected page {2**63} of 4096 bytes",
    ),
    "a tree that bites its tail": (
        lambda data: changed(
            data,
            first_node(data, page_starts(data, BRANCH)[0]),
            "<H",
            page_starts(data, BRANCH)[0] // PAGE,
        ),
        "found pages that lead back to each other",
    ),
    "an offset outside of the page": (
        lambda data: changed(data, page_starts(data, LEAF)[0] + NODE, "<H", 65535),
        "found a record outside of its page",
    ),
    "a value of 4 GB": (
        lambda data: changed(data, first_node(data, page_starts(data, LEAF)[-1]), "<I", 0xFFFFFFFF),
        "found a value of 4294967295 bytes where ",
    ),
    "a key beyond the page": (
        lambda data: changed(data, first_node(data, page_starts(data, LEAF)[0]) + 6, "<H", 65535),
        "found a record that is larger than its page",
    ),
    "an overflow page that is none": (
        lambda data: changed(data, page_starts(data, OVERFLOW)[0] + 10, "<H", LEAF),
        "of another kind, expected overflow page",
    ),
    "keys out of order": (
        lambda data: changed(data, first_node(data, page_starts(data, LEAF)[0]) + 8, "<B", 255),
        "found keys out of order",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_damaged_file_is_refused_before_its_first_record(tmp_path, good, name):
    damage, words = FAILURES[name]
    records = database.read(damaged(tmp_path / "db", damage(good)))

    with pytest.raises(DatabaseError) as caught:
        next(records)

    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/db/data.mdb: byte ")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    flips=st.lists(st.tuples(st.integers(0, 60), st.integers(0, PAGE - 1), st.integers(0, 7))),
    end=st.none() | st.floats(0, 1),
)
def test_mutations_of_a_good_file_are_read_or_refused(tmp_path_factory, good, flips, end):
    data = bytearray(good[: None if end is None else int(end * len(good))])
    for page, byte, bit in flips:
        at = (page * PAGE + byte) % max(1, len(data))
        if data:
            data[at] ^= 1 << bit
    folder = damaged(tmp_path_factory.mktemp("mutation"), bytes(data))

    try:
        found = sum(len(datum.data) for _, datum in database.read(folder))
    except DatabaseError:
        return
    assert found <= len(good)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=3 * PAGE), from_good=st.booleans())
def test_random_bytes_are_refused(tmp_path_factory, good, data, from_good):
    folder = damaged(tmp_path_factory.mktemp("random"), good[:40] + data if from_good else data)

    with pytest.raises(DatabaseError):
        list(database.read(folder))


def test_a_writer_killed_midway_leaves_the_old_lmdb(tmp_path):
    folder = write(tmp_path / "db", images(3))
    code = (
        "import os, sys, numpy as np\n"
        "from caffesplit.formats import database as d\n"
        "def records():\n"
        "    for i in range(1500): yield d.key(i), d.datum(np.zeros((1, 8, 8), np.uint8), 0)\n"
        "    os.kill(os.getpid(), 9)\n"
        "d.write(sys.argv[1], records(), force=True)\n"
    )

    killed = subprocess.run([sys.executable, "-c", code, folder], capture_output=True)

    assert killed.returncode == -9
    assert database.count(folder) == 3


def test_without_the_lmdb_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)

    with pytest.raises(DatabaseError) as caught:
        write(tmp_path / "db", images(1))

    assert str(caught.value) == ("lmdb is not installed\nInstall it: pip install lmdb")
    assert list(tmp_path.iterdir()) == []
