from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from leveldb_files import TABLES, leveldb_of, tables_of
from PIL import Image
from small_disk import grown, mounted

from caffesplit.data import from_leveldb
from caffesplit.errors import DatabaseError, OutputError
from caffesplit.formats import database


def datums(count: int = 300, side: int = 16) -> list[tuple[bytes, bytes]]:
    images = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return [
        (b"%08d_image" % i, database.datum(image, i % 10).SerializeToString())
        for i, image in enumerate(images)
    ]


@pytest.fixture
def source(tmp_path) -> Path:
    return leveldb_of(tmp_path / "leveldb", datums(), 3, **TABLES)


def test_an_lmdb_has_the_records_of_its_leveldb_to_the_byte_and_in_order(tmp_path):
    random.Random(0).shuffle(shuffled := datums())
    source = leveldb_of(tmp_path / "leveldb", shuffled, 2)

    told = []
    done = from_leveldb.write(
        source, tmp_path / "out/lmdb", progress=lambda *report: told.append(report)
    )

    assert done == 300
    assert list(database.read_bytes(tmp_path / "out/lmdb")) == datums()
    assert told[-1] == ("writing lmdb", 300, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leveldb", "out"]
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["lmdb", "data.mdb"]


def test_the_first_record_must_be_a_datum_and_the_others_are_not_looked_into(tmp_path):
    source = leveldb_of(tmp_path / "some", [*datums(1), (b"b", b"anything")])
    assert from_leveldb.write(source, tmp_path / "lmdb") == 2

    source = leveldb_of(tmp_path / "other", [(b"0", b"anything"), *datums(1)])
    with pytest.raises(DatabaseError) as caught:
        from_leveldb.write(source, tmp_path / "out/lmdb")
    assert str(caught.value) == (
        f"{source}: record '0' is no Datum, expected channels, height, width and as many values\n"
        "The record is damaged, or the database holds something else than images."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "a LevelDB without records, expected some"),
        (
            [*datums(1), (b"x" * 512, b"")],
            f"a key of 512 bytes, {b'x' * 40!r}, expected 1 to 511, for which an LMDB has room\n"
            "Make an LMDB of the images: convert_imageset --backend=lmdb.",
        ),
    ],
)
def test_records_that_make_no_lmdb_are_named_and_nothing_is_written(tmp_path, records, message):
    source = leveldb_of(tmp_path / "leveldb", records)
    with pytest.raises(DatabaseError) as caught:
        from_leveldb.write(source, tmp_path / "out/lmdb")
    assert str(caught.value) == f"{source}: {message}"
    assert [path.name for path in tmp_path.iterdir()] == ["leveldb"]


def test_a_leveldb_that_is_damaged_in_the_middle_leaves_nothing(source, tmp_path):
    table = tables_of(source)[-1]
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    with pytest.raises(DatabaseError, match="LevelDB cannot read it behind record"):
        from_leveldb.write(source, tmp_path / "out/lmdb")
    assert [path.name for path in tmp_path.iterdir()] == ["leveldb"]


def test_an_lmdb_that_exists_is_replaced_by_force_alone(source, tmp_path):
    database.write(tmp_path / "lmdb", datums(2))
    with pytest.raises(OutputError, match="the output exists already"):
        from_leveldb.write(source, tmp_path / "lmdb")
    assert database.count(tmp_path / "lmdb") == 2
    assert from_leveldb.write(source, tmp_path / "lmdb", force=True) == 300
    assert database.count(tmp_path / "lmdb") == 300


@pytest.mark.parametrize("place", ["", "lmdb", "a/../b", "../leveldb"])
@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_into_the_leveldbs_own_folder(source, place, force):
    before = sorted(source.iterdir())
    with pytest.raises(OutputError) as caught:
        from_leveldb.write(source, source / place, force=force)
    assert str(caught.value) == (
        f"{source / place}: the output is in the LevelDB's own folder, expected another path\n"
        "Give another output; inputs are never changed."
    )
    assert sorted(source.iterdir()) == before


@pytest.mark.parametrize("place", [".", "..", "/"])
def test_an_output_without_a_name_is_refused(source, place):
    with pytest.raises(OutputError, match="an output without a name"):
        from_leveldb.write(source, Path(place))


def test_a_stopped_run_is_gone_on_with(source, tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BATCH", 20)

    def stop(doing, done, total):
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        from_leveldb.write(source, tmp_path / "lmdb", progress=stop)
    held = sorted(path.name for path in (tmp_path / "lmdb.partial").iterdir())
    assert held == ["caffesplit.json", "lmdb"]

    told = []
    from_leveldb.write(source, tmp_path / "lmdb", progress=lambda *report: told.append(report[1]))

    assert told[:2] == [100, 120]
    assert list(database.read_bytes(tmp_path / "lmdb")) == datums()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leveldb", "lmdb"]


@pytest.mark.parametrize("size", ["100k", "400k"], ids=["for LevelDB", "for the LMDB"])
def test_a_disk_that_fills_up_is_told_and_what_is_done_gone_on_with(tmp_path, size):
    source = leveldb_of(tmp_path / "leveldb", datums())
    with mounted(tmp_path / "disk", size) as disk:
        with pytest.raises(OutputError) as caught:
            from_leveldb.write(source, disk / "lmdb")
        assert str(caught.value).startswith(
            f"{disk}: the output does not fit on the disk (No space left on device, "
        )
        grown(disk, "4m")
        assert from_leveldb.write(source, disk / "lmdb") == 300
        assert list(database.read_bytes(disk / "lmdb")) == datums()


def test_memory_does_not_grow_with_the_records(tmp_path):
    program = (
        "import sys, re\nfrom pathlib import Path\nfrom caffesplit.data import from_leveldb\n"
        "peak = [0]\n"
        "def look(doing, done, total):\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    peak.append(int(re.search(r'RssAnon:\\s+(\\d+)', status)[1]))\n"
        "from_leveldb.write(Path(sys.argv[1]), Path(sys.argv[2]), progress=look)\n"
        "print(max(peak))\n"
    )
    peaks = []
    for count in (2_000, 20_000):
        records = ((b"%08d" % i, datums(1)[0][1]) for i in range(count))
        source = leveldb_of(tmp_path / f"leveldb{count}", records, 2)
        done = subprocess.run(
            [sys.executable, "-c", program, str(source), str(tmp_path / f"lmdb{count}")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 4096  # KiB; the records are 16 MB.


def test_caffes_own_leveldb_becomes_caffes_own_lmdb(caffe, tmp_path):
    names = []
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (50, 9, 7, 3))):
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"{number}.png")
        names.append(f"{number}.png {number % 10}\n")
    (tmp_path / "list.txt").write_text("".join(names))
    for backend in ("leveldb", "lmdb"):
        subprocess.run(
            [
                caffe.with_name("convert_imageset"), f"--backend={backend}",
                f"{tmp_path}/", tmp_path / "list.txt", tmp_path / backend,
            ],
            check=True, capture_output=True, env=os.environ | {"GLOG_minloglevel": "2"},
        )  # fmt: skip

    assert from_leveldb.write(tmp_path / "leveldb", tmp_path / "ours") == 50
    ours = list(database.read_bytes(tmp_path / "ours"))
    assert ours == list(database.read_bytes(tmp_path / "lmdb"))
