"""Solver states: what protobuf and h5py wrote is read, what is written the real Caffe resumes."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_array_equal

from caffesplit.errors import OutputError, WeightsError
from caffesplit.formats import caffemodel, solverstate
from caffesplit.formats.schema import message_class
from caffesplit.formats.solverstate import SolverState


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


def test_a_step_below_zero_is_an_error(tmp_path: Path):
    path = tmp_path / "bad.solverstate"
    path.write_bytes(b"\x08\x05\x20" + b"\xff" * 9 + b"\x01")

    with pytest.raises(WeightsError, match="step -1, expected 0 to 2147483647"):
        solverstate.read(path)


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


# Writing

SUFFIXES = ["solverstate", "solverstate.h5"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(
    iteration=st.integers(0, 2**31 - 1),
    current_step=st.integers(0, 2**31 - 1),
    learned_net=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    history=st.lists(
        npst.arrays(np.float32, npst.array_shapes(min_dims=0, min_side=0, max_side=4)), max_size=12
    ),
)
def test_what_was_written_is_read_bit_for_bit(
    tmp_path_factory, suffix, iteration, current_step, learned_net, history
):
    path = tmp_path_factory.mktemp("written") / f"snap.{suffix}"
    solverstate.write(path, SolverState(iteration, learned_net, tuple(history), current_step))

    read = solverstate.read(path)

    assert (read.iteration, read.current_step) == (iteration, current_step)
    assert read.learned_net == learned_net
    assert [blob.shape for blob in read.history] == [blob.shape for blob in history]
    assert [blob.tobytes() for blob in read.history] == [blob.tobytes() for blob in history]


STATE = SolverState(500, "snap_iter_500.caffemodel", (np.ones((2, 3), "f4"), np.arange(3.0)), 2)


def test_what_was_written_is_what_protobuf_would_write(tmp_path: Path):
    path = tmp_path / "snap.solverstate"
    expected = message_class("SolverState")(
        iter=500, learned_net="snap_iter_500.caffemodel", current_step=2
    )
    expected.history.add(data=[1] * 6).shape.dim.extend([2, 3])
    expected.history.add(data=[0, 1, 2]).shape.dim.append(3)

    solverstate.write(path, STATE)

    assert message_class("SolverState").FromString(path.read_bytes()) == expected


def test_an_hdf5_state_has_the_types_that_caffe_reads(tmp_path: Path):
    path = tmp_path / "snap.solverstate.h5"

    solverstate.write(path, STATE)

    with h5py.File(path) as file:
        assert set(file) == {"iter", "current_step", "learned_net", "history"}
        for name, value in (("iter", 500), ("current_step", 2)):
            assert (file[name].dtype, file[name].shape) == (np.int32, (1,))
            assert file[name][0] == value
        # Caffe reads a string into as many bytes as it has, and looks for the zero at its end.
        assert file["learned_net"].dtype == np.dtype("S25")
        assert file["learned_net"].shape == ()
        assert set(file["history"]) == {"0", "1"}
        assert file["history/1"].dtype == np.float32


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_state_without_weights_names_none(tmp_path: Path, suffix: str):
    path = tmp_path / f"snap.{suffix}"

    solverstate.write(path, SolverState(7, "", (), 0))

    assert solverstate.read(path) == SolverState(7, "", (), 0)
    if suffix == "solverstate":
        assert (
            not message_class("SolverState").FromString(path.read_bytes()).HasField("learned_net")
        )
    else:
        with h5py.File(path) as file:
            assert "learned_net" not in file


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_writing_over_a_state_needs_force(tmp_path: Path, suffix: str):
    path = tmp_path / f"snap.{suffix}"
    solverstate.write(path, STATE)
    before = path.read_bytes()

    with pytest.raises(OutputError, match="the output exists already"):
        solverstate.write(path, replace(STATE, iteration=1))

    assert path.read_bytes() == before
    solverstate.write(path, replace(STATE, iteration=1), force=True)
    assert solverstate.read(path).iteration == 1


def test_a_state_that_outgrows_caffe_is_refused_before_it_starts(tmp_path: Path):
    huge = np.broadcast_to(np.float32(0), (2**15, 2**14))

    with pytest.raises(OutputError) as caught:
        solverstate.write(tmp_path / "snap.solverstate", replace(STATE, history=(huge,)))

    assert str(caught.value) == (
        f"{tmp_path / 'snap.solverstate'}: the file would take 2,147,483,701 bytes, expected at "
        "most 2,147,483,647, which is what Caffe reads\n"
        "HDF5 holds more: give a name that ends in `.h5`, or `caffesplit split` its --hdf5."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("snapshot_format", "suffix"),
    [("BINARYPROTO", "solverstate"), ("BINARYPROTO", "solverstate.h5"), ("HDF5", "solverstate.h5")],
)
def test_the_real_caffe_goes_on_from_a_written_state_as_from_its_own(
    caffe: Path, digits_root: Path, snapshot_format: str, suffix: str
):
    """SGD with momentum: without its rows the next iterations are others."""
    base = digits_root / "baseline"
    solver = base / "solver.prototxt"
    text = solver.read_text().replace("solver_mode: GPU", "solver_mode: CPU")
    solver.write_text(f"{text}\nsnapshot_format: {snapshot_format}\n")
    train(caffe, digits_root, f"--solver={solver}")
    (own,) = base.glob("digits_iter_50.solverstate*")
    state = solverstate.read(own)
    written, zeroed = base / f"written.{suffix}", base / f"zeroed.{suffix}"

    solverstate.write(written, state)
    solverstate.write(zeroed, replace(state, history=tuple(map(np.zeros_like, state.history))))

    expected = train(caffe, digits_root, f"--solver={solver}", f"--snapshot={own}")
    assert expected[0][0] == "50"
    assert train(caffe, digits_root, f"--solver={solver}", f"--snapshot={written}") == expected
    assert train(caffe, digits_root, f"--solver={solver}", f"--snapshot={zeroed}") != expected


def train(caffe: Path, folder: Path, *arguments: str) -> list[tuple[str, str]]:
    """The iterations' losses."""
    done = subprocess.run(
        [caffe, "train", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return re.findall(r"Iteration (\d+) .*, loss = (\S+)", done.stderr)
