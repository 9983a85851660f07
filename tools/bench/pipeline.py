"""Batches of CIFAR's images from an LMDB, cropped and mirrored, on one core."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caffesplit.engines import torch_data
from caffesplit.engines.caffe_random import Random
from caffesplit.formats import database, prototxt
from caffesplit.formats.lmdb_pages import Pages
from caffesplit.net import graph
from tools.bench.measure import Result, in_turns

IMAGES, BATCH, ROUNDS = 20_000, 100, 5

NET = """
layer {{
  name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ {transform} }}
  data_param {{ source: "lmdb" backend: LMDB batch_size: {batch} }}
}}
"""
TRANSFORM = "crop_size: 28 mirror: true mean_value: 120 scale: 0.017"


def run(paths: list[Path]) -> Result:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with tempfile.TemporaryDirectory(prefix="caffesplit-bench-pipeline-") as folder:
            return _measured(Path(folder))
    finally:
        os.sched_setaffinity(0, cores)


def _measured(folder: Path) -> Result:
    database.write(folder / "lmdb", map(_record, range(IMAGES)))
    pages = Pages(folder / "lmdb" / database.DATA_FILE)
    seconds = in_turns(
        {
            "records": lambda: sum(1 for _ in pages),
            "plain": _epoch(folder, ""),
            "transformed": _epoch(folder, TRANSFORM),
        },
        ROUNDS,
    )
    rate = {name: IMAGES / each for name, each in seconds.items()}
    return Result(
        "Images of 3×32×32 from an LMDB, on one core",
        (
            ("records alone", f"{rate['records']:,.0f}/s", "", ""),
            ("batches as they are", *_against(rate, "plain"), ""),
            ("crop 28, mirror, mean and scale", *_against(rate, "transformed"), "≥ 20,000/s"),
        ),
    )


def _record(index: int) -> tuple[bytes, database.Datum]:
    image = np.random.default_rng(index).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    return database.key(index), database.datum(image, index % 10)


def _epoch(folder: Path, transform: str) -> Callable[[], None]:
    net = graph.build(prototxt.parse(NET.format(transform=transform, batch=BATCH)))
    source = torch_data.source(net.layers[0], "TRAIN", folder, Random(0))

    def epoch() -> None:
        for _ in range(IMAGES // BATCH):
            source.next()

    return epoch


def _against(rate: dict[str, float], name: str) -> tuple[str, str]:
    return f"{rate[name]:,.0f}/s", f"{rate[name] / rate['records']:.2f}× the records alone"
