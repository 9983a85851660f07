"""Data that cannot be read, and layers that contradict themselves."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from data_layers import data, error_of, hdf5_layer, images_layer, write_images, write_rows

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


def test_a_leveldb_is_refused_with_the_command_that_converts(tmp_path, root):
    folder = tmp_path / "lmdb"
    folder.mkdir()
    (folder / "CURRENT").touch()
    text = data(1).replace("backend: LMDB ", "")
    message = error_of(text, tmp_path)
    assert "layer 'data' reads a LevelDB, expected backend: LMDB\n" in message
    assert message.endswith(
        "Write the images into an LMDB, name it in `source` and set `backend: LMDB`:\n"
        "    convert_imageset --backend=lmdb ROOT/ LIST lmdb_lmdb"
    )
    message = error_of(text, root)
    assert "reads a LevelDB, by default, and its source is an LMDB" in message


def test_missing_and_damaged_sources_are_named(tmp_path):
    assert error_of(data(1), tmp_path).startswith(f"{tmp_path}/lmdb: no such folder, expected")
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb/data.mdb").write_bytes(b"x" * 9000)
    assert "expected LMDB's 0xbeefc0de" in error_of(data(1), tmp_path)
    assert error_of(images_layer(), tmp_path) == (
        f"{tmp_path}/list.txt: the list of images cannot be read (No such file or directory), "
        "expected a text file"
    )
    (tmp_path / "list.txt").write_text("a.png 1\nb.png\n")
    assert error_of(images_layer(), tmp_path) == (
        f"{tmp_path}/list.txt:2: a line 'b.png', expected a file's name, a space and a label, "
        "which is a number"
    )
    (tmp_path / "list.txt").write_text("a.png 1\n")
    assert error_of(images_layer(), tmp_path).startswith(
        f"{tmp_path}/a.png: no such image, expected a file"
    )
    (tmp_path / "a.png").write_bytes(b"no image")
    assert "a.png: the image cannot be decoded (" in error_of(images_layer(), tmp_path)


def test_hdf5_files_that_lack_what_the_layer_asks_for_are_named(rows, tmp_path):
    text = hdf5_layer("one").replace('top: "x"', 'top: "y"')
    assert error_of(text, rows) == (
        f'{rows}/b.h5: no dataset "y" with rows of numbers, '
        "expected one for each top of the layer; the file holds label, x"
    )
    (tmp_path / "one.txt").write_text("none.h5")
    assert f"{tmp_path}/none.h5: the HDF5 library cannot read the file (" in error_of(
        hdf5_layer("one"), tmp_path
    )
    (tmp_path / "one.txt").write_text("")
    assert error_of(hdf5_layer("one"), tmp_path).startswith(f"{tmp_path}/one.txt: an empty list")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"], file["label"] = np.zeros((3, 2)), np.zeros(4)
    (tmp_path / "one.txt").write_text("b.h5")
    assert error_of(hdf5_layer("one"), tmp_path) == (
        f"{tmp_path}/b.h5: rows: 3 in x, 4 in label, expected as many in each, and one at least"
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
