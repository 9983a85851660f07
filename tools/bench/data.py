"""Writing data sets, against copying the same bytes: with `cp`, and record by record with lmdb."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from tools.bench.measure import Result, in_turns
from tools.bench.memory import peak_of

IMAGES = 10_000
LARGE = 4
"""The data set whose memory is measured is so many times as large."""

ROUNDS = 3


def run(paths: list[Path]) -> Result:
    with tempfile.TemporaryDirectory(prefix="caffesplit-bench-data-") as name:
        folder = Path(name)
        files, source, large = folder / "files", folder / "source", folder / "large"
        written(files, IMAGES)
        convert(files, source)
        database = source / "cifar10_train_lmdb"
        seconds = in_turns(
            {
                "cp": lambda: copy_file(database, folder / "cp"),
                "lmdb": lambda: copy_records(database, folder / "lmdb"),
                "convert": lambda: convert(files, folder / "convert"),
                "shuffle": lambda: shuffle(database, folder / "shuffled"),
                "whiten": lambda: whiten(database, folder / "whitened"),
            },
            ROUNDS,
        )
        written(folder / "more files", LARGE * IMAGES)
        convert(folder / "more files", large)
        large = large / "cifar10_train_lmdb"
        peaks = {}
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            for verb, job, inputs in (
                ("convert", convert, (files, folder / "more files")),
                ("shuffle", shuffle, (database, large)),
                ("whiten", whiten, (database, large)),
            ):
                for each in inputs:
                    peaks[verb, each] = pool.apply(peak_of, (job, each, folder / "out"))
    rows = []
    for verb, doing in (
        ("cp", "`cp data.mdb`, and sync"),
        ("lmdb", "lmdb, record by record"),
        ("convert", "`data cifar10`"),
        ("shuffle", "`data shuffle-labels`"),
        ("whiten", "`data whiten --gcn`, fit included"),
    ):
        ratio = seconds[verb] / seconds["lmdb"]
        compared = "" if verb == "lmdb" else f"{ratio:.2g}× lmdb's time"
        rows.append((doing, f"{IMAGES / seconds[verb]:,.0f} records/s", compared, ""))
    for (verb, each), peak in peaks.items():
        count = LARGE * IMAGES if each in (large, folder / "more files") else IMAGES
        rows.append((f"{verb} {count:,}, peak of RssAnon", f"{peak:.0f} MB", "", "constant"))
    return Result(f"Data sets of {IMAGES:,} images, 3 × 32 × 32", tuple(rows))


def written(folder: Path, count: int) -> None:
    """CIFAR's binary files, of random pixels that are like their neighbours."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, images in (("train.bin", count), ("test.bin", 1)):
        coarse = rng.integers(0, 256, (images, 3, 8, 8), dtype=np.uint8)
        records = np.empty((images, 1 + 3 * 32 * 32), np.uint8)
        records[:, 0] = rng.integers(0, 10, images)
        records[:, 1:] = coarse.repeat(4, axis=2).repeat(4, axis=3).reshape(images, -1)
        records[:, 1:] ^= rng.integers(0, 16, records[:, 1:].shape, dtype=np.uint8)
        (folder / name).write_bytes(records.tobytes())


def copy_file(source: Path, target: Path) -> None:
    subprocess.run(["cp", source / "data.mdb", target], check=True)
    subprocess.run(["sync", target], check=True)


def copy_records(source: Path, target: Path) -> None:
    """As safe against a power cut as ours: every thousand records are synced."""
    import lmdb

    shutil.rmtree(target, ignore_errors=True)
    with (
        lmdb.open(str(source), readonly=True, lock=False) as old,
        lmdb.open(str(target), map_size=1 << 30) as new,
        old.begin() as reading,
    ):
        records = iter(reading.cursor())
        for _ in range(0, IMAGES, 1000):
            with new.begin(write=True) as writing:
                for key, value in islice(records, 1000):
                    writing.put(key, value)


def convert(files: Path, out: Path) -> None:
    from caffesplit.data import cifar

    count = (files / "train.bin").stat().st_size // cifar.CIFAR10.record
    kind = replace(cifar.CIFAR10, train={"train.bin": count}, test={"test.bin": 1})
    cifar.write(kind, files, out, force=True)


def shuffle(source: Path, out: Path) -> None:
    from caffesplit.data import labels

    labels.shuffle(source, out / "shuffled", 0, force=True)


def whiten(source: Path, out: Path) -> None:
    from caffesplit.data import whitened
    from caffesplit.data.prepare import Preparation

    whitened.write([source], out, Preparation(gcn=True, zca=True), force=True)
