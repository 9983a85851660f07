"""Small data sets in the format of CIFAR's binary versions, and archives of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from caffesplit.data import cifar

SMALL10 = replace(
    cifar.CIFAR10,
    train={f"data_batch_{number}.bin": 40 for number in range(1, 6)},
    test={"test_batch.bin": 30},
)
SMALL100 = replace(cifar.CIFAR100, train={"train.bin": 60}, test={"test.bin": 20})


def contents(kind: cifar.Cifar, seed: int = 0) -> dict[str, bytes]:
    """The files of a data set: random labels and pixels."""
    rng = np.random.default_rng(seed)
    files = {}
    for name, count in {**kind.train, **kind.test}.items():
        records = rng.integers(0, 256, (count, kind.record), dtype=np.uint8)
        for column, classes in enumerate(kind.classes):
            records[:, column] = rng.integers(0, classes, count)
        files[name] = records.tobytes()
    return files


def in_archive(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    """Write a .tar.gz as the official ones are: a folder with the files, in no order."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name in sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest()):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))
    return path


def of_members(path: Path, *members: tarfile.TarInfo) -> Path:
    """Write a .tar.gz of headers alone, as nobody's program would."""
    path.write_bytes(gzip.compress(b"".join(member.tobuf() for member in members) + bytes(1024)))
    return path


def in_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
