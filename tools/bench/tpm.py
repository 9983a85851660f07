"""TPM against the peer's way of reading weights, and against reading memory at all."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from caffesplit.formats import caffemodel
from caffesplit.formats.wire import open_map
from caffesplit.metric.trajectory import scores
from tools.bench import peer, vgg
from tools.bench.measure import Result, in_turns

ROUNDS = 15

OLDER_PROTOBUF = "protobuf<7"
"""Most Caffe users' protobuf: it hands numpy a blob value by value."""


def run(paths: list[Path]) -> Result:
    history, layers = vgg.history(paths, len(paths)), vgg.layers()
    window = [(0, len(paths) - 1)]
    seconds = in_turns(
        {
            "tpm": lambda: scores(history, window, layers),
            "blobs": lambda: [_max_of_blobs(path) for path in paths],
            "files": lambda: [_max_of_file(path) for path in paths],
        },
        ROUNDS,
    )
    tpm = seconds["tpm"]
    older = peer.interpreter(paths[0].with_name("peer"), OLDER_PROTOBUF)
    peers = {
        f"protobuf {version('protobuf')}": peer.seconds(paths[0]) * len(paths),
        OLDER_PROTOBUF: peer.seconds(paths[0], older) * len(paths),
    }
    megabytes = paths[0].stat().st_size / 1e6
    return Result(
        f"TPM over {len(paths)} snapshots of VGG-16, {megabytes:.0f} MB each, page cache warm",
        (
            ("TPM of every kernel", f"{tpm:.3f} s", "", ""),
            *(
                (
                    f"{name}: parse + `np.array(blob.data)`, one file × {len(paths)}",
                    f"{taken:.1f} s",
                    f"TPM is {taken / tpm:.0f}× faster",
                    "≥ 40×",
                )
                for name, taken in peers.items()
            ),
            (
                "`max` of every mapped blob",
                f"{seconds['blobs']:.3f} s",
                f"TPM takes {tpm / seconds['blobs']:.2f}×",
                "≤ 2×",
            ),
            (
                "`max` of the mapped files as aligned float32",
                f"{seconds['files']:.3f} s",
                f"TPM takes {tpm / seconds['files']:.2f}×",
                "",
            ),
        ),
    )


def _max_of_blobs(path: Path) -> None:
    for blobs in caffemodel.read(path).values():
        for blob in blobs:
            blob.max()


def _max_of_file(path: Path) -> None:
    """The fastest pass over the bytes there is: blobs in a weight file are seldom aligned."""
    buffer = open_map(path)
    np.frombuffer(buffer, np.float32, len(buffer) // 4).max()
