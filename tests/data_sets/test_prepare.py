from __future__ import annotations

import re
import subprocess
from pathlib import Path

import cifar_files
import numpy as np
import pytest
from cifar_files import SMALL10

from caffesplit.data import cifar, digits, images, whitened
from caffesplit.data.prepare import Preparation
from caffesplit.errors import DatabaseError, OutputError
from caffesplit.formats import database, schema


def pixels(folder: Path) -> np.ndarray:
    return np.stack([database.pixels(datum) for _, datum in database.read(folder)])


def labels(folder: Path) -> list[tuple[bytes, int]]:
    return [(key, datum.label) for key, datum in database.read(folder)]


def lmdb(folder: Path, values: np.ndarray) -> Path:
    database.write(
        folder, ((database.key(i), database.datum(v, i % 10)) for i, v in enumerate(values))
    )
    return folder


def random_images(count: int, shape=(2, 5, 6), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def covariance_of(folder: Path) -> np.ndarray:
    """What the float_data in the database have, in float64."""
    return np.cov(pixels(folder).reshape(database.count(folder), -1).astype(float).T, bias=True)


@pytest.mark.parametrize("gcn", [True, False])
def test_whitened_training_images_in_the_database_have_identity_covariance(tmp_path, gcn):
    """But for epsilon, and for the direction that contrast normalisation has no variance in."""
    source = lmdb(tmp_path / "raw_train_lmdb", random_images(3000))

    written = whitened.write([source], tmp_path / "out", Preparation(gcn, True, 1e-6))

    (train,) = written.databases
    expected = np.eye(60) - gcn / 60
    # The float32 of the database, and 1e-6 against variances of more than 1.
    np.testing.assert_allclose(covariance_of(train), expected, atol=1e-5)


def test_digits_have_the_covariance_that_the_standard_epsilon_leaves(tmp_path):
    raw = digits.write(tmp_path / "raw", 797)
    out = digits.write(tmp_path / "out", 797, preparation=Preparation(gcn=True, zca=True))

    values = pixels(raw.databases[0]).reshape(797, 64).astype(float)
    values -= values.mean(axis=1, keepdims=True)
    values *= 55 / np.linalg.norm(values, axis=1, keepdims=True)
    variances, axes = np.linalg.eigh(np.cov(values.T, bias=True))
    variances = np.maximum(variances, 0)
    expected = axes @ np.diag(variances / (variances + 0.1)) @ axes.T
    np.testing.assert_allclose(covariance_of(out.databases[0]), expected, atol=1e-5)


def test_test_images_are_whitened_by_what_was_fitted_to_the_training_images(tmp_path):
    raw = digits.write(tmp_path / "raw")

    out = digits.write(tmp_path / "out", preparation=Preparation(zca=True, epsilon=0.5))

    assert out.whitening is not None
    with np.load(out.whitening) as saved:
        mean, matrix, epsilon = saved["mean"], saved["matrix"], saved["epsilon"]
    assert epsilon == 0.5
    np.testing.assert_allclose(mean, pixels(raw.databases[0]).reshape(500, 64).mean(axis=0))
    for before, after in zip(raw.databases, out.databases, strict=True):
        values = pixels(before).reshape(-1, 64).astype(float)
        np.testing.assert_allclose(
            pixels(after).reshape(-1, 64), (values - mean) @ matrix, rtol=1e-4, atol=1e-4
        )
        assert labels(after) == labels(before)


@pytest.mark.parametrize("zca", [True, False])
def test_padding_surrounds_the_prepared_images_with_zeros(tmp_path, zca):
    source = lmdb(tmp_path / "raw_lmdb", random_images(50))
    bare, padded = (
        pixels(
            whitened.write([source], tmp_path / str(pad), Preparation(zca=zca, pad=pad)).databases[
                0
            ]
        )
        for pad in (0, 3)
    )

    assert padded.shape == (50, 2, 11, 12)
    assert padded.dtype == (np.float32 if zca else np.uint8)
    np.testing.assert_array_equal(padded[:, :, 3:-3, 3:-3], bare)
    assert np.count_nonzero(padded) == np.count_nonzero(bare)


def caffes_mean(caffe: Path, folder: Path, target: Path) -> bytes:
    program = caffe.with_name("compute_image_mean")
    subprocess.run([program, folder, target], check=True, capture_output=True)
    return target.read_bytes()


def test_the_mean_of_bytes_is_that_of_compute_image_mean_to_the_byte(caffe, tmp_path):
    written = digits.write(tmp_path, preparation=Preparation(pad=2))
    assert written.mean.read_bytes() == caffes_mean(
        caffe, written.databases[0], tmp_path / "caffes"
    )


def test_the_mean_of_floats_is_that_of_compute_image_mean_but_for_rounding(caffe, tmp_path):
    written = digits.write(tmp_path, preparation=Preparation(gcn=True))
    blob = schema.message_class("BlobProto")
    found = blob.FromString(written.mean.read_bytes())
    expected = blob.FromString(caffes_mean(caffe, written.databases[0], tmp_path / "caffes"))
    np.testing.assert_allclose(found.data, expected.data, atol=1e-4)
    assert (found.num, found.channels, found.height, found.width) == (1, 1, 8, 8)


NET = """
name: "tiny"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { mean_file: "%(mean)s" crop_size: 32 mirror: true }
  data_param { source: "%(source)s" batch_size: 20 backend: LMDB } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 10 weight_filler { type: "gaussian" std: 0.00001 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""

SOLVER = """
net: "net.prototxt" base_lr: 0.00001 lr_policy: "fixed" max_iter: 8 display: 1
snapshot: 0 snapshot_after_train: false solver_mode: CPU
"""


@pytest.mark.parametrize("preparation", [Preparation(), Preparation(gcn=True, pad=4)])
def test_caffe_trains_on_what_is_written(caffe, tmp_path, preparation):
    source = cifar_files.in_folder(tmp_path / "files", cifar_files.contents(SMALL10))
    written = cifar.write(SMALL10, source, tmp_path / "out", preparation)
    values = {"mean": written.mean, "source": written.databases[0]}
    (tmp_path / "net.prototxt").write_text(NET % values)
    (tmp_path / "solver.prototxt").write_text(SOLVER)

    done = subprocess.run(
        [caffe, "train", "--solver=solver.prototxt"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    losses = re.findall(r"Iteration \d+ \(.*\), loss = ([\d.]+)", done.stderr)
    assert len(losses) == 8
    assert float(losses[0]) == pytest.approx(np.log(10), abs=0.5)


# LMDBs as sources


def test_every_source_keeps_its_name_its_keys_and_its_labels(tmp_path):
    sources = [
        lmdb(tmp_path / f"sets_{part}_lmdb", random_images(count, seed=count))
        for part, count in (("train", 700), ("test", 30), ("more", 501))
    ]

    written = whitened.write(sources, tmp_path / "out", Preparation(zca=True))

    assert [path.name for path in written.databases] == [path.name for path in sources]
    assert written.mean.name == "sets_mean.binaryproto"
    assert written.whitening == tmp_path / "out/sets_zca.npz"
    for before, after in zip(sources, written.databases, strict=True):
        assert labels(after) == labels(before)


def error_of(*sources: Path, out: Path) -> str:
    with pytest.raises((DatabaseError, OutputError)) as caught:
        whitened.write(sources, out, Preparation(zca=True))
    return str(caught.value)


def test_sources_of_other_sizes_are_refused(tmp_path):
    train = lmdb(tmp_path / "a_lmdb", random_images(3))
    test = lmdb(tmp_path / "b_lmdb", random_images(3, (2, 6, 5)))
    assert error_of(train, test, out=tmp_path / "out") == (
        f"{test}: images of shape (2, 6, 5), expected (2, 5, 6), as in {train}\n"
        "What is fitted to one size of images fits no other."
    )
    assert not (tmp_path / "out").exists()


def test_images_of_several_sizes_in_one_source_are_refused(tmp_path):
    database.write(
        tmp_path / "db",
        [
            (b"0", database.datum(np.zeros((1, 4, 2), np.uint8), 0)),
            (b"1", database.datum(np.zeros((1, 5, 2), np.uint8), 0)),
        ],
    )
    assert error_of(tmp_path / "db", out=tmp_path / "out") == (
        f"{tmp_path}/db: record '1' is of shape (1, 5, 2), expected (1, 4, 2), as the first one "
        "is\nWrite the database with convert_imageset's --resize_height and --resize_width."
    )


def test_encoded_images_are_refused(tmp_path):
    datum = schema.message_class("Datum")(encoded=True, data=b"\xff\xd8")
    database.write(tmp_path / "db", [(b"0", datum)])
    assert error_of(tmp_path / "db", out=tmp_path / "out") == (
        f"{tmp_path}/db: record '0' is an encoded image, expected pixels\n"
        "Write the database without convert_imageset's --encoded."
    )


def test_a_source_without_images_is_refused(tmp_path):
    database.write(tmp_path / "db", [])
    assert error_of(tmp_path / "db", out=tmp_path / "out") == (
        f"{tmp_path}/db: no images, expected some"
    )


def test_two_sources_of_one_name_are_refused(tmp_path):
    first, second = (lmdb(tmp_path / part / "db", random_images(3)) for part in "ab")
    assert error_of(first, second, out=tmp_path / "out") == (
        f"{second}: two databases of the name db, expected a name for each\nRename one of them."
    )


def test_a_source_is_never_overwritten(tmp_path):
    source = lmdb(tmp_path / "db", random_images(3))
    (tmp_path / "link").symlink_to(tmp_path)
    assert "the output is also an input" in error_of(source, out=tmp_path / "link")
    assert database.count(source) == 3


def test_images_too_large_to_be_whitened_leave_nothing(tmp_path):
    source = lmdb(tmp_path / "db", random_images(2, (3, 65, 64)))
    assert "images of 12,480 values" in error_of(source, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_ends_where_the_images_do(tmp_path):
    source = lmdb(tmp_path / "a_train_lmdb", random_images(1200))
    told: dict[str, list[tuple[int, int]]] = {}

    whitened.write(
        [source],
        tmp_path / "out",
        Preparation(zca=True),
        progress=lambda doing, *step: told.setdefault(doing, []).append(step),
    )

    assert list(told) == ["fitting the whitening", "writing a_train_lmdb"]
    for steps in told.values():
        assert steps == sorted(steps)
        assert steps[-1] == (1200, 1200)


def test_images_read_from_a_place_on_are_the_last_ones(tmp_path):
    values = random_images(20)
    for source in (
        images.from_arrays(values, np.arange(20)),
        images.from_lmdb(lmdb(tmp_path / "db", values)),
    ):
        for start in (0, 7, 19, 20):
            found = list(source.read(start))
            assert [key for key, _, _ in found] == [b"%08d" % i for i in range(start, 20)]
            assert all(map(np.array_equal, [image for _, image, _ in found], values[start:]))
