from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
import torch
from data_layers import (
    IMAGES,
    data,
    error_of,
    hdf5_layer,
    images_layer,
    layer,
    opened,
    write_images,
    write_rows,
)
from PIL import Image

from caffesplit.engines.caffe_random import Random, endless
from caffesplit.engines.torch_data import Share
from caffesplit.engines.torch_prefetch import AT_ONCE, SMALL, Prefetch
from caffesplit.errors import DatabaseError
from caffesplit.formats import database, schema


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


# The order of items


def test_batches_follow_each_other_and_start_over_in_the_middle_of_one(root):
    found = opened(data(3), root)
    assert found.shapes == {"data": (3, 3, 6, 5), "label": (3,)}
    labels = [found.next()["label"].tolist() for _ in range(5)]
    assert labels == [[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4], [5, 6, 0]]
    batch = opened(data(7), root).next()
    assert batch["data"].dtype == batch["label"].dtype == torch.float32
    np.testing.assert_array_equal(batch["data"], IMAGES)


def test_processes_take_turns_and_tests_are_for_the_first_alone(root):
    shares = [opened(data(2), root, share=Share(rank, 2)) for rank in range(2)]
    taken = [[each.next()["label"].tolist() for _ in range(4)] for each in shares]
    assert taken == [[[0, 2], [4, 6], [1, 3], [5, 0]], [[1, 3], [5, 0], [2, 4], [6, 1]]]
    alone = opened(data(2), root, "TEST", share=Share(1, 2))
    assert alone.next()["label"].tolist() == [0, 1]


def test_a_top_without_labels_is_a_batch_of_images_alone(root):
    found = opened(data(2).replace('top: "label"', ""), root)
    assert found.next().keys() == found.shapes.keys() == {"data"}


@pytest.mark.parametrize("size", [3, 500])
def test_prefetched_batches_are_the_same_ones_small_or_large(root, size):
    plain = opened(data(size), root)
    prefetched = Prefetch(opened(data(size), root), 4, torch.device("cpu"))
    for _ in range(2 * AT_ONCE):
        assert plain.next()["label"].equal(prefetched.next()["label"])
    prefetched.close()


def test_an_error_on_the_thread_is_raised_where_its_batch_is_asked_for(root):
    class Broken:
        shapes = {"data": (SMALL + 1,)}  # noqa: RUF012

        def next(self):
            raise DatabaseError("a damaged record")

    prefetched = Prefetch(Broken(), 2, torch.device("cpu"))
    with pytest.raises(DatabaseError):
        prefetched.next()
    prefetched.close()


def test_float_data_is_read_like_bytes(tmp_path):
    values = np.float32([[[0.5, -3]]])
    database.write(tmp_path / "lmdb", [(database.key(0), database.datum(values, 9))])
    batch = opened(data(1), tmp_path).next()
    assert batch["data"].tolist() == [[[[0.5, -3]]]]
    assert batch["label"].tolist() == [9]


# The transform, beside Caffe's

FORWARD = """
import json, sys
import caffe
import numpy as np
for number, (path, phase, seed, passes) in enumerate(json.load(sys.stdin)):
    caffe.set_random_seed(seed)
    net = caffe.Net(path, caffe.TRAIN if phase == "TRAIN" else caffe.TEST)
    found = []
    for _ in range(passes):
        net.forward()
        found.append(dict((name, blob.data.copy()) for name, blob in net.blobs.items()))
    for name in found[0]:
        np.save("%d_%s.npy" % (number, name), np.stack([each[name] for each in found]))
"""


def caffes_batches(python, root, asked, passes=3):
    """For each layer's text, phase and seed: blob name → what Caffe gives, pass by pass."""
    jobs = []
    for number, (text, phase, seed) in enumerate(asked):
        path = root / f"net{number}.prototxt"
        path.write_text(f'layer {{ name: "data" {text} }}')
        jobs.append((str(path), phase, seed, passes))
    environment = os.environ | {"GLOG_minloglevel": "2"}
    subprocess.run(
        [python, "-c", FORWARD], input=json.dumps(jobs), text=True, cwd=root, check=True,
        env=environment,
    )  # fmt: skip
    tops = [layer(text).tops for text, _, _ in asked]
    return [
        {top: np.load(root / f"{number}_{top}.npy") for top in each}
        for number, each in enumerate(tops)
    ]


TRANSFORMS = (
    "scale: 0.00390625",
    "mean_value: 100 scale: 0.5",
    "mean_value: 90 mean_value: 100 mean_value: 110",
    'mean_file: "mean.binaryproto" scale: 0.1',
    "crop_size: 4",
    "mirror: true",
    'crop_size: 3 mirror: true mean_file: "mean.binaryproto" scale: 2',
    "crop_size: 5 mirror: true mean_value: 1 mean_value: 2 mean_value: 3",
)


