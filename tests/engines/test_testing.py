"""`caffesplit test` against the real Caffe."""

import json
import re
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from caffesplit.cli.main import cli
from caffesplit.engines import testing
from caffesplit.errors import EngineError, NetError, WeightsError
from caffesplit.formats import caffemodel, database
from caffesplit.formats.caffemodel import LayerWeights

LOG = """I1121 04:34:32.286 29402 caffe.cpp:313] Batch 9, accuracy = 0.9
I1121 04:34:32.286 29402 caffe.cpp:313] Batch 9, loss = 0.3
I1121 04:34:32.286 29402 caffe.cpp:318] Loss: 0.383096
I1121 04:34:32.286 29402 caffe.cpp:330] accuracy = 0.894
I1121 04:34:32.286 29402 caffe.cpp:330] accuracy = nan
I1121 04:34:32.286 29402 caffe.cpp:330] loss = 0.383096 (* 0.5 = 0.191548 loss)
"""


def test_the_last_lines_of_caffe_test_are_the_means():
    assert testing.parse(LOG.splitlines()) == testing.Outputs(
        0.383096,
        (
            ("accuracy", 0.894),
            ("accuracy", pytest.approx(float("nan"), nan_ok=True)),
            ("loss", 0.383096),
        ),
    )


def test_a_log_that_ends_before_its_means_has_none():
    assert testing.parse(LOG.splitlines()[:2]) is None


def trained(demo):
    folder, _ = demo
    return folder, folder / "derived2/digits_iter_2000.caffemodel"


def run(*arguments):
    return CliRunner().invoke(cli, ["test", *map(str, arguments)], catch_exceptions=False)


