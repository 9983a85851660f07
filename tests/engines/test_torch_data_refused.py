"""Data that cannot be read, and layers that contradict themselves."""

from __future__ import annotations

import shlex
import struct
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
from data_layers import (
    IMAGES,
    data,
    error_of,
    hdf5_layer,
    images_layer,
    opened,
    write_images,
    write_rows,
)
from leveldb_files import leveldb_of
from PIL import Image

from caffesplit.engines import torch_data_images
from caffesplit.formats import database, schema
from caffesplit.formats.blobs import BlobBytes


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_images(root)
    return root


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    root = tmp_path_factory.mktemp("hdf5")
    write_rows(root)
    return root


@pytest.mark.parametrize("backend", ["", "backend: LMDB "])
@pytest.mark.parametrize(
    ("source", "command", "lines"),
    [
        ("mnist_train_leveldb", "mnist_train_leveldb -o mnist_train_lmdb", "mnist_train_lmdb"),
        ("my data/train/", "'my data/train/' -o 'my data/train_lmdb'", "my data/train_lmdb"),
        ("data/leveldb", "data/leveldb -o data/lmdb", "data/lmdb"),
    ],
)
def test_a_leveldb_is_refused_with_the_command_that_converts_it(
    tmp_path, backend, source, command, lines
):
    (tmp_path / source).mkdir(parents=True)
    (tmp_path / source / "CURRENT").touch()
    text = data(1).replace("backend: LMDB ", backend).replace('"lmdb"', f'"{source}"')
    message = error_of(text, tmp_path)
    assert "layer 'data' reads a LevelDB, expected an LMDB\n" in message
    assert message.endswith(
        f"Copy its records into one, in the folder {tmp_path}:\n"
        f"    caffesplit data lmdb {command}\n"
        "and write into the layer's data_param, in place of its own source and backend:\n"
        f'    source: "{lines}" backend: LMDB'
    )


def test_the_command_in_the_refusal_of_a_leveldb_does_convert_it(tmp_path):
    records = [(b"%03d" % i, database.datum(IMAGES[i], i).SerializeToString()) for i in range(7)]
    leveldb_of(tmp_path / "a b/c_leveldb", records)
    text = data(1).replace("backend: LMDB ", "").replace('"lmdb"', '"a b/c_leveldb"')
    *_, command, _, fields = error_of(text, tmp_path).split("\n")
    _, *arguments = shlex.split(command)
    subprocess.run([sys.executable, "-m", "caffesplit", *arguments], cwd=tmp_path, check=True)

    text = data(7).replace('source: "lmdb" backend: LMDB', fields)
    np.testing.assert_array_equal(opened(text, tmp_path).next()["data"], IMAGES)


def test_a_layer_that_reads_an_lmdb_as_a_leveldb_is_told_its_backend(root):
    message = error_of(data(1).replace("backend: LMDB ", ""), root)
    assert (
        "reads a LevelDB, by default, and its source is an LMDB, expected backend: LMDB" in message
    )
    assert message.endswith("\nWrite that into its data_param.")


def test_a_leveldb_that_is_not_there_is_told_like_an_lmdb(tmp_path):
    text = data(1)
    expected = error_of(text, tmp_path)
    assert expected.startswith(f"{tmp_path}/lmdb: no such folder, expected an LMDB\n")
    assert error_of(text.replace("backend: LMDB ", ""), tmp_path) == expected


def test_missing_and_damaged_sources_are_named(tmp_path):
    assert error_of(data(1), tmp_path).startswith(f"{tmp_path}/lmdb: no such folder, expected")
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb/data.mdb").write_bytes(b"x" * 9000)
    assert "expected LMDB's 0xbeefc0de" in error_of(data(1), tmp_path)
    assert error_of(images_layer(), tmp_path) == (
        f"{tmp_path}/list.txt: the list of images cannot be read (No such file or directory), "
        "expected a text file\nCorrect `source` in the layer's image_data_param."
    )
    (tmp_path / "list.txt").write_text("a.png 1\nb.png\n")
    assert error_of(images_layer(), tmp_path) == (
        f"{tmp_path}/list.txt:2: a line 'b.png', expected a file's name, a space and a label, "
        "which is a number"
    )


