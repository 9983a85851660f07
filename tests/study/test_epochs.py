import numpy as np
import pytest

from caffesplit.errors import NetError
from caffesplit.experiment import load
from caffesplit.formats import database
from caffesplit.study import epochs

DATA = 'type: "Data" data_param { source: "lmdb" batch_size: 4 backend: LMDB }'
LIST = 'type: "ImageData" image_data_param { source: "list.txt" batch_size: 5 }'
HDF5 = 'type: "HDF5Data" hdf5_data_param { source: "list.txt" batch_size: 5 }'
INPUT = 'type: "Input" input_param { shape { dim: [4, 1, 2, 2] } }'
REMEDY = "Give the number of training images, --epoch-size N, or draw over iterations."


def experiment(folder, data, solver=""):
    (folder / "solver.prototxt").write_text(f'net: "net.prototxt" {solver}')
    (folder / "net.prototxt").write_text(f'layer {{ name: "data" top: "data" {data} }}')
    return load(folder)


def write_images(folder, number):
    datum = database.datum(np.zeros((1, 2, 2), np.uint8), 0)
    database.write(folder / "lmdb", ((database.key(place), datum) for place in range(number)))


def refusal(tmp_path, data, images=None):
    with pytest.raises(NetError) as caught:
        epochs.iterations(experiment(tmp_path, data), images)
    return str(caught.value)


def test_an_epoch_is_the_training_set_over_the_batch(tmp_path):
    write_images(tmp_path, 10)
    assert epochs.iterations(experiment(tmp_path, DATA)) == 10 / 4


def test_an_iteration_may_see_several_batches(tmp_path):
    write_images(tmp_path, 24)
    assert epochs.iterations(experiment(tmp_path, DATA, "iter_size: 3")) == 2


def test_a_list_of_images_is_counted_by_its_lines(tmp_path):
    (tmp_path / "list.txt").write_text("a.png 0\nb.png 1\n\nc.png 0\n")
    assert epochs.iterations(experiment(tmp_path, LIST)) == 3 / 5


def test_the_number_of_images_can_be_given(tmp_path):
    assert epochs.iterations(experiment(tmp_path, HDF5), 100) == 20
    assert epochs.iterations(experiment(tmp_path, DATA), 100) == 25


def test_the_data_of_the_test_net_does_not_count(tmp_path):
    write_images(tmp_path, 8)
    test = DATA.replace("batch_size: 4", "batch_size: 1") + " include { phase: TEST } }"
    train = f'layer {{ name: "train" top: "data" {DATA} include {{ phase: TRAIN }}'
    assert epochs.iterations(experiment(tmp_path, f"{test} {train}")) == 2


def test_a_training_set_that_is_not_there_is_said(tmp_path):
    message = refusal(tmp_path, DATA)
    assert message.startswith(f"{tmp_path}/lmdb: the training set cannot be counted: ")
    assert message.endswith(f"expected an LMDB\n{REMEDY}")
    assert refusal(tmp_path, LIST) == (
        f"{tmp_path}/list.txt: the training set cannot be counted: no such file, "
        f"expected a list of images\n{REMEDY}"
    )


def test_a_training_set_of_any_size_is_counted_by_its_first_pages(tmp_path):
    write_images(tmp_path, 3000)
    data = tmp_path / "lmdb/data.mdb"
    with data.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(bytes(data.stat().st_size - 2 * 4096))
    assert epochs.iterations(experiment(tmp_path, DATA)) == 750


def test_an_empty_training_set_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("\n")
    assert refusal(tmp_path, LIST).startswith("data: the training set is empty, expected images")


def test_data_that_does_not_tell_its_size_is_named(tmp_path):
    assert refusal(tmp_path, HDF5) == (
        f'{tmp_path}/net.prototxt: layer "data" of type HDF5Data does not tell how many images it '
        f"reads, expected a Data layer with an LMDB, or an ImageData layer\n{REMEDY}"
    )


def test_without_a_batch_there_is_no_epoch(tmp_path):
    assert refusal(tmp_path, INPUT, 100) == (
        f"{tmp_path}/net.prototxt: no layer says how many images make a batch, expected a "
        "batch_size in a layer of type Data, ImageData, HDF5Data, WindowData, MemoryData\n"
        "Draw over iterations: --x iteration."
    )