def test_an_experiment_is_tested_as_its_solver_says_with_its_last_snapshot(demo, caffe):
    folder, weights = trained(demo)
    done = run(folder / "derived2")
    direct = subprocess.run(
        [
            *(caffe, "test", "--model=derived2/train_val.prototxt"),
            *(f"--weights={weights}", "--iterations=10"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    accuracy = re.search(r"\] accuracy = (\S+)$", direct.stderr, re.MULTILINE)[1]
    assert f"accuracy = {accuracy}\n" in done.output


def test_a_folded_experiment_is_tested_with_its_folded_weights(demo):
    folder, _ = trained(demo)
    done = run(folder / "folded", "--json", "-")
    before = run(folder / "derived2", "--json", "-")
    found, expected = (
        json.loads(each.output.partition("\n[")[2].join(["[", ""])) for each in (done, before)
    )
    assert found[0]["weights"].endswith("folded/folded.caffemodel")
    assert dict(found[0]["outputs"]) == pytest.approx(dict(expected[0]["outputs"]), rel=1e-4)


def test_a_net_is_tested_with_the_weights_given(demo):
    folder, weights = trained(demo)
    net = folder / "derived2/train_val.prototxt"
    assert f"{net} is a net: give its weights, --weights FILE." in run(net).output
    done = run(net, "--weights", weights, "--root", folder, "--iterations", 10)
    assert done.output == run(folder / "derived2").output


def test_weights_of_another_net_fail_with_caffes_own_words(demo, caffe):
    folder, weights = trained(demo)
    other = testing.Test(folder / "missing.prototxt", weights, folder, 1)
    with pytest.raises(EngineError) as caught:
        testing.run(other, caffe)
    assert str(caught.value).startswith(
        f"{folder / 'missing.prototxt'}: caffe test failed (exit status -6), "
        "expected the outputs of the net\n`caffesplit check` may tell why. Its last words:\n"
    )


def trained_by_torch(digits_root):
    folder = digits_root / "baseline"
    done = CliRunner().invoke(cli, ["train", str(folder), "--engine", "torch"])
    assert done.exit_code == 0, done.output
    return folder


def renamed(folder, *names):
    net = folder / "train_val.prototxt"
    for name in names:
        net.write_text(net.read_text().replace(f'"{name}"', f'"new_{name}"'))


@pytest.mark.parametrize("engine", ["caffe", "torch"])
def test_weights_of_another_net_are_refused_as_train_refuses_them(caffe, digits_root, engine):
    folder = trained_by_torch(digits_root)
    renamed(folder, "conv1", "conv2", "conv3", "ip")
    with pytest.raises(WeightsError) as caught:
        run(folder, "--engine", engine)
    assert str(caught.value) == (
        f"{folder}/digits_iter_100.caffemodel: the weights have no layer of the net, expected "
        f"those of a net with layers as in {folder}/train_val.prototxt\n"
        "Weights and net must belong together."
    )


@pytest.mark.parametrize("engine", ["caffe", "torch"])
def test_layers_that_the_file_has_no_weights_for_are_told(caffe, digits_root, engine):
    folder = trained_by_torch(digits_root)
    assert run(folder, "--engine", engine).stderr == ""
    renamed(folder, "ip")
    done = run(folder, "--engine", engine)
    assert done.stderr == "no weights for: new_ip, which keeps its initial values\n"
    renamed(folder, "conv2")
    assert "no weights for: new_conv2, new_ip, which keep their" in run(folder).stderr


def test_layers_that_the_net_does_not_have_are_no_news(digits_root):
    folder = trained_by_torch(digits_root)
    net = folder / "train_val.prototxt"
    net.write_text(net.read_text().partition('layer {\n  name: "relu1"')[0])
    done = run(folder, "--engine", "torch")
    assert (done.exit_code, done.stderr) == (0, "")


def test_a_solver_that_tests_on_no_batches_is_told(digits_root):
    folder = trained_by_torch(digits_root)
    solver = folder / "solver.prototxt"
    solver.write_text(re.sub("test_iter: .*", "test_iter: 0", solver.read_text()))
    with pytest.raises(NetError) as caught:
        run(folder, "--engine", "torch")
    assert str(caught.value) == (
        f"{solver}: test_iter 0, expected 1 or more batches\n"
        "Correct it, or say how many: --iterations N."
    )
    assert "accuracy = " in run(folder, "--engine", "torch", "--iterations", 1).stdout


def test_data_of_a_net_that_is_not_there_may_be_below_another_folder(digits_root, tmp_path):
    net = trained_by_torch(digits_root) / "train_val.prototxt"
    given = (net, "--weights", net.with_name("digits_iter_50.caffemodel"), "--engine", "torch")
    with pytest.raises(NetError) as caught:
        run(*given, "--root", tmp_path)
    assert caught.value.expected == f"a file or folder at {tmp_path}/data/digits_test_lmdb"
    assert caught.value.remedy.endswith("or give the folder it starts from: --root DIR.")
    assert run(*given, "--root", digits_root).exit_code == 0


def outputs_of(folder, text, engine):
    (folder / "net.prototxt").write_text(text)
    weights = [LayerWeights("ip", "InnerProduct", (np.eye(2, dtype=np.float32),))]
    caffemodel.write(folder / "w.caffemodel", weights, force=True)
    done = run(
        *(folder / "net.prototxt", "--weights", folder / "w.caffemodel", "--root", folder),
        *("--iterations", 1, "--engine", engine),
    )
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("engine", ["caffe", "torch"])
def test_a_net_without_any_blobs_is_tested_with_whatever_weights(caffe, tmp_path, engine):
    pixels = np.uint8([3, 9, 1]).reshape(3, 1, 1)
    database.write(tmp_path / "lmdb", [(database.key(0), database.datum(pixels, 1))])
    net = """
        layer { name: "data" type: "Data" top: "data" top: "label"
          data_param { source: "lmdb" backend: LMDB batch_size: 1 } }
        layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
        layer { name: "part" type: "Slice" bottom: "flat" top: "a" top: "b"
          slice_param { slice_point: 2 } }
        layer { name: "quiet" type: "Silence" bottom: "b" }
        layer { name: "acc" type: "Accuracy" bottom: "a" bottom: "label" top: "acc" }"""
    assert "acc = 1\n" in outputs_of(tmp_path, net, engine)


@pytest.mark.parametrize("engine", ["caffe", "torch"])
def test_paths_that_no_layer_reads_need_not_be_there(caffe, tmp_path, engine):
    net = """
        layer { name: "data" type: "DummyData" top: "data" top: "label" top: "h"
          dummy_data_param { shape { dim: 1 dim: 2 } shape { dim: 1 } shape { dim: 1 dim: 1 dim: 2
          dim: 2 } data_filler { value: 1 } data_filler { } data_filler { value: 1 } }
          transform_param { mean_file: "gone" } }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
          data_param { source: "gone" } inner_product_param { num_output: 2 bias_term: false } }
        layer { name: "loss" type: "InfogainLoss" bottom: "ip" bottom: "label" bottom: "h"
          top: "loss" infogain_loss_param { source: "gone" } }"""
    assert "loss = 1.38629" in outputs_of(tmp_path, net, engine)


@pytest.mark.parametrize("engine", ["caffe", "torch"])
def test_a_root_folder_may_be_what_the_names_of_images_begin_with(caffe, tmp_path, engine):
    (tmp_path / "png").mkdir()
    Image.fromarray(np.uint8([[7]])).save(tmp_path / "png/p_0.png")
    (tmp_path / "list.txt").write_text("0.png 0\n")
    net = """
        layer { name: "data" type: "ImageData" top: "data" top: "label"
          image_data_param { source: "list.txt" root_folder: "png/p_" is_color: false } }
        layer { name: "quiet" type: "Silence" bottom: "label" }"""
    assert "data = 7\n" in outputs_of(tmp_path, net, engine)
    with pytest.raises(NetError) as caught:
        outputs_of(tmp_path, net.replace("png/p_", "gone/p_"), engine)
    assert caught.value.found == 'root_folder "gone/" does not exist'
    assert caught.value.expected == f"a file or folder at {tmp_path}/gone"


def test_an_experiment_without_snapshots_is_tested_with_its_start_in_hdf5(digits_root):
    folder = trained_by_torch(digits_root)
    expected = run(folder, "--engine", "torch").stdout
    weights = caffemodel.read(folder / "digits_iter_100.caffemodel")
    caffemodel.write(
        folder / "init.caffemodel.h5",
        [LayerWeights(name, "Any", blobs) for name, blobs in weights.items()],
    )
    for path in folder.glob("digits_iter_*"):
        path.unlink()
    assert run(folder, "--engine", "torch").stdout == expected