def test_every_transform_gives_caffes_own_values_its_random_crops_and_mirrors_among_them(
    python_caffe, root
):
    asked = [
        (data(3, f"transform_param {{ {transform} }}"), phase, seed)
        for transform in TRANSFORMS
        for phase in ("TRAIN", "TEST")
        for seed in (1, 5)
    ]
    for (text, phase, seed), theirs in zip(
        asked, caffes_batches(python_caffe, root, asked), strict=True
    ):
        ours = opened(text, root, phase, seed)
        for number in range(3):
            batch = ours.next()
            for top, values in theirs.items():
                np.testing.assert_allclose(batch[top], values[number], rtol=1e-6, atol=1e-5)


def test_image_data_is_decoded_shuffled_and_skipped_as_caffe_does_it(python_caffe, root):
    texts = [
        images_layer(transform="crop_size: 4 mirror: true"),
        images_layer("shuffle: true", "mirror: true"),
        images_layer("shuffle: true rand_skip: 5"),
        images_layer("is_color: false"),
        images_layer("new_height: 9 new_width: 4"),
    ]
    asked = [(text, "TRAIN", 3) for text in texts]
    for text, theirs in zip(texts, caffes_batches(python_caffe, root, asked), strict=True):
        ours = opened(text, root, "TRAIN", 3)
        # OpenCV rounds grey and interpolated values its own way.
        tolerance = 1.01 if "false" in text or "new_" in text else 0
        for number in range(3):
            batch = ours.next()
            np.testing.assert_array_equal(batch["label"], theirs["label"][number])
            np.testing.assert_allclose(
                batch["data"], theirs["data"][number], rtol=0, atol=tolerance
            )


def test_encoded_images_are_decoded(python_caffe, root, tmp_path):
    def records():
        for number in range(3):
            encoded = (root / f"image {number}.png").read_bytes()
            yield (
                database.key(number),
                schema.message_class("Datum")(data=encoded, encoded=True, label=number),
            )

    database.write(tmp_path / "lmdb", records())
    texts = [data(3), data(3, "transform_param { force_color: true }")]
    theirs = caffes_batches(python_caffe, tmp_path, [(text, "TEST", 0) for text in texts], 1)
    for text, caffes in zip(texts, theirs, strict=True):
        batch = opened(text, tmp_path, "TEST").next()
        np.testing.assert_array_equal(batch["data"], caffes["data"][0])
        np.testing.assert_array_equal(batch["data"], IMAGES[:3])
    grey = opened(data(3, "transform_param { force_gray: true }"), tmp_path).next()
    assert grey["data"].shape == (3, 1, 6, 5)


def write_corners(root):
    """A PNG of 16 bits, and a JPEG and a PNG whose EXIF orientation is a quarter turn."""
    values = np.random.default_rng(3).integers(0, 2**16, (8, 8), dtype=np.uint16)
    Image.fromarray(values).save(root / "deep.png")
    turned = Image.Exif()
    turned[0x112] = 6
    for name in ("turned.jpg", "turned.png"):
        Image.fromarray((values >> 8).astype(np.uint8)).save(root / name, exif=turned)
    return ("turned.jpg", "turned.png", "deep.png")


