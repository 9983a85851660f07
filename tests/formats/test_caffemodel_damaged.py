"""Damaged, hostile and foreign files: one clear error, at once, whatever they claim."""

from __future__ import annotations

import io
import struct
import time
from itertools import chain
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.errors import WeightsError
from caffesplit.formats import caffemodel, solverstate
from caffesplit.formats.schema import message_class

DAMAGED = "The file is damaged or cut off: compare its size with the original's and copy it again."
NOT_CAFFES = "Caffe did not write this file, or it is damaged."


def field(number: int, content: bytes, length: int | None = None) -> bytes:
    """A length-delimited field, whose length may be a lie."""
    return varint(number << 3 | 2) + varint(len(content) if length is None else length) + content


def varint(value: int) -> bytes:
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])


def net_with_blob(*parts: bytes) -> bytes:
    """A net whose only blob, of layer conv1, has these fields."""
    return field(100, field(1, b"conv1") + field(7, b"".join(parts)))


def shape(*dims: int) -> bytes:
    return field(7, field(1, b"".join(varint(dim % 2**64) for dim in dims)))


FLOATS = struct.pack("<4f", 1, 2, 3, 4)
AT_BLOB = 'layer "conv1", blob 0'
RAW_TYPES = "DOUBLE (0), FLOAT (1) or FLOAT16 (2), which are what NVCaffe loads"

