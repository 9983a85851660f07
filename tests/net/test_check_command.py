"""`caffesplit check` as a user types it, on experiments whose parts are missing or at odds."""

import numpy as np
import pytest
from click.testing import CliRunner

from caffesplit.cli.main import cli
from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights

NET = """layer {{ name: "data" type: "Data" top: "data" loss_weight: 1 include {{ phase: TRAIN }}
  data_param {{ source: "{train}" }} }}
layer {{ name: "data" type: "Data" top: "data" include {{ phase: TEST }}
  transform_param {{ mean_file: "mean.binaryproto" }}
  data_param {{ source: "{test}" }} }}
"""
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" loss_weight: 1\n'
    "  convolution_param { num_output: 4 kernel_size: 3 } }\n"
)


SOLVER = 'base_lr: 0.1\nlr_policy: "fixed"\nmax_iter: 10\n'
TESTS = "test_iter: 1\ntest_interval: 5\n" + SOLVER


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt"\n' + SOLVER)
    (tmp_path / "mean.binaryproto").touch()
    (tmp_path / "here").mkdir()
    return tmp_path


def check(*arguments):
    done = CliRunner().invoke(cli, ["check", *map(str, arguments)])
    return done.exit_code, done.output


def test_data_that_does_not_exist_is_a_warning_in_every_phase(folder):
    (folder / "net.prototxt").write_text(NET.format(train="train_lmdb", test="test_lmdb"))
    net = folder / "net.prototxt"
    code, output = check(folder)
    assert code == 0
    assert output == (
        f'{net}:2:16: warning: source "train_lmdb" does not exist; expected {folder}/train_lmdb '
        "[present-sources]\n"
        f'{net}:5:16: warning: source "test_lmdb" does not exist; expected {folder}/test_lmdb '
        "[present-sources]\n"
        f"{folder}: 2 layers, 0 errors, 2 warnings\n"
    )


def test_data_that_exists_is_none_nor_are_the_sources_of_a_net_by_itself(folder):
    (folder / "net.prototxt").write_text(NET.format(train="here", test="here"))
    assert check(folder) == (0, f"{folder}: 2 layers, 0 errors, 0 warnings\n")
    net = folder / "net.prototxt"
    net.write_text(NET.format(train="gone", test="gone"))
    assert check(net) == (0, f"{net}: 2 layers, 0 errors, 0 warnings\n")


@pytest.mark.parametrize("path", ["x" * 5000, "a\\000b"])
def test_a_path_that_no_system_takes_does_not_exist(folder, path):
    (folder / "net.prototxt").write_text(NET.format(train=path, test="here"))
    code, output = check(folder)
    assert code == 0
    assert output.endswith(f"{folder}: 2 layers, 0 errors, 1 warning\n")


def test_one_error_is_an_error_and_breaches_not_shown_are_counted_too(folder):
    net = folder / "net.prototxt"
    net.write_text(CONV)
    code, output = check(net)
    assert code == 1
    assert output.endswith(f"{net}: 1 layer, 1 error, 0 warnings\n")
    net.write_text(CONV * 1200)
    assert "1,200 layers" in check(net)[1]
    assert f"error: and {1200 - 20:,} more [defined-bottoms]" in check(net)[1]


def test_a_layer_whose_record_in_the_file_is_empty_does_not_fit(folder):
    net, weights = folder / "net.prototxt", folder / "empty.caffemodel"
    net.write_text('layer { name: "data" type: "Input" top: "data" }\n' + CONV)
    bias = np.zeros(4, np.float32)
    caffemodel.write(weights, [LayerWeights("conv", "", ()), LayerWeights("old", "", (bias,))])
    code, output = check(net, "--weights", weights)
    assert code == 1
    assert output == (
        f"{net}:2:1: error: layer 'conv': 0 blobs in the weight file, expected 2 [fitting-shapes]\n"
        "warning: the weight file has layer 'old', the net has not; Caffe skips it [known-layers]\n"
        f"{net}: 2 layers, 1 error, 1 warning\n"
    )


def test_weights_without_a_layer_of_the_net_are_an_error(folder):
    net, weights = folder / "net.prototxt", folder / "other.caffemodel"
    net.write_text('layer { name: "data" type: "Input" top: "data" }\n' + CONV)
    caffemodel.write(weights, [LayerWeights("other", "", (np.zeros(4, np.float32),))])
    assert check(net, "--weights", weights) == (
        1,
        f"{net}: error: the weight file has no layer of the net, expected weights that belong to "
        "it; Caffe fills them all anew [present-weights]\n"
        "warning: the weight file has layer 'other', the net has not; Caffe skips it "
        "[known-layers]\n"
        f"{net}: 2 layers, 1 error, 1 warning\n",
    )


