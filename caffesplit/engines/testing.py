"""`caffe test`: what a net with given weights puts out, averaged over batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffesplit.engines import caffe_tool, start
from caffesplit.net.solver import State

Progress = Callable[[int, int], None]

_BATCH = re.compile(r"\] Batch (\d+), ")
_LOSS = re.compile(r"\] Loss: (\S+)$")
_OUTPUT = re.compile(r"\] (.+?) = (\S+)(?: \(\* .* loss\))?$")


@dataclass(frozen=True)
class Test:
    """One call of `caffe test`: paths as Caffe takes them, from its working directory `root`."""

    net: Path
    weights: Path
    root: Path
    iterations: int
    level: int = 0
    stages: Sequence[str] = ()
    gpu: str | None = None


@dataclass(frozen=True)
class Outputs:
    """The loss, and the net's outputs, each averaged over the batches.

    Of an output with several values there are as many entries of its name, in their order.
    """

    loss: float
    values: tuple[tuple[str, float], ...]


def check(test: Test) -> tuple[str, ...]:
    """Look at what a test reads. The layers that the weights leave at their initial values.

    Raises:
        NetError, PrototxtError: for a net that cannot be read, or whose data is not there.
        WeightsError: for weights that are damaged, or another net's.
    """
    layers = start.layers_of(test.net, State("TEST", test.level, tuple(test.stages)))
    start.check_sources(layers, test.root)
    return start.unfilled(layers, test.net, test.weights)


def run(test: Test, caffe: Path, progress: Progress = lambda done, total: None) -> Outputs:
    """Run `caffe test` (test() in tools/caffe.cpp).

    Raises:
        EngineError: if the binary does not start, or fails; with its last words.
    """

    def hear(line: str) -> None:
        if batch := _BATCH.search(line):
            progress(int(batch[1]) + 1, test.iterations)

    command = [
        *(str(caffe), "test", f"--model={test.net}", f"--weights={test.weights}"),
        f"--iterations={test.iterations}",
        *caffe_tool.state(test.level, test.stages, test.gpu),
    ]
    lines, status = caffe_tool.said(command, test.root, hear)
    outputs = parse(lines)
    if status != 0 or outputs is None:
        raise caffe_tool.failed("caffe test", "the outputs of the net", test.net, lines, status)
    return outputs


def parse(lines: Sequence[str]) -> Outputs | None:
    """What the last lines of `caffe test` say: the loss, and behind it an output a line."""
    for index in range(len(lines) - 1, -1, -1):
        if loss := _LOSS.search(lines[index]):
            found = filter(None, map(_OUTPUT.search, lines[index + 1 :]))
            return Outputs(float(loss[1]), tuple((each[1], float(each[2])) for each in found))
    return None
