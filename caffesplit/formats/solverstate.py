"""Caffe's solver states: where a training run stood, and its momentum.

Source: SGDSolver::SnapshotSolverStateTo{BinaryProto,HDF5}, src/caffe/solvers/sgd_solver.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from caffesplit.errors import Location, WeightsError
from caffesplit.formats import hdf5
from caffesplit.formats.blobs import Array, BlobRecord, index_blob
from caffesplit.formats.wire import NOT_CAFFES, VARINT, WireFile, expect_wire, open_map, signed

ITER, LEARNED_NET, HISTORY, CURRENT_STEP = 1, 2, 3, 4
"""Field numbers of SolverState."""

MAX_ITERATION = 2**31 - 1
"""SolverState.iter is an int32."""


@dataclass(frozen=True)
class SolverState:
    """The state of a solver after `iteration` steps.

    `history` holds the solver's own blobs, mapped read-only, one row per learnable blob in
    Caffe's parameter order (Adam and AdaDelta: all first rows, then all second ones).
    `learned_net` is the weight file's path as Caffe wrote it; `current_step` counts the steps
    of the learning rate policy.
    """

    iteration: int
    learned_net: str
    history: tuple[Array, ...]
    current_step: int


def read(path: Path | str) -> SolverState:
    """Read a `.solverstate` or `.solverstate.h5`.

    Raises:
        WeightsError: if it is damaged or of another kind.
    """
    buffer = open_map(path)
    at = Location(str(path))
    if buffer[: len(hdf5.MAGIC)] == hdf5.MAGIC:
        parts = _read_hdf5(str(path), len(buffer), at)
    else:
        parts = _read_wire(WireFile(str(path), buffer), at)
    if not 0 <= parts.iteration <= MAX_ITERATION:
        raise WeightsError(f"iteration {parts.iteration}", f"0 to {MAX_ITERATION}", NOT_CAFFES, at)
    return SolverState(
        parts.iteration,
        parts.learned_net,
        tuple(blob.array(buffer) for blob in parts.history),
        parts.current_step,
    )


class _Parts(NamedTuple):
    """A SolverState whose history is still in the file."""

    iteration: int
    learned_net: str
    history: tuple[BlobRecord, ...]
    current_step: int


def _read_wire(file: WireFile, at: Location) -> _Parts:
    numbers = {ITER: -1, CURRENT_STEP: 0}
    learned_net = ""
    history: list[BlobRecord] = []
    for field in file.fields(0, file.size, at):
        if field.number in numbers:
            expect_wire(field, VARINT, "a number", at)
            numbers[field.number] = signed(field.value)
        elif field.number == LEARNED_NET:
            learned_net = file.text(field, at)
        elif field.number == HISTORY:
            history.append(index_blob(file, field, replace(at, blob=len(history))))
    return _Parts(numbers[ITER], learned_net, tuple(history), numbers[CURRENT_STEP])


def _read_hdf5(path: str, size: int, at: Location) -> _Parts:
    with hdf5.opened(path) as file:
        history = hdf5.index_group(file, "history", size, at)
        return _Parts(
            iteration=hdf5.read_integer(file, "iter", at),
            learned_net=hdf5.read_text(file, "learned_net", at),
            history=history,
            current_step=hdf5.read_integer(file, "current_step", at),
        )
