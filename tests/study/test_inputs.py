import numpy as np
import pytest
from click.testing import CliRunner

from caffesplit.cli.main import cli
from caffesplit.experiment import load
from caffesplit.formats import caffemodel, database
from caffesplit.formats.layers import LayerWeights
from caffesplit.study.inputs import image_shapes, too_large_crops, train_shapes

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ {transform} }}
        data_param {{ source: "{source}" batch_size: 4 backend: LMDB }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param {{ num_output: 2 kernel_size: 3 }} }}
"""
CONV = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 } }
"""
INPUT = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [1, 3, 7, 9] } } }
"""
DEPLOY = INPUT + CONV


def experiment(folder, source="lmdb", transform="", deploy=None):
    (folder / "solver.prototxt").write_text('net: "net.prototxt"')
    (folder / "net.prototxt").write_text(NET.format(source=source, transform=transform))
    if deploy:
        (folder / "deploy.prototxt").write_text(deploy)
    return load(folder)


def images(folder, encoded=False):
    datum = database.datum(np.zeros((3, 10, 12), np.uint8), 0)
    datum.encoded = encoded
    database.write(folder / "lmdb", [(database.key(0), datum)])


def test_the_first_image_of_the_database_tells_its_size(tmp_path):
    images(tmp_path)
    shapes = train_shapes(experiment(tmp_path, deploy=DEPLOY)).blobs
    assert shapes == {"data": (4, 3, 10, 12), "label": (4,), "conv": (4, 2, 8, 10)}


def test_a_crop_tells_all_but_the_channels(tmp_path):
    images(tmp_path)
    shapes = train_shapes(experiment(tmp_path, transform="crop_size: 8")).blobs
    assert shapes["data"] == (4, 3, 8, 8)


@pytest.mark.parametrize("deploy", [DEPLOY, 'input: "data" input_dim: [1, 3, 7, 9]' + CONV])
def test_without_a_database_the_deploy_nets_input_tells_it(tmp_path, deploy):
    shapes = train_shapes(experiment(tmp_path, deploy=deploy)).blobs
    assert shapes["data"] == (4, 3, 7, 9)
    assert shapes["conv"] == (4, 2, 5, 7)


def test_encoded_images_tell_nothing(tmp_path):
    images(tmp_path, encoded=True)
    assert "data" not in train_shapes(experiment(tmp_path)).blobs


@pytest.mark.parametrize("source", ["missing", "broken", "x" * 5000, "a\\000b"])
@pytest.mark.parametrize("deploy", [None, "layer { } ?", 'layer { type: "Input" top: "other" }'])
def test_where_nothing_tells_it_the_size_stays_unknown(tmp_path, source, deploy):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/data.mdb").write_bytes(b"no lmdb" * 100)
    shapes = train_shapes(experiment(tmp_path, source, deploy=deploy)).blobs
    assert shapes == {"label": (4,)}


def test_what_both_phases_read_is_known_but_for_the_batch(tmp_path):
    images(tmp_path)
    loaded = experiment(tmp_path)
    assert image_shapes(loaded, loaded.net) == {"data": (None, 3, 10, 12)}


def test_images_of_two_sizes_under_one_name_are_of_no_known_shape(tmp_path):
    images(tmp_path)
    rules = {"TRAIN": "crop_size: 8", "TEST": "crop_size: 6"}
    text = "".join(
        NET.format(source="lmdb", transform=transform).replace(
            'top: "label"', f'top: "label" include {{ phase: {phase} }}'
        )
        for phase, transform in rules.items()
    )
    (tmp_path / "both").mkdir()
    (tmp_path / "both/solver.prototxt").write_text('net: "net.prototxt"')
    (tmp_path / "both/net.prototxt").write_text(text)
    loaded = load(tmp_path / "both")
    assert image_shapes(loaded, loaded.net) == {}


def test_check_holds_weights_against_the_images_channels(tmp_path):
    images(tmp_path)
    experiment(tmp_path)
    kernels = np.zeros((2, 4, 3, 3), np.float32), np.zeros(2, np.float32)
    caffemodel.write(tmp_path / "w.caffemodel", [LayerWeights("conv", "Convolution", kernels)])
    arguments = ["check", str(tmp_path), "--weights", str(tmp_path / "w.caffemodel")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1
    assert "(2, 4, 3, 3), expected (2, 3, 3, 3)" in done.output


def crops(folder, **options):
    return [str(each) for each in too_large_crops(experiment(folder, **options))]


def test_a_crop_that_is_larger_than_an_image_is_an_error_told_once(tmp_path):
    images(tmp_path)
    message = (
        f"{tmp_path}/net.prototxt:2:1: error: layer 'data': crop_size 11, expected one that fits "
        "into the images of its source; the first is 10×12 [crop-size]"
    )
    assert crops(tmp_path, transform="crop_size: 11") == [message]
    assert message in CliRunner().invoke(cli, ["check", str(tmp_path)]).output
    assert crops(tmp_path, transform="crop_size: 10") == crops(tmp_path) == []


def test_nothing_is_said_of_a_crop_where_the_size_of_images_is_not_known(tmp_path):
    assert crops(tmp_path, source="gone", transform="crop_size: 99", deploy=DEPLOY) == []
    images(tmp_path, encoded=True)
    assert crops(tmp_path, transform="crop_size: 99") == []
