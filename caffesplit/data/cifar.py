"""CIFAR-10 and CIFAR-100 as LMDBs, from their binary versions.

A record is one label byte (CIFAR-100: two, coarse and fine) and 3 × 32 × 32 bytes of pixels.
Source: A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html. The records keep their order
and have the keys of Caffe's own examples/cifar10/convert_cifar_data.cpp, five digits.

The archives' sizes and SHA-256 are those that TensorFlow Datasets records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from caffesplit.data import prepare
from caffesplit.data.archive import Region, find
from caffesplit.data.download import Download, fetch
from caffesplit.data.images import Image, Images
from caffesplit.data.prepare import Preparation, Progress, Written, silent
from caffesplit.errors import MAX_LISTED, DatabaseError, Location
from caffesplit.formats.partial import identity

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32

CHUNK = 1000
"""Records read at a time."""

PICKLED = "Pickles are never loaded: loading one runs whatever program it holds."


@dataclass(frozen=True)
class Cifar:
    """One of the two: its archive, its files with the records in each, its label bytes.

    `classes` tells how many there are for each label byte, the coarse ones first.
    """

    name: str
    download: Download
    folder: str
    train: Mapping[str, int]
    test: Mapping[str, int]
    classes: tuple[int, ...]

    @property
    def record(self) -> int:
        """Bytes of a record."""
        return len(self.classes) + PIXELS

    @property
    def sizes(self) -> dict[str, int]:
        """The files' sizes."""
        return {file: self.record * count for file, count in {**self.train, **self.test}.items()}


CIFAR10 = Cifar(
    "cifar10",
    Download(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        170_052_171,
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "cifar-10-batches-bin",
    {f"data_batch_{number}.bin": 10_000 for number in range(1, 6)},
    {"test_batch.bin": 10_000},
    (10,),
)

CIFAR100 = Cifar(
    "cifar100",
    Download(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        168_513_733,
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    "cifar-100-binary",
    {"train.bin": 50_000},
    {"test.bin": 10_000},
    (20, 100),
)


def download(cifar: Cifar, folder: Path, progress: Progress = silent) -> Path:
    """Bring the archive into `folder` unless it is there; return its path.

    Raises:
        DatabaseError: if it cannot be downloaded, or has another checksum.
    """
    wanted = cifar.download
    doing = f"downloading {wanted.name}"
    return fetch(wanted, folder, lambda done: progress(doing, done, wanted.size))


def write(
    cifar: Cifar,
    source: Path,
    folder: Path | str,
    preparation: Preparation | None = None,
    *,
    coarse: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Written:
    """Write NAME_train_lmdb and NAME_test_lmdb into `folder`, with what `prepare.write` adds.

    `source` is the binary version's archive, or the folder that was in it. `coarse` chooses
    CIFAR-100's 20 superclasses as labels.

    Raises:
        DatabaseError: if the source is not what it should be; nothing is written then.
        OutputError: if one of the outputs exists and `force` is false; then none is written.
    """
    regions = _regions(cifar, source)
    in_order = sorted(regions, key=lambda file: regions[file].offset)
    for done, file in enumerate(in_order, start=1):
        _check_labels(cifar, file, regions[file])
        progress("checking", done, len(in_order))
    column = 0 if coarse else len(cifar.classes) - 1
    sets = {
        f"{cifar.name}_train_lmdb": _images(cifar, [regions[file] for file in cifar.train], column),
        f"{cifar.name}_test_lmdb": _images(cifar, [regions[file] for file in cifar.test], column),
    }
    inputs = sorted({region.path for region in regions.values()})
    recipe = {
        "data": cifar.name,
        "coarse": coarse,
        "inputs": [identity(path) for path in inputs],
    }
    return prepare.write(
        Path(folder),
        cifar.name,
        sets,
        preparation or Preparation(),
        recipe,
        force=force,
        inputs=inputs,
        progress=progress,
    )


def _regions(cifar: Cifar, source: Path) -> dict[str, Region]:
    """The files of the data set in its archive or folder, all there and of their sizes."""
    at = Location(str(source))
    binary = f"{cifar.name}'s binary version"
    remedy = f"Give the archive {cifar.download.url},\nor the folder in it."
    if not source.exists():
        raise DatabaseError("no such file or folder", binary, remedy, at)
    inner = source / cifar.folder
    found = find(inner if inner.is_dir() else source)
    sizes = cifar.sizes
    for file in sizes:
        stem = file.removesuffix(".bin")
        if file in found:
            continue
        if stem in found:
            raise DatabaseError("the pickled version", binary, f"{remedy}\n{PICKLED}", at)
        if f"{stem}.mat" in found:
            raise DatabaseError("the Matlab version", binary, remedy, at)
        held = ", ".join(sorted(found)[:MAX_LISTED]) or "no files"
        raise DatabaseError(f"no {file}, but {held}", binary, remedy, at)
    for file, size in sizes.items():
        if found[file].size != size:
            raise DatabaseError(
                f"{file} has {found[file].size:,} bytes", f"{size:,}", remedy, found[file].at
            )
    return {file: found[file] for file in sizes}


def _check_labels(cifar: Cifar, file: str, region: Region) -> None:
    """Raise DatabaseError unless every record of a file has the labels of a class."""
    for number, chunk in enumerate(region.chunks(0, CHUNK * cifar.record)):
        labels = _records(cifar, chunk)[:, : len(cifar.classes)]
        wrong = np.argwhere(labels >= cifar.classes)
        if wrong.size:
            place, column = wrong[0]
            record = number * CHUNK + int(place)
            raise DatabaseError(
                f"record {record} of {file} has the label {labels[place, column]}",
                f"0 … {cifar.classes[column] - 1}",
                f"The file is damaged, or not {cifar.name}'s.",
                region.at,
            )


def _images(cifar: Cifar, regions: list[Region], column: int) -> Images:
    """The records of the files, one behind the other, with the label byte in `column`."""
    counts = [region.size // cifar.record for region in regions]
    ends = list(accumulate(counts))

    def read(start: int) -> Iterator[Image]:
        for region, count, end in zip(regions, counts, ends, strict=True):
            if start >= end:
                continue
            place = max(start, end - count)
            skipped = (place - (end - count)) * cifar.record
            for chunk in region.chunks(skipped, CHUNK * cifar.record):
                for record in _records(cifar, chunk):
                    pixels = record[len(cifar.classes) :].reshape(SHAPE)
                    yield b"%05d" % place, pixels, int(record[column])
                    place += 1

    return Images(ends[-1], SHAPE, read)


def _records(cifar: Cifar, chunk: bytes) -> np.ndarray:
    return np.frombuffer(chunk, np.uint8).reshape(-1, cifar.record)
