"""`caffe time`: how long a net's layers take, forward and backward."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffesplit.engines import caffe_tool, start
from caffesplit.engines.testing import Progress
from caffesplit.net.solver import State

_ITERATION = re.compile(r"\] Iteration: (\d+) forward-backward")
_LAYER = re.compile(r"\] +(\S.*)\t(forward|backward): (\S+) ms\.$")


@dataclass(frozen=True)
class Timing:
    """One call of `caffe time`: paths as Caffe takes them, from its working directory `root`."""

    net: Path
    root: Path
    iterations: int
    phase: str = "TRAIN"
    level: int = 0
    stages: Sequence[str] = ()
    gpu: str | None = None


@dataclass(frozen=True)
class Times:
    """Mean milliseconds per iteration: of each layer, in the net's order, and of them all.

    With torch, data layers, which come first, have waited for their batches only.
    """

    layers: tuple[tuple[str, float, float], ...]
    """Name, forward, backward."""

    @property
    def forward(self) -> float:
        return sum(forward for _, forward, _ in self.layers)

    @property
    def backward(self) -> float:
        return sum(backward for _, _, backward in self.layers)

    def __str__(self) -> str:
        """Caffe's lines, without glog's prefix."""
        lines = ["Average time per layer: "]
        for name, forward, backward in self.layers:
            lines.append(f"{name:>10}\tforward: {forward:g} ms.")
            lines.append(f"{name:>10}\tbackward: {backward:g} ms.")
        lines.append(f"Average Forward pass: {self.forward:g} ms.")
        lines.append(f"Average Backward pass: {self.backward:g} ms.")
        lines.append(f"Average Forward-Backward: {self.forward + self.backward:g} ms.")
        return "\n".join(lines)


def check(timing: Timing) -> None:
    """Look at what a timing reads.

    Raises:
        NetError, PrototxtError: for a net that cannot be read, or whose data is not there.
    """
    state = State(timing.phase, timing.level, tuple(timing.stages))
    start.check_sources(start.layers_of(timing.net, state), timing.root)


def run(timing: Timing, caffe: Path, progress: Progress = lambda done, total: None) -> Times:
    """Run `caffe time` (time() in tools/caffe.cpp).

    Raises:
        EngineError: if the binary does not start, or fails; with its last words.
    """

    def hear(line: str) -> None:
        if iteration := _ITERATION.search(line):
            progress(int(iteration[1]), timing.iterations)

    command = [
        *(str(caffe), "time", f"--model={timing.net}", f"--phase={timing.phase}"),
        f"--iterations={timing.iterations}",
        *caffe_tool.state(timing.level, timing.stages, timing.gpu),
    ]
    lines, status = caffe_tool.said(command, timing.root, hear)
    times = parse(lines)
    if status != 0 or not times.layers:
        raise caffe_tool.failed("caffe time", "the times of layers", timing.net, lines, status)
    return times


def parse(lines: Sequence[str]) -> Times:
    """What the last lines of `caffe time` say of each layer."""
    found = [match.groups() for match in map(_LAYER.search, lines) if match]
    forward = [(name, float(value)) for name, way, value in found if way == "forward"]
    backward = [float(value) for _, way, value in found if way == "backward"]
    return Times(tuple((*one, other) for one, other in zip(forward, backward, strict=False)))
