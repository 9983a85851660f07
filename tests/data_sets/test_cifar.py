from __future__ import annotations

import io
import pickle
import subprocess
import tarfile
from pathlib import Path

import cifar_files
import lmdb
import numpy as np
import pytest
from cifar_files import SMALL10, SMALL100
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffesplit.data import archive, cifar
from caffesplit.errors import CaffesplitError, DatabaseError
from caffesplit.formats import database

KINDS = {"cifar10": SMALL10, "cifar100": SMALL100}


def read_by_lmdb(folder: Path) -> list[tuple[bytes, bytes]]:
    """The oracle: the lmdb library's own reader."""
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as transaction:
        return list(transaction.cursor())


def records(kind: cifar.Cifar, files: dict[str, bytes], names) -> list[tuple[list[int], bytes]]:
    """The label bytes and the pixels of every record, cut by hand."""
    width = len(kind.classes)
    data = b"".join(files[name] for name in names)
    cut = [data[at : at + kind.record] for at in range(0, len(data), kind.record)]
    return [(list(record[:width]), record[width:]) for record in cut]


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
@pytest.mark.parametrize("name", KINDS)
def test_every_record_keeps_its_place_its_pixels_and_its_label(tmp_path, name, packed):
    kind = KINDS[name]
    files = cifar_files.contents(kind)
    if packed:
        source = cifar_files.in_archive(tmp_path / "a.tar.gz", kind.folder, files)
    else:
        source = cifar_files.in_folder(tmp_path / "files", files)

    written = cifar.write(kind, source, tmp_path / "out")

    for folder, names in zip(written.databases, (kind.train, kind.test), strict=True):
        expected = records(kind, files, names)
        found = list(database.read(folder))
        assert [key for key, _ in found] == [b"%05d" % i for i in range(len(expected))]
        assert [datum.data for _, datum in found] == [pixels for _, pixels in expected]
        assert [datum.label for _, datum in found] == [labels[-1] for labels, _ in expected]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{name}_mean.binaryproto",
        f"{name}_test_lmdb",
        f"{name}_train_lmdb",
    ]


def test_the_coarse_labels_are_the_first_of_the_two(tmp_path):
    files = cifar_files.contents(SMALL100)
    source = cifar_files.in_folder(tmp_path / "files", files)

    train, _ = cifar.write(SMALL100, source, tmp_path / "out", coarse=True).databases

    expected = [labels[0] for labels, _ in records(SMALL100, files, SMALL100.train)]
    assert [datum.label for _, datum in database.read(train)] == expected


def test_the_folder_that_holds_the_archives_folder_will_do_and_so_will_a_plain_tar(tmp_path):
    files = cifar_files.contents(SMALL10)
    cifar_files.in_folder(tmp_path / "unpacked" / SMALL10.folder, files)
    packed = cifar_files.in_archive(tmp_path / "a.tar.gz", SMALL10.folder, files)
    plain = tmp_path / "a.tar"
    plain.write_bytes(subprocess.run(["gzip", "-dc", packed], capture_output=True).stdout)

    found = [
        read_by_lmdb(cifar.write(SMALL10, source, tmp_path / f"out{number}").databases[0])
        for number, source in enumerate((tmp_path / "unpacked", packed, plain))
    ]

    assert found[0] == found[1] == found[2]


def test_the_databases_and_the_mean_are_those_of_caffes_own_tools(caffe, tmp_path):
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (100, cifar.CIFAR10.record), dtype=np.uint8)
    files = {}
    for place, name in enumerate(cifar.CIFAR10.sizes):
        data = np.tile(block, (100, 1))
        data[:, 0] = rng.integers(0, 10, len(data))
        data[:, 1] = place
        files[name] = data.tobytes()
    source = cifar_files.in_folder(tmp_path / "files", files)
    (tmp_path / "caffe").mkdir()
    for command in (
        ["convert_cifar_data", source, tmp_path / "caffe", "lmdb"],
        ["compute_image_mean", tmp_path / "caffe/cifar10_train_lmdb", tmp_path / "caffe/mean"],
    ):
        program = caffe.with_name(command[0])
        subprocess.run([program, *command[1:]], check=True, capture_output=True)

    written = cifar.write(cifar.CIFAR10, source, tmp_path / "out")

    for folder in written.databases:
        assert read_by_lmdb(folder) == read_by_lmdb(tmp_path / "caffe" / folder.name)
    assert written.mean.read_bytes() == (tmp_path / "caffe/mean").read_bytes()


# What is not the binary version


def error_of(source: Path, kind: cifar.Cifar = SMALL10) -> str:
    out = source.parent / "out"
    with pytest.raises(CaffesplitError) as caught:
        cifar.write(kind, source, out)
    assert not out.exists()
    return str(caught.value)


REMEDY = (
    "Give the archive https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz,\n"
    "or the folder in it."
)


class Bomb:
    """What a pickle can do: here, leave a trace."""

    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_a_pickled_version_is_named_and_never_loaded(tmp_path, monkeypatch, packed):
    monkeypatch.chdir(tmp_path)
    files = {f"data_batch_{number}": pickle.dumps(Bomb()) for number in range(1, 6)}
    source = cifar_files.in_folder(tmp_path / "files", files)
    if packed:
        source = cifar_files.in_archive(tmp_path / "a.tar.gz", "cifar-10-batches-py", files)

    assert error_of(source) == (
        f"{source}: the pickled version, expected cifar10's binary version\n{REMEDY}\n"
        "Pickles are never loaded: loading one runs whatever program it holds."
    )
    assert not Path("exploded").exists()


