"""Training with PyTorch against the real Caffe: the same nets, data and cores, in turns.

Each run is a process of its own; its speed is what the log tells, without start and warming up.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffesplit import zoo
from caffesplit.formats import database, prototxt, schema, trainlog
from caffesplit.net import graph
from tools.bench.measure import Result

IMAGES, CLASSES = 1_000, 10
ROUNDS = 5
STRETCHES = 3
"""Displayed stretches of a run that count, behind a first one that does not."""


@dataclass(frozen=True)
class Subject:
    """A net, the shape of its images, and the iterations from one displayed loss to the next."""

    net: str
    image: tuple[int, int, int]
    display: int
    batch_size: int
    wanted: str = "≥ 1.3×, aim 1.5×"


SUBJECTS = (
    Subject("digits", (1, 8, 8), 500, 4, "≥ 1×"),
    Subject("digits", (1, 8, 8), 200, 32, "≥ 1×"),
    Subject("cifar10_quick", (3, 32, 32), 10, 100),
    Subject("allcnn", (3, 42, 42), 3, 32),
    Subject("allcnn", (3, 42, 42), 1, 128),
    Subject("resnet20", (3, 40, 40), 2, 128),
)

SOLVER = """
net: "{net}/train_val.prototxt" snapshot_prefix: "{net}/{net}" snapshot_after_train: false
base_lr: 1e-5 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005
display: {display} max_iter: {max_iter} solver_mode: CPU random_seed: 1
"""
THREADS = "OPENBLAS_NUM_THREADS"
CORE = "OPENBLAS_CORETYPE"
"""The processor that OpenBLAS computes for. One of 2020 takes newer ones for older ones."""

QUICK = Path(__file__).with_name("cifar10_quick.prototxt")


def run(paths: list[Path]) -> Result:
    title = f"Training on {cores()} cores; Caffe with as many threads of OpenBLAS"
    return Result(title, tuple(measured(subject) for subject in SUBJECTS))


def cores() -> int:
    return len(os.sched_getaffinity(0))


def environment() -> dict[str, str]:
    """In which Caffe computes fastest: with all cores, and with AVX-512 where there is that."""
    chosen = {THREADS: str(cores())}
    if "avx512vl" in Path("/proc/cpuinfo").read_text().split():
        chosen[CORE] = "SkylakeX"
    return {**os.environ, **chosen}


def measured(subject: Subject) -> tuple[str, str, str, str]:
    """Both engines in turns; the ratio is the median of the rounds' own."""
    with tempfile.TemporaryDirectory(prefix="caffesplit-bench-engines-") as name:
        root = Path(name)
        write(root, subject)
        pairs = [
            tuple(_speed(root, subject, engine) for engine in ("caffe", "torch"))
            for _ in range(ROUNDS)
        ]
    ratio = statistics.median(torch / caffe for caffe, torch in pairs)
    caffe, torch = map(statistics.median, zip(*pairs, strict=True))
    return (
        f"{subject.net}, batches of {subject.batch_size}",
        f"{_shown(torch)} iterations/s",
        f"{ratio:.2f}× Caffe's {_shown(caffe)}",
        subject.wanted,
    )


def _shown(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def write(root: Path, subject: Subject) -> None:
    """The experiment in a folder of the net's name, with data of random pixels."""
    folder = root / subject.net
    net = folder / "train_val.prototxt"
    if subject.net in zoo.NAMES:
        zoo.write(subject.net, folder, root, folder)
    else:
        folder.mkdir()
        net.write_bytes(QUICK.read_bytes())
    text = re.sub(r"batch_size: \d+", f"batch_size: {subject.batch_size}", net.read_text(), count=1)
    net.write_text(text)
    end = (1 + STRETCHES) * subject.display
    solver = SOLVER.format(net=subject.net, display=subject.display, max_iter=end)
    (folder / "solver.prototxt").write_text(solver)
    data = graph.build(prototxt.parse(text)).layers[0].message
    database.write(root / data.data_param.source, _records(subject.image))
    if data.transform_param.mean_file:
        channels, height, width = subject.image
        mean = schema.message_class("BlobProto")(
            num=1, channels=channels, height=height, width=width
        )
        mean.data.extend([128.0] * (channels * height * width))
        (root / data.transform_param.mean_file).write_bytes(mean.SerializeToString())


def _records(shape: tuple[int, int, int]) -> Iterator[tuple[bytes, database.Datum]]:
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        yield database.key(index), database.datum(image, index % CLASSES)


def _speed(root: Path, subject: Subject, engine: str) -> float:
    """Iterations per second of a training."""
    subprocess.run(
        [sys.executable, "-m", "caffesplit", "train", subject.net, "--engine", engine],
        cwd=root,
        env=environment(),
        check=True,
        capture_output=True,
    )
    rows = trainlog.read(root / subject.net / "train.log").train
    first, last = rows[1], rows[1 + STRETCHES]
    return (last.iteration - first.iteration) / (last.seconds - first.seconds)
