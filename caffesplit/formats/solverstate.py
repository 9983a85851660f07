"""Caffe's solver states: where a training run stood, and its momentum.

Source: SGDSolver::{SnapshotSolverStateTo,RestoreSolverStateFrom}{BinaryProto,HDF5},
src/caffe/solvers/sgd_solver.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from caffesplit.errors import Location, WeightsError
from caffesplit.formats import hdf5
from caffesplit.formats.blobs import Array, BlobBytes, BlobRecord, index_blob
from caffesplit.formats.output import replacing
from caffesplit.formats.wire import (
    NOT_CAFFES,
    VARINT,
    WireFile,
    check_size,
    encode_int,
    encode_length,
    encode_text,
    expect_wire,
    open_map,
    signed,
)

ITER, LEARNED_NET, HISTORY, CURRENT_STEP = 1, 2, 3, 4
"""Field numbers of SolverState."""

MAX_ITERATION = 2**31 - 1
"""SolverState.iter is an int32."""


@dataclass(frozen=True)
class SolverState:
    """The state of a solver after `iteration` steps.

    `history` holds the solver's own blobs, mapped read-only, one row per learnable blob in
    Caffe's parameter order (Adam and AdaDelta: all first rows, then all second ones).
    `learned_net` is the weight file's path as Caffe wrote it, from which it also takes the
    weights when it resumes (empty: none); `current_step` counts the steps of the learning rate
    policy.
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
    for what, number in (("iteration", parts.iteration), ("step", parts.current_step)):
        if not 0 <= number <= MAX_ITERATION:
            raise WeightsError(f"{what} {number}", f"0 to {MAX_ITERATION}", NOT_CAFFES, at)
    return SolverState(
        parts.iteration,
        parts.learned_net,
        tuple(blob.array(buffer) for blob in parts.history),
        parts.current_step,
    )


def write(path: Path | str, state: SolverState, force: bool = False) -> None:
    """Write a solver state, float32: HDF5 where `path` ends in `.h5`, else BINARYPROTO.

    Caffe tells the two apart by the name alike (Solver::Restore, src/caffe/solver.cpp), and
    resumes from a BINARYPROTO state only if its `learned_net` is BINARYPROTO as well.

    Raises:
        OutputError: if `path` exists and `force` is false, or a BINARYPROTO file would outgrow
            Caffe.
    """
    if hdf5.is_wanted(path):
        with replacing(path, force=force) as (staged,):
            _write_hdf5(staged, state, Location(str(path)))
        return
    history = [BlobBytes(blob) for blob in state.history]
    heads = [encode_length(HISTORY, len(blob)) for blob in history]
    fields = encode_int(ITER, state.iteration) + encode_int(CURRENT_STEP, state.current_step)
    if state.learned_net:
        fields += encode_text(LEARNED_NET, state.learned_net)
    check_size(len(fields) + sum(map(len, heads)) + sum(map(len, history)), path)
    with replacing(path, force=force) as (staged,), staged.open("wb") as file:
        file.write(fields)
        for head, blob in zip(heads, history, strict=True):
            file.write(head)
            blob.write(file)


def _write_hdf5(path: Path, state: SolverState, at: Location) -> None:
    with hdf5.created(path, at) as file:
        hdf5.write_integer(file, "iter", state.iteration)
        if state.learned_net:
            hdf5.write_text(file, "learned_net", state.learned_net)
        hdf5.write_integer(file, "current_step", state.current_step)
        hdf5.write_blobs(file.create_group("history"), state.history)


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