MALFORMED = {
    "empty": (b"", f"the file is empty, expected a weight file\n{DAMAGED}"),
    "text": (
        b'name: "LeNet"\nlayer {\n}\n',
        "the file is text, expected a binary file\n"
        "A definition (prototxt) holds no weights: give the file that Caffe wrote.",
    ),
    "claims-2-gb": (
        field(100, b"x" * 96, length=2**31 - 1),
        "byte 0: field 100 says that 2,147,483,647 bytes follow, expected at most the 96 that are "
        f"left\n{DAMAGED}",
    ),
    "claims-2-to-the-63": (
        field(100, b"x" * 96, length=2**63),
        "byte 0: field 100 says that 9,223,372,036,854,775,808 bytes follow, expected at most the "
        f"96 that are left\n{DAMAGED}",
    ),
    "blob-outgrows-layer": (
        field(100, field(1, b"conv1") + field(7, b"\x01", length=100)),
        "byte 10: field 7 says that 100 bytes follow, expected at most the 1 that are left\n"
        f"{DAMAGED}",
    ),
    "endless-varint": (
        b"\x08" + b"\xff" * 20,
        f"byte 11: a number of more than 10 bytes, expected a varint\n{DAMAGED}",
    ),
    "varint-cut-off": (
        b"\x1a\x01\x01\x08\xff",
        f"byte 5: a number runs past the end of its message, expected it to end before byte 5\n"
        f"{DAMAGED}",
    ),
    "field-zero": (
        b"\x00\x01",
        f"byte 0: field 0 of wire type 0, expected a field of Caffe's messages\n{NOT_CAFFES}",
    ),
    "group": (
        b"\x0b\x0c",
        f"byte 0: field 1 of wire type 3, expected a field of Caffe's messages\n{NOT_CAFFES}",
    ),
    "no-layers": (
        field(1, b"empty\x01"),
        f"the file holds no layers, expected a net's weights\n{NOT_CAFFES}",
    ),
    "name-is-a-number": (
        b"\x08\x01",
        f"byte 0: field 1 of wire type 0, expected a string (wire type 2)\n{NOT_CAFFES}",
    ),
    "name-of-a-megabyte": (
        field(1, b"\x01" * 2**20),
        f"byte 0: a name of 1,048,576 bytes, expected at most 65,536\n{DAMAGED}",
    ),
    "too-few-values": (
        net_with_blob(shape(5), field(5, FLOATS)),
        f"byte 10, {AT_BLOB}: shape (5,) needs 5 values, the blob holds 4, expected as many as the "
        f"shape says\n{DAMAGED}",
    ),
    "too-many-values": (
        net_with_blob(shape(3), field(5, FLOATS)),
        f"byte 10, {AT_BLOB}: shape (3,) needs 3 values, the blob holds 4, expected as many as the "
        f"shape says\n{DAMAGED}",
    ),
    "no-values": (
        net_with_blob(shape(2, 2)),
        f"byte 10, {AT_BLOB}: shape (2, 2) needs 4 values, the blob holds 0, expected as many as "
        "the shape says\nSnapshot the net again, with its weights.",
    ),
    "values-cut-in-a-float": (
        net_with_blob(shape(4), field(5, FLOATS[:-1])),
        f"byte 17, {AT_BLOB}: 15 bytes of values, expected a multiple of 4\n{DAMAGED}",
    ),
    "values-are-numbers": (
        net_with_blob(shape(1), b"\x28\x01"),
        f"byte 17, {AT_BLOB}: field 5 of wire type 0, expected values (wire type 5)\n{NOT_CAFFES}",
    ),
    "nvcaffe-without-type": (
        net_with_blob(shape(2, 2), field(12, FLOATS)),
        f"byte 18, {AT_BLOB}: raw_data without a raw_data_type, expected {RAW_TYPES}\n{NOT_CAFFES}",
    ),
    "nvcaffe-int": (
        net_with_blob(shape(2, 2), b"\x50\x03", field(12, FLOATS)),
        f"byte 20, {AT_BLOB}: raw_data of type 3, expected {RAW_TYPES}\n{NOT_CAFFES}",
    ),
    "nvcaffe-type-is-text": (
        net_with_blob(shape(2, 2), field(10, b"FLOAT"), field(12, FLOATS)),
        f"byte 18, {AT_BLOB}: field 10 of wire type 2, expected raw_data_type (wire type 0)\n"
        f"{NOT_CAFFES}",
    ),
    "nvcaffe-values-are-a-number": (
        net_with_blob(shape(2, 2), b"\x50\x01\x60\x07"),
        f"byte 20, {AT_BLOB}: field 12 of wire type 0, expected values (wire type 2)\n{NOT_CAFFES}",
    ),
    "nvcaffe-cut-in-a-value": (
        net_with_blob(shape(8), b"\x50\x02", field(12, FLOATS[:-1])),
        f"byte 19, {AT_BLOB}: 15 bytes of values, expected a multiple of 2\n{DAMAGED}",
    ),
    "nvcaffe-of-another-type": (
        net_with_blob(shape(2, 2), b"\x50\x00", field(12, FLOATS)),
        f"byte 10, {AT_BLOB}: shape (2, 2) needs 4 values, the blob holds 2, expected as many as "
        f"the shape says\n{DAMAGED}",
    ),
    "negative-dimension": (
        net_with_blob(shape(-2, -2), field(5, FLOATS)),
        f"byte 10, {AT_BLOB}: shape (-2, -2), expected no negative dimension, and at most "
        f"2,147,483,647 values in a blob\n{NOT_CAFFES}",
    ),
    "shape-overflows": (
        net_with_blob(shape(2**62, 4), field(5, FLOATS)),
        f"byte 10, {AT_BLOB}: shape (4611686018427387904, 4), expected no negative dimension, and "
        f"at most 2,147,483,647 values in a blob\n{NOT_CAFFES}",
    ),
    "shape-overflows-but-for-a-zero": (
        net_with_blob(shape(2**31, 0)),
        f"byte 10, {AT_BLOB}: shape (2147483648, 0), expected no negative dimension, and "
        f"at most 2,147,483,647 values in a blob\n{NOT_CAFFES}",
    ),
    "million-axes": (
        net_with_blob(shape(*[1] * 1_000_000), field(5, FLOATS)),
        f"byte 12, {AT_BLOB}: a shape of more than 32 axes, expected at most 32\n{NOT_CAFFES}",
    ),
    "solverstate": (
        message_class("SolverState")(iter=3, learned_net="x").SerializeToString(),
        "this is a solver state, of iteration 3, expected weights: a caffemodel\nIts weights are x",
    ),
    "png": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        f"byte 10: field 0 of wire type 0, expected a field of Caffe's messages\n{NOT_CAFFES}",
    ),
    "zip": (
        b"PK\x03\x04\x14\0\0\0",
        f"byte 2: field 0 of wire type 3, expected a field of Caffe's messages\n{NOT_CAFFES}",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_bad_file_says_where_and_what_and_what_to_do(tmp_path: Path, name: str):
    content, message = MALFORMED[name]
    path = tmp_path / f"{name}.caffemodel"
    path.write_bytes(content)

    with pytest.raises(WeightsError) as caught:
        caffemodel.read(path)

    assert str(caught.value) == f"{path}: {message}"


def test_a_missing_file_is_an_error(tmp_path: Path):
    for path in (tmp_path / "none.caffemodel", tmp_path):
        with pytest.raises(WeightsError, match="no such file, expected a weight file"):
            caffemodel.read(path)


def good_net() -> bytes:
    net = message_class("NetParameter")(name="tiny")
    conv = net.layer.add(name="conv1", type="Convolution", bottom=["data"], top=["conv1"])
    for dims in ((2, 2, 1, 1), (2,)):
        blob = conv.blobs.add()
        blob.shape.dim.extend(dims)
        blob.data.extend([0.5] * int(np.prod(dims)))
    old = net.layers.add(name="fc", type=14).blobs.add(num=1, channels=1, height=2, width=2)
    old.data.extend([1, 2, 3, 4])
    return net.SerializeToString()


def good_hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5["data/conv1/0"] = np.ones((2, 2, 1, 1), np.float32)
        h5["data/conv1/1"] = np.ones(2, np.float32)
        h5["iter"], h5["current_step"], h5["learned_net"] = [1], [0], np.bytes_(b"x")
        h5["history/0"] = np.ones(2, np.float32)
    return file.getvalue()


def good_state() -> bytes:
    state = message_class("SolverState")(iter=3, learned_net="x", current_step=1)
    state.history.add(data=[1, 2]).shape.dim.append(2)
    return state.SerializeToString()


def read_all(path: Path) -> None:
    """Read a file by every reader; nothing but an error of ours may come out."""
    for read in (caffemodel.read, solverstate.read):
        try:
            found = read(path)
        except WeightsError:
            continue
        blobs = found.history if read is solverstate.read else chain(*found.values())
        for blob in blobs:
            blob.tobytes()


@given(content=st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("random") / "file"
    path.write_bytes(content)

    read_all(path)


@given(data=st.data())
@pytest.mark.parametrize(
    "good", [good_net(), good_state(), good_hdf5()], ids=["net", "state", "h5"]
)
def test_mutations_of_good_files_are_read_or_refused(tmp_path_factory, good, data):
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mutation") / "file"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])

    read_all(path)


@pytest.mark.parametrize(
    "good", [good_net(), good_state(), good_hdf5()], ids=["net", "state", "h5"]
)
def test_a_file_cut_off_anywhere_is_read_or_refused(tmp_path: Path, good: bytes):
    path = tmp_path / "file"
    for length in range(1, len(good), max(1, len(good) // 200)):
        path.write_bytes(good[:length])
        read_all(path)


def test_a_cut_off_net_never_gives_an_array(tmp_path: Path):
    good = good_net()
    path = tmp_path / "file"
    path.write_bytes(good)
    ends = {layer.offset + layer.length for layer in caffemodel.index(path).layers}

    for length in set(range(len(good))) - ends:
        path.write_bytes(good[:length])
        with pytest.raises(WeightsError):
            caffemodel.read(path)


def test_a_megabyte_of_tiny_fields_is_refused_in_seconds(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"\x18\x01" * 2_000_000)
    start = time.monotonic()

    with pytest.raises(WeightsError, match="more than 1,000,000 fields"):
        caffemodel.read(path)

    assert time.monotonic() - start < 10


@pytest.mark.parametrize("ending", ["", ".h5"])
def test_a_solver_state_given_as_weights_names_those_beside_it(tmp_path: Path, ending: str):
    path = tmp_path / f"snap_iter_5.solverstate{ending}"
    beside = tmp_path / "snap_iter_5.caffemodel"
    beside.touch()
    blob = np.zeros(3, np.float32)
    solverstate.write(path, solverstate.SolverState(5, "gone.caffemodel", (blob,), 0))
    with pytest.raises(WeightsError) as caught:
        caffemodel.index(path)
    assert str(caught.value) == (
        f"{path}: this is a solver state, of iteration 5, expected weights: a caffemodel\n"
        f"Its weights are {beside}"
    )
