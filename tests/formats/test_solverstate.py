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


def hdf5_state(path: Path, **changed: object) -> Path:
    """A solver state in HDF5 with some datasets that are not as Caffe writes them."""
    datasets = {
        "iter": np.int32([500]),
        "current_step": np.int32([0]),
        "learned_net": np.bytes_(b"net.caffemodel.h5"),
    }
    with h5py.File(path, "w") as file:
        file.create_group("history")
        for name, value in (datasets | changed).items():
            if isinstance(value, dict):
                file.create_dataset(name, **value)
            elif value is not None:
                file[name] = value
    return path


BAD_INTEGERS = {
    "missing": None,
    "a string": np.bytes_(b"500"),
    "text": "500",
    "empty": h5py.Empty("i4"),
    "a float": np.float32([500]),
    "two": np.int32([1, 2]),
    "none": np.zeros(0, np.int32),
    "ten billion": {"shape": (10**10,), "dtype": "i8"},
    "chunked": {"data": np.int32([500]), "chunks": (1,)},
    "in a huge chunk": {"shape": (1,), "dtype": "i4", "chunks": (10**9,), "maxshape": (None,)},
    "never written": {"shape": (1,), "dtype": "i4"},
    "elsewhere": {"shape": (1,), "dtype": "i4", "external": "/dev/zero"},
}


@pytest.mark.parametrize("value", BAD_INTEGERS.values(), ids=BAD_INTEGERS)
@pytest.mark.parametrize("name", ["iter", "current_step"])
def test_an_iteration_in_hdf5_is_one_integer(tmp_path: Path, name: str, value: object):
    path = hdf5_state(tmp_path / "bad.solverstate.h5", **{name: value})

    with pytest.raises(WeightsError) as caught:
        solverstate.read(path)

    assert str(caught.value) == (
        f'{path}: something else in "{name}", expected an integer\n'
        "Caffe did not write this file, or it is damaged."
    )


BAD_TEXTS = {
    "missing": None,
    "a number": np.int32(5),
    "empty": h5py.Empty("S3"),
    "of no fixed length": "net",
    "several": np.array([b"a", b"b"]),
    "very long": np.bytes_(b"a" * 70_000),
    "ten billion": {"shape": (10**10,), "dtype": "S8"},
    "chunked": {"data": np.array([b"net"]), "chunks": (1,)},
}


@pytest.mark.parametrize("value", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_the_weights_path_in_hdf5_is_one_string(tmp_path: Path, value: object):
    path = hdf5_state(tmp_path / "bad.solverstate.h5", learned_net=value)

    with pytest.raises(WeightsError) as caught:
        solverstate.read(path)

    assert str(caught.value) == (
        f'{path}: something else in "learned_net", expected a string of at most 65,536 bytes\n'
        "Caffe did not write this file, or it is damaged."
    )


def test_links_in_an_hdf5_solverstate_are_refused(tmp_path: Path):
    path = hdf5_state(tmp_path / "bad.solverstate.h5", iter=h5py.SoftLink("/current_step"))

    with pytest.raises(WeightsError, match='"iter" in "/" is a link, expected the data themselves'):
        solverstate.read(path)


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