def test_an_image_that_is_not_there_is_named_with_its_line_and_the_root_folder(tmp_path):
    (tmp_path / "png").mkdir()
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "png/here.png")
    (tmp_path / "list.txt").write_text("here.png 0\ngone.png 1\n")
    assert error_of(images_layer('root_folder: "png/"'), tmp_path) == (
        f"{tmp_path}/list.txt:2: no image {tmp_path}/png/gone.png, expected a file there: "
        'root_folder, which is "png/", and the line\'s name\n'
        "Correct the line, or root_folder in layer 'data'."
    )
    (tmp_path / "list.txt").write_text("here.png 0\n 1\n")  # The folder itself.
    assert f"list.txt:2: no image {tmp_path}/png, expected" in error_of(
        images_layer('root_folder: "png/"'), tmp_path
    )


def test_an_image_that_cannot_be_decoded_is_named_with_its_line_or_record(tmp_path):
    (tmp_path / "list.txt").write_text("a.png 1\n")
    (tmp_path / "a.png").write_bytes(b"no image")
    unknown = "cannot be decoded (of no format that Pillow knows), expected a picture"
    assert error_of(images_layer(), tmp_path) == (
        f"{tmp_path}/list.txt:1: the image {tmp_path}/a.png {unknown}\n"
        "Replace the file, or leave the line out."
    )
    datum = schema.message_class("Datum")(data=b"no image", encoded=True)
    database.write(tmp_path / "lmdb", [(b"0001", datum)])
    assert error_of(data(1), tmp_path) == (
        f"{tmp_path}/lmdb: record '0001': the image {unknown}\n"
        "The record is damaged: write the database anew."
    )
    Image.fromarray(IMAGES[0].transpose(1, 2, 0)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-30])
    assert f"list.txt:1: the image {tmp_path}/a.png cannot be decoded (" in error_of(
        images_layer(), tmp_path
    )


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "colour.png"])
def test_an_encoded_image_of_16_bits_is_refused_where_it_is_taken_as_it_is_stored(tmp_path, name):
    grey = np.uint16([[0x1234, 0xFFFF]])
    if name == "colour.png":
        encoded = png_of_16_bits(np.stack([grey] * 3, -1))
    else:
        Image.fromarray(grey).save(tmp_path / name)
        encoded = (tmp_path / name).read_bytes()
    datum = schema.message_class("Datum")(data=encoded, encoded=True)
    database.write(tmp_path / "lmdb", [(b"0001", datum)])
    assert error_of(data(1), tmp_path) == (
        f"{tmp_path}/lmdb: record '0001': the image has 16 bits in each value, expected 8, where "
        "it is taken as it is stored\n"
        "Write force_color: true or force_gray: true into the layer's transform_param, which "
        "keeps the upper 8 bits."
    )
    forced = opened(data(1, "transform_param { force_color: true }"), tmp_path).next()["data"]
    assert forced.tolist() == [[[[0x12, 0xFF]]] * 3]


