"""Splitting one layer of a large weight file against copying the file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights
from tools.bench.measure import Result, in_turns

LAYER = "conv3_2"
ROUNDS = 9


def run(paths: list[Path]) -> Result:
    source = paths[0]
    copy, spliced = source.with_name("copy"), source.with_name("spliced")
    seconds = in_turns(
        {
            "cp": lambda: subprocess.run(["cp", source, copy], check=True),
            "splice": lambda: caffemodel.splice(source, spliced, _split(source), force=True),
        },
        ROUNDS,
    )
    copy.unlink()
    spliced.unlink()
    return Result(
        f"Splitting {LAYER} in the {source.stat().st_size / 1e6:.0f} MB of VGG-16",
        (
            ("`cp`", f"{seconds['cp']:.3f} s", "", ""),
            (
                "`caffemodel.splice`",
                f"{seconds['splice']:.3f} s",
                f"{seconds['splice'] / seconds['cp']:.2f}× `cp`",
                "≤ 1.5×",
            ),
        ),
    )


def _split(source: Path) -> dict[str, list[LayerWeights]]:
    """The layer as two halves, joined and put back in order."""
    weight, bias = caffemodel.read(source)[LAYER]
    count = len(weight)
    halves = [
        (weight[: count // 2], bias[: count // 2]),
        (weight[count // 2 :], bias[count // 2 :]),
    ]
    order = np.eye(count, dtype=np.float32).reshape(count, count, 1, 1)
    return {
        LAYER: [
            LayerWeights(f"{LAYER}_split1", "Convolution", halves[0]),
            LayerWeights(f"{LAYER}_split2", "Convolution", halves[1]),
            LayerWeights(f"{LAYER}_concat", "Concat", ()),
            LayerWeights(f"{LAYER}_reorder", "Convolution", (order, np.zeros_like(bias))),
        ]
    }
