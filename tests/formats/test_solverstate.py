"""Solver states: what protobuf and h5py wrote is read."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from caffesplit.errors import WeightsError
from caffesplit.formats import caffemodel, solverstate
from caffesplit.formats.schema import message_class


def test_a_solverstate_is_read_as_protobuf_wrote_it(tmp_path: Path):
    path = tmp_path / "snap_iter_500.solverstate"
    state = message_class("SolverState")(
        iter=500, learned_net="snap_iter_500.caffemodel", current_step=2
    )
    for shape in ((2, 3), (2,)):
        state.history.add(data=range(int(np.prod(shape)))).shape.dim.extend(shape)
    path.write_bytes(state.SerializeToString())

    read = solverstate.read(path)

    assert (read.iteration, read.learned_net) == (500, "snap_iter_500.caffemodel")
    assert read.current_step == 2
    assert_array_equal(read.history[0], [[0, 1, 2], [3, 4, 5]])
    assert_array_equal(read.history[1], [0, 1])


def test_a_fresh_state_has_no_history_and_step_zero(tmp_path: Path):
    path = tmp_path / "snap_iter_0.solverstate"
    path.write_bytes(message_class("SolverState")(iter=0).SerializeToString())

    assert solverstate.read(path) == solverstate.SolverState(0, "", (), 0)


def test_an_hdf5_solverstate_reads_alike(tmp_path: Path):
    path = tmp_path / "snap_iter_500.solverstate.h5"
    with h5py.File(path, "w") as file:  # As hdf5_save_int and hdf5_save_string write.
        file["iter"], file["current_step"] = np.int32([500]), np.int32([2])
        file["learned_net"] = np.bytes_(b"snap_iter_500.caffemodel.h5")
        for number in range(11):
            file[f"history/{number}"] = np.full((2, 2), number, np.float32)

    read = solverstate.read(path)

    assert (read.iteration, read.learned_net) == (500, "snap_iter_500.caffemodel.h5")
    assert read.current_step == 2
    assert [blob.shape for blob in read.history] == [(2, 2)] * 11
    assert [blob[0, 0] for blob in read.history] == list(range(11))


def test_a_damaged_row_is_named(tmp_path: Path):
    path = tmp_path / "bad.solverstate"
    state = message_class("SolverState")(iter=1)
    state.history.add(data=[1]).shape.dim.append(1)
    state.history.add(data=[1, 2]).shape.dim.append(3)
    path.write_bytes(state.SerializeToString())

    with pytest.raises(WeightsError) as caught:
        solverstate.read(path)

    assert str(caught.value).startswith(
        f"{path}: byte 15, blob 1: shape (3,) needs 3 values, the blob holds 2"
    )


@pytest.mark.parametrize("iteration", [b"", b"\x08" + b"\xff" * 9 + b"\x01"])
def test_an_impossible_iteration_is_an_error(tmp_path: Path, iteration: bytes):
    path = tmp_path / "bad.solverstate"
    path.write_bytes(iteration + b"\x20\x01")

    with pytest.raises(WeightsError) as caught:
        solverstate.read(path)

    assert str(caught.value) == (
        f"{path}: iteration -1, expected 0 to 2147483647\n"
        "Caffe did not write this file, or it is damaged."
    )


def test_weights_are_no_solverstate(tmp_path: Path):
    path = tmp_path / "net.caffemodel"
    caffemodel.write(path, [], name="tiny\x01")

    with pytest.raises(WeightsError, match=r"byte 0: field 1 of wire type 2, expected a number"):
        solverstate.read(path)