def png_of_16_bits(pixels):
    """A PNG of colours (H, W, 3), which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def test_an_image_of_more_pixels_than_memory_is_for_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_data_images, "MAX_PIXELS", 29)
    Image.fromarray(IMAGES[0].transpose(1, 2, 0)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png 1\n")
    assert error_of(images_layer(), tmp_path) == (
        f"{tmp_path}/list.txt:1: the image {tmp_path}/a.png has 5×6 pixels, expected at most 29\n"
        "Make it smaller, or leave it out."
    )


def test_hdf5_files_that_lack_what_the_layer_asks_for_are_named(rows, tmp_path):
    text = hdf5_layer("one").replace('top: "x"', 'top: "y"')
    assert error_of(text, rows) == (
        f'{rows}/b.h5: no dataset "y" with rows of numbers, '
        "expected one for each top of the layer; the file holds label, x"
    )
    (tmp_path / "none.h5").write_bytes(b"no HDF5")
    (tmp_path / "one.txt").write_text("none.h5")
    message = error_of(hdf5_layer("one"), tmp_path)
    assert f"{tmp_path}/none.h5: the HDF5 library cannot read the file (" in message
    assert message.endswith("), expected an HDF5 file\nWrite it anew, or leave it out of the list.")
    (tmp_path / "one.txt").write_text("")
    assert error_of(hdf5_layer("one"), tmp_path).startswith(f"{tmp_path}/one.txt: an empty list")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"], file["label"] = np.zeros((3, 2)), np.zeros(4)
    (tmp_path / "one.txt").write_text("b.h5")
    assert error_of(hdf5_layer("one"), tmp_path) == (
        f"{tmp_path}/b.h5: rows: 3 in x, 4 in label, expected as many in each, and one at least"
    )


def test_an_hdf5_file_that_is_not_there_is_named_with_its_line(rows):
    (rows / "lists").mkdir()
    (rows / "lists/some.txt").write_text("a.h5 b.h5\n\n  gone.h5\n")
    assert error_of(hdf5_layer("lists/some"), rows) == (
        f"{rows}/lists/some.txt:3: no file {rows}/gone.h5, expected an HDF5 file there\n"
        f"Correct the line; names in it start from {rows}, not from the list's folder."
    )
    assert error_of(hdf5_layer("none"), rows) == (
        f"{rows}/none.txt: the list of HDF5 files cannot be read (No such file or directory), "
        "expected a text file\nCorrect `source` in the layer's hdf5_data_param."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (data(0), "layer 'data' with batch_size 0, expected 1 or more"),
        (data(2**31), "expected no size below 0 and at most 2,147,483,647 values"),
        (
            data(1, "transform_param { crop_size: 6 }"),
            "layer 'data' crops 6×6 from an image of 6×5, expected a crop_size that fits into "
            "every image",
        ),
        (
            data(1, "transform_param { mean_value: 1 mean_value: 2 }"),
            "layer 'data' with 2 mean_value for images of 3 channels, expected one for all, or "
            "one for each",
        ),
        (
            data(1, 'transform_param { mean_value: 1 mean_file: "mean.binaryproto" }'),
            "layer 'data' with mean_file and mean_value, expected one of them",
        ),
        (
            data(1, "transform_param { force_gray: true force_color: true }"),
            "layer 'data' with force_color and force_gray, expected one of them",
        ),
        (images_layer("new_height: 3"), "with one of new_height and new_width, expected both"),
        (
            'type: "HDF5Data" top: "x" transform_param { scale: 2 }',
            "layer 'data' with transform_param, expected none: HDF5Data does not transform",
        ),
        (
            'type: "MemoryData" top: "x" top: "y"',
            "layer 'data' of type MemoryData, which only a program can feed, expected Data, "
            "ImageData, HDF5Data or DummyData",
        ),
        (
            'type: "DummyData" top: "a" top: "b" top: "c" dummy_data_param { shape { dim: 1 } '
            "data_filler { } data_filler { } }",
            "layer 'data' with 2 data_filler for 3 tops, expected none, one for all, or one",
        ),
    ],
)
def test_layers_that_contradict_themselves_are_refused(root, text, message):
    assert message in error_of(text, root)


def test_a_mean_of_other_images_is_refused(root, tmp_path):
    (tmp_path / "lmdb").symlink_to(root / "lmdb")
    with (tmp_path / "mean.binaryproto").open("wb") as file:
        BlobBytes(np.zeros((1, 3, 5, 5), np.float32)).write(file)
    text = data(1, 'transform_param { mean_file: "mean.binaryproto" }')
    assert error_of(text, tmp_path) == (
        "mean.binaryproto: a mean of shape (3, 5, 5) for images of (3, 6, 5), expected the same "
        "shape; the mean is taken off before the crop\n"
        "Compute it from these images: compute_image_mean."
    )
    (tmp_path / "mean.binaryproto").write_bytes(b"\x08\x01\x12\xff")
    assert error_of(text, tmp_path).startswith(f"{tmp_path}/mean.binaryproto: byte ")