def test_listed_images_of_16_bits_or_turned_by_exif_are_read_as_by_caffe(python_caffe, tmp_path):
    names = write_corners(tmp_path)
    (tmp_path / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
    texts = [images_layer(f"is_color: {color}") for color in ("true", "false")]
    theirs = caffes_batches(python_caffe, tmp_path, [(text, "TEST", 0) for text in texts], 1)
    for text, caffes in zip(texts, theirs, strict=True):
        batch = opened(text, tmp_path, "TEST").next()
        np.testing.assert_array_equal(batch["data"], caffes["data"][0])


def write_encoded(root, *names):
    message = schema.message_class("Datum")
    records = (message(data=(root / name).read_bytes(), encoded=True) for name in names)
    database.write(root / "lmdb", ((database.key(i), each) for i, each in enumerate(records)))


@pytest.mark.parametrize("force", ["force_color: true", "force_gray: true", ""])
def test_encoded_images_of_16_bits_or_turned_by_exif_are_read_as_by_caffe(
    python_caffe, tmp_path, force
):
    *turned, deep = write_corners(tmp_path)
    write_encoded(tmp_path, *turned, *([deep] if force else []))
    text = data(2, f"transform_param {{ {force} }}")
    (caffes,) = caffes_batches(python_caffe, tmp_path, [(text, "TEST", 0)])
    ours = opened(text, tmp_path, "TEST")
    for values in caffes["data"]:
        np.testing.assert_array_equal(ours.next()["data"], values)


def test_an_encoded_image_is_turned_upright_only_where_its_colours_are_forced(tmp_path):
    write_corners(tmp_path)
    write_encoded(tmp_path, "turned.jpg")
    stored = opened(data(1), tmp_path).next()["data"]
    for force in ("force_color", "force_gray"):
        upright = opened(data(1, f"transform_param {{ {force}: true }}"), tmp_path).next()["data"]
        assert upright[0, 0].equal(stored[0, 0].rot90(-1))


def test_images_of_several_sizes_share_a_batch_if_they_are_cropped(root, tmp_path):
    sizes = ((4, 6), (5, 4))
    for number, (height, width) in enumerate(sizes):
        pixels = np.full((height, width, 3), number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "list.txt").write_text("0.png 0\n1.png 1\n")
    batch = opened(images_layer(transform="crop_size: 4"), tmp_path).next()
    assert batch["data"].shape == (3, 3, 4, 4)
    assert batch["data"].mean((1, 2, 3)).tolist() == [0, 1, 0]
    message = error_of(images_layer(), tmp_path)
    assert (
        "layer 'data': an image of shape (3, 5, 4), expected one that gives (3, 4, 6), as the "
        "batch's first does\n" in message
    )
    assert message.endswith(
        "\nGive the layer a crop_size or new_height and new_width, or a batch_size of 1."
    )


@pytest.mark.parametrize("color", ["true", "false"])
@pytest.mark.parametrize("size", ["", "new_height: 9 new_width: 4"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P with transparency"])
def test_an_image_of_any_kind_is_read_without_a_warning(tmp_path, mode, size, color):
    kind, *transparent = mode.split(" ", 1)
    picture = Image.fromarray(IMAGES[0].transpose(1, 2, 0)).convert(kind)
    picture.save(tmp_path / "a.png", **({"transparency": bytes(range(30))} if transparent else {}))
    (tmp_path / "list.txt").write_text("a.png 0\n")
    # torch gives a warning once in a process, and pytest sees it only if no earlier test did.
    torch.set_warn_always(True)
    try:
        batch = opened(images_layer(f"is_color: {color} {size}"), tmp_path).next()
    finally:
        torch.set_warn_always(False)
    assert batch["data"].shape == (3, 3 if color == "true" else 1, *((9, 4) if size else (6, 5)))


# The other sources


def test_hdf5_rows_run_from_file_to_file_as_in_caffe(python_caffe, rows):
    texts = [hdf5_layer("both"), hdf5_layer("one")]
    theirs = caffes_batches(python_caffe, rows, [(text, "TRAIN", 0) for text in texts])
    for text, caffes in zip(texts, theirs, strict=True):
        ours = opened(text, rows)
        for number in range(3):
            batch = ours.next()
            for top in ("x", "label"):
                np.testing.assert_array_equal(batch[top], caffes[top][number])


def test_shuffled_hdf5_rows_all_come_once_a_round(rows):
    ours = opened(hdf5_layer("both", "shuffle: true").replace("size: 5", "size: 7"), rows)
    rounds = [ours.next()["label"].tolist() for _ in range(4)]
    assert [sorted(each) for each in rounds] == [list(range(7))] * 4
    assert len({tuple(each) for each in rounds}) > 1


def test_dummy_data_fills_constants_once_and_the_rest_every_time(tmp_path):
    text = (
        'type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 2 dim: 3 } '
        'shape { dim: 4 } data_filler { value: 7 } data_filler { type: "gaussian" } }'
    )
    ours = opened(text, tmp_path)
    assert ours.shapes == {"a": (2, 3), "b": (4,)}
    one, other = ours.next(), ours.next()
    assert one["a"].tolist() == [[7, 7, 7], [7, 7, 7]]
    assert one["a"] is other["a"]
    assert not one["b"].equal(other["b"])
    plain = opened(
        'type: "DummyData" top: "a" dummy_data_param { num: 2 channels: 1 height: 1 width: 2 }',
        tmp_path,
    )
    assert plain.next()["a"].tolist() == [[[[0, 0]]], [[[0, 0]]]]


# Random numbers


def test_random_numbers_are_those_of_the_mersenne_twister_as_boost_seeds_it():
    # Its 10,000th number, by which implementations are checked (C++ standard, [rand.predef]).
    assert Random(5489).draws(10000)[-1] == 4123659995


def test_a_round_without_an_order_is_the_list_itself():
    items = endless([1, 2, 3], None, start=1)
    assert [next(items) for _ in range(5)] == [2, 3, 1, 2, 3]