def test_a_matlab_version_is_named(tmp_path):
    source = cifar_files.in_archive(tmp_path / "a.tar.gz", "x", {"data_batch_1.mat": b"MATLAB"})
    assert error_of(source) == (
        f"{source}: the Matlab version, expected cifar10's binary version\n{REMEDY}"
    )


def test_the_other_data_set_is_told_by_what_it_holds(tmp_path):
    files = cifar_files.contents(SMALL100)
    source = cifar_files.in_archive(tmp_path / "a.tar.gz", SMALL100.folder, files)
    assert error_of(source) == (
        f"{source}: no data_batch_1.bin, but test.bin, train.bin, expected cifar10's binary "
        f"version\n{REMEDY}"
    )


def test_a_source_that_is_not_there_is_named(tmp_path):
    assert error_of(tmp_path / "a.tar.gz") == (
        f"{tmp_path}/a.tar.gz: no such file or folder, expected cifar10's binary version\n{REMEDY}"
    )


def test_a_file_of_another_size_is_refused(tmp_path):
    files = cifar_files.contents(SMALL10)
    files["data_batch_3.bin"] += b"\0"
    source = cifar_files.in_folder(tmp_path / "files", files)
    assert error_of(source).startswith(
        f"{source}/data_batch_3.bin: data_batch_3.bin has 122,921 bytes, expected 122,920\n"
    )


@pytest.mark.parametrize(
    ("kind", "file", "byte", "found"),
    [
        (SMALL10, "data_batch_2.bin", 0, "has the label 10, expected 0 … 9"),
        (SMALL100, "test.bin", 0, "has the label 20, expected 0 … 19"),
        (SMALL100, "train.bin", 1, "has the label 100, expected 0 … 99"),
    ],
)
def test_a_label_of_no_class_is_refused(tmp_path, kind, file, byte, found):
    files = cifar_files.contents(kind)
    wrong = bytearray(files[file])
    wrong[7 * kind.record + byte] = kind.classes[byte]
    files[file] = bytes(wrong)
    source = cifar_files.in_archive(tmp_path / "a.tar.gz", kind.folder, files)

    assert error_of(source, kind) == (
        f"{source}: record 7 of {file} {found}\nThe file is damaged, or not {kind.name}'s."
    )


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "/etc/passwd"
    return info


OUTSIDE = "a member that leads out of the archive's folder, expected a name in it"
NO_FILE = "a link or device in the archive, expected files"
MEMBERS = {
    "a way up": ([member("x/../../data_batch_1.bin")], OUTSIDE),
    "an absolute path": ([member("/data_batch_1.bin")], OUTSIDE),
    "a symbolic link": ([member("data_batch_1.bin", kind=tarfile.SYMTYPE)], NO_FILE),
    "a hard link": ([member("data_batch_1.bin", kind=tarfile.LNKTYPE)], NO_FILE),
    "a pipe": ([member("data_batch_1.bin", kind=tarfile.FIFOTYPE)], NO_FILE),
    "a device": ([member("data_batch_1.bin", kind=tarfile.BLKTYPE)], NO_FILE),
    "a file twice": (
        [member("a/data_batch_1.bin"), member("b/data_batch_1.bin")],
        "a name that comes twice, expected one file of it",
    ),
    "a huge file": (
        [member("data_batch_1.bin", 2**40), member("data_batch_2.bin")],
        "the archive holds 1,099,511,629,311 bytes or more, expected at most 268,435,456",
    ),
    "a huge header": (
        [member("x", 2**32, tarfile.XHDTYPE)],
        "bytes or more, expected at most 268,435,456",
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_an_archive_with_a_member_that_cifars_has_not_is_refused(tmp_path, name):
    members, words = MEMBERS[name]
    source = cifar_files.of_members(tmp_path / "a.tar.gz", *members)
    assert words in error_of(source)


def test_an_archive_that_swells_beyond_all_bounds_is_read_no_further(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 1 << 20)
    source = tmp_path / "a.tar.gz"
    with tarfile.open(source, "w:gz") as file:
        file.addfile(member("data_batch_1.bin", 3 << 20), io.BytesIO(bytes(3 << 20)))
    assert "bytes or more, expected at most 1,048,576" in error_of(source)


@pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, part):
    files = cifar_files.contents(SMALL10)
    source = cifar_files.in_archive(tmp_path / "a.tar.gz", SMALL10.folder, files)
    data = source.read_bytes()
    source.write_bytes(data[: int(part * len(data))])
    assert "The archive is damaged or cut off. Download it again." in error_of(source)


def test_something_else_than_an_archive_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_text("<html>404</html>" * 100)
    assert error_of(tmp_path / "a.tar.gz") == (
        f"{tmp_path}/a.tar.gz: no tar archive (invalid header), expected one\n"
        "The archive is damaged or cut off. Download it again."
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    flips=st.lists(
        # Headers are where the danger is.
        st.tuples(st.integers(0, 511) | st.integers(0, 1 << 18), st.integers(0, 7)),
        min_size=1,
        max_size=4,
    )
)
def test_a_mutated_archive_is_read_or_refused(tmp_path_factory, flips):
    folder = tmp_path_factory.mktemp("mutated")
    kind = SMALL100
    path = folder / "a.tar"
    with tarfile.open(path, "w") as file:
        for name, data in cifar_files.contents(kind).items():
            file.addfile(member(name, len(data)), io.BytesIO(data))
    data = bytearray(path.read_bytes())
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        regions = archive.find(path)
        sizes = {name: region.size for name, region in regions.items()}
        read = {name: sum(map(len, region.chunks(0, 1 << 16))) for name, region in regions.items()}
    except DatabaseError:
        return
    assert read == sizes
