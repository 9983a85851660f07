"""Caffe's log lines, as the last Caffe and glog print them.

Whatever reads a log of Caffe's reads these: the parsers here and BVLC's parse_log.py alike.
Sources, whose line numbers the prefixes carry: src/caffe/solver.cpp, net.cpp,
solvers/sgd_solver.cpp and tools/caffe.cpp.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf import text_format

from caffesplit.net.graph import Layer
from caffesplit.net.solver import State

Write = Callable[[bytes], object]

OWN = "torch_train.py:1"
"""The place of lines that Caffe does not have."""


@dataclass(frozen=True)
class Output:
    """An output blob of a net: its values, flat, and its loss weight (0: it is no loss)."""

    name: str
    values: Sequence[float]
    loss_weight: float = 0.0


class Log:
    """Caffe's lines by what they say. Each is handed to `write`, in bytes, as soon as it is."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def line(self, place: str, message: str, severity: str = "I") -> None:
        """A line with glog's prefix; `place` is Caffe's file and line."""
        stamp = datetime.now().strftime("%m%d %H:%M:%S.%f")
        thread = threading.get_native_id()
        self._write(f"{severity}{stamp} {thread:5d} {place}] {message}\n".encode())

    # The tool: what is run on what, from where.

    def device(self, gpu: str | None, name: str) -> None:
        if gpu is None:
            self.line("caffe.cpp:197", "Use CPU.")
        else:
            self.line("caffe.cpp:204", f"Using GPUs {gpu}")
            self.line("caffe.cpp:209", f"GPU {gpu}: {name}")

    def engine(self, title: str, rank: int, count: int) -> None:
        processes = f", process {rank + 1} of {count}" if count > 1 else ""
        self.line(OWN, f"{title}{processes}")

    def resuming(self, path: str) -> None:
        self.line("caffe.cpp:235", f"Resuming from {path}")

    def restored(self) -> None:
        self.line("sgd_solver.cpp:336", "SGDSolver: restoring history")

    def finetuning(self, path: str) -> None:
        self.line("solver.cpp:72", f"Finetuning from {path}")

    def starting(self) -> None:
        self.line("caffe.cpp:239", "Starting Optimization")

    def ended(self) -> None:
        """The tool's last line, which follows a run that was stopped as well."""
        self.line("caffe.cpp:250", "Optimization Done.")

    def note(self, message: str) -> None:
        """A warning of this engine's own."""
        self.line(OWN, message, "W")

    def failed(self, message: str) -> None:
        self.line(OWN, message, "F")

    # The solver and its nets as they are set up.

    def solver(self, message: Any) -> None:
        text = text_format.MessageToString(message)
        self.line("solver.cpp:45", f"Initializing solver from parameters: \n{text.rstrip()}")

    def train_net(self, field: str, path: str | None) -> None:
        """`path` is None for a net inside the solver."""
        if path is None:
            self.line("solver.cpp:88", f"Creating training net specified in {field}.")
        else:
            self.line("solver.cpp:102", f"Creating training net from {field} file: {path}")

    def test_net(self, number: int, field: str, path: str | None) -> None:
        source = field if path is None else f"{field} file: {path}"
        self.line("solver.cpp:190", f"Creating test net (#{number}) specified by {source}")

    def net(self, name: str, state: State, layers: Iterable[Layer]) -> None:
        head = [f"phase: {state.phase}", f"level: {state.level}"]
        head += [f'stage: "{stage}"' for stage in state.stages]
        parts = [f'name: "{name}"', _braced("state", "\n".join(head))]
        parts += [_braced("layer", text_format.MessageToString(each.message)) for each in layers]
        self.line("net.cpp:53", "\n".join(["Initializing net from parameters: ", *parts]))

    def net_done(self, size: int) -> None:
        """`size`: how many values the tops of all layers hold."""
        self.line("net.cpp:139", f"Memory required for data: {4 * size}")
        self.line("net.cpp:257", "Network initialization done.")

    def ignored(self, layer: str) -> None:
        self.line("net.cpp:746", f"Ignoring source layer {layer}")

    def scaffolded(self) -> None:
        self.line("solver.cpp:57", "Solver scaffolding done.")

    # Training.

    def solving(self, net: str, policy: str) -> None:
        self.line("solver.cpp:289", f"Solving {net}")
        self.line("solver.cpp:290", f"Learning Rate Policy: {policy}")

    def trained(
        self, iteration: int, loss: float, display: int, done: int, seconds: float,
        outputs: Iterable[Output],
    ) -> None:  # fmt: skip
        """An iteration's loss and outputs; `done` iterations took `seconds` since the last."""
        speed = f"{done / (seconds or 1):g} iter/s, {seconds:g}s/{display} iters"
        self.line("solver.cpp:239", f"Iteration {iteration} ({speed}), loss = {loss:g}")
        self._outputs("solver.cpp:258", "Train", outputs)

    def last_loss(self, iteration: int, loss: float) -> None:
        self.line("solver.cpp:327", f"Iteration {iteration}, loss = {loss:g}")

    def stepped(self, iteration: int, step: int) -> None:
        self.line("sgd_solver.cpp:50", f"MultiStep Status: Iteration {iteration}, step = {step}")

    def rate(self, iteration: int, rate: float) -> None:
        self.line("sgd_solver.cpp:112", f"Iteration {iteration}, lr = {rate:g}")

    def clipped(self, norm: float, limit: float) -> None:
        message = f"(L2 norm {norm:g} > {limit:g}) by scale factor {limit / norm:g}"
        self.line("sgd_solver.cpp:99", f"Gradient clipping: scaling down gradients {message}")

    def stopped(self) -> None:
        self.line("solver.cpp:311", "Optimization stopped early.")

    def done(self) -> None:
        self.line("solver.cpp:332", "Optimization Done.")

    # Tests and snapshots.

    def testing(self, iteration: int, number: int) -> None:
        self.line("solver.cpp:347", f"Iteration {iteration}, Testing net (#{number})")

    def tested(self, loss: float | None, outputs: Iterable[Output]) -> None:
        """The means over the batches; the loss where the solver asks for it."""
        if loss is not None:
            self.line("solver.cpp:401", f"Test loss: {loss:g}")
        self._outputs("solver.cpp:414", "Test", outputs)

    def test_interrupted(self) -> None:
        self.line("solver.cpp:396", "Test interrupted.")

    def snapshot(self, path: str, hdf5: bool) -> None:
        place = "solver.cpp:474" if hdf5 else "solver.cpp:464"
        self.line(place, f"Snapshotting to {_kind(hdf5)} file {path}")

    def solver_state(self, path: str, hdf5: bool) -> None:
        place = "sgd_solver.cpp:296" if hdf5 else "sgd_solver.cpp:284"
        self.line(place, f"Snapshotting solver state to {_kind(hdf5)} file {path}")

    # `debug_info`: mean absolute values.

    def debug_forward(self, layer: str, kind: str, blob: str, mean: float) -> None:
        """`kind` is top or param."""
        place = "net.cpp:593" if kind == "top" else "net.cpp:605"
        self.line(place, f"    [Forward] Layer {layer}, {kind} blob {blob} data: {mean:g}")

    def debug_backward(self, layer: str, kind: str, blob: str, mean: float) -> None:
        """`kind` is bottom or param."""
        place = "net.cpp:621" if kind == "bottom" else "net.cpp:632"
        self.line(place, f"    [Backward] Layer {layer}, {kind} blob {blob} diff: {mean:g}")

    def debug_norms(self, l1: tuple[float, float], l2: tuple[float, float]) -> None:
        """Norms of all parameters and of all their gradients."""
        norms = f"L1 norm = ({l1[0]:g}, {l1[1]:g}); L2 norm = ({l2[0]:g}, {l2[1]:g})"
        self.line("net.cpp:721", f"    [Backward] All net params (data, diff): {norms}", "E")

    def _outputs(self, place: str, phase: str, outputs: Iterable[Output]) -> None:
        """One line per value, numbered throughout."""
        values = ((each, value) for each in outputs for value in each.values)
        for number, (each, value) in enumerate(values):
            self.line(place, f"    {phase} net output #{number}: {_shown(each, value)}")


def _shown(output: Output, value: float) -> str:
    weight = output.loss_weight
    weighted = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
    return f"{output.name} = {value:g}{weighted}"


def _kind(hdf5: bool) -> str:
    return "HDF5" if hdf5 else "binary proto"


def _braced(name: str, text: str) -> str:
    lines = "".join(f"  {line}\n" for line in text.splitlines())
    return f"{name} {{\n{lines}}}"