def test_a_solver_that_trains_nothing_or_that_caffe_refuses_is_an_error(folder):
    (folder / "net.prototxt").write_text(NET.format(train="here", test="here"))
    solver = folder / "solver.prototxt"
    solver.write_text(
        'net: "net.prototxt"\nbasee_lr: 0.1\nlr_policy: "fixd"\nmax_iter: 10\ntype: "Foo"\n'
    )
    assert check(folder) == (
        1,
        f"{solver}:2:1: warning: SolverParameter has no 'basee_lr' in BVLC Caffe; did you mean "
        "base_lr? [unknown-field]\n"
        f"{solver}:5:1: error: type 'Foo', expected one of SGD, Nesterov, AdaGrad, RMSProp, "
        "AdaDelta, Adam [solver-type]\n"
        f"{solver}: error: no base_lr, expected above 0; Caffe trains nothing [base-lr]\n"
        f"{solver}:3:1: error: lr_policy 'fixd', expected one of fixed, step, exp, inv, multistep, "
        "poly, sigmoid; did you mean fixed? [lr-policy]\n"
        f"{folder}: 2 layers, 3 errors, 1 warning\n",
    )


def test_all_nets_of_a_solver_are_checked_each_in_the_phases_it_serves_in(folder):
    data = 'layer { name: "data" type: "Input" top: "data" include { phase: TRAIN } }\n'
    (folder / "train.prototxt").write_text(data + CONV)
    (folder / "test.prototxt").write_text(data + CONV)
    solver = folder / "solver.prototxt"
    solver.write_text('train_net: "train.prototxt" test_net: "test.prototxt"\n' + TESTS)
    code, output = check(folder)
    assert code == 1
    assert output == (
        f"{folder}/test.prototxt:2:1: error: layer 'conv': bottom 'data' is no earlier layer's "
        "top, in phase TEST [defined-bottoms]\n"
        f"{folder}: 2 nets, 4 layers, 1 error, 0 warnings\n"
    )


def test_a_net_inside_the_solver_is_checked_there(folder):
    solver = folder / "solver.prototxt"
    solver.write_text(f"net_param {{\n{CONV}}}\n{SOLVER}")
    code, output = check(folder)
    assert code == 1
    assert output.startswith(f"{solver}:2:1: error: layer 'conv': bottom 'data' is no earlier")


def test_tests_that_the_solver_does_not_number_rightly_are_an_error(folder):
    data = 'layer { name: "data" type: "Input" top: "data" }\n'
    (folder / "net.prototxt").write_text(data + CONV)
    solver = folder / "solver.prototxt"
    solver.write_text(
        'train_net: "net.prototxt" test_net: "net.prototxt"\ntest_interval: 5\n' + SOLVER
    )
    assert check(folder) == (
        1,
        f"{solver}: error: 0 test_iter for 1 nets to test, expected one for each [tested-nets]\n"
        f"{folder}: 2 layers, 1 error, 0 warnings\n",
    )


def test_a_net_that_only_tests_need_not_have_every_layer_of_the_weights(folder):
    data = 'layer { name: "data" type: "Input" top: "data" }\n'
    (folder / "train.prototxt").write_text(data + CONV + CONV.replace('"conv"', '"conv2"'))
    (folder / "test.prototxt").write_text(data + CONV.replace("4", "5"))
    solver = folder / "solver.prototxt"
    solver.write_text('train_net: "train.prototxt" test_net: "test.prototxt"\n' + TESTS)
    weights, kernels = folder / "w.caffemodel", np.zeros((4, 1, 3, 3), np.float32)
    blobs = (kernels, np.zeros(4, np.float32))
    caffemodel.write(weights, [LayerWeights(name, "", blobs) for name in ("conv", "conv2")])
    code, output = check(folder, "--weights", weights)
    assert code == 1
    assert "known-layers" not in output
    assert output.count(f"{folder}/test.prototxt:2:1: error: layer 'conv': blob") == 2


def test_a_net_that_is_trained_by_no_loss_is_a_warning_and_one_by_itself_is_none(folder):
    net = folder / "net.prototxt"
    net.write_text(NET.format(train="here", test="here").replace("loss_weight: 1", ""))
    code, output = check(folder)
    assert code == 0
    assert output.startswith(f"{net}: warning: no loss in the net that is trained, expected a ")
    assert output.endswith(f"{folder}: 2 layers, 0 errors, 1 warning\n")
    assert check(net) == (0, f"{net}: 2 layers, 0 errors, 0 warnings\n")
