"""LSUV in the real Caffe; what it reaches is measured by a pycaffe that knows nothing of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caffesplit import experiment, zoo
from caffesplit.engines import caffe_binary, job, pycaffe
from caffesplit.engines.forward import Pycaffe, Torch, find
from caffesplit.errors import EngineError, NetError, OutputError, WeightsError
from caffesplit.formats import caffemodel, database
from caffesplit.study.lsuv import Settings
from caffesplit.study.lsuv_experiment import write_lsuv

BATCH = 128

# A new net for each layer: so the first batch of the data reaches it, through the layers as they
# are, and nothing behind it has worked on its output in place.
MEASURE = """
import json, os, sys
os.environ["GLOG_minloglevel"] = "3"
import caffe
import numpy as np

caffe.set_random_seed(5)
found = {}
for layer in sys.argv[3:]:
    net = caffe.Net(sys.argv[1], caffe.TRAIN, weights=sys.argv[2])
    net.forward(end=layer)
    values = np.concatenate([net.blobs[top].data.ravel() for top in net.top_names[layer]])
    found[layer] = float(np.var(values.astype(np.float64)))
print(json.dumps(found))
"""

NET = """
layer {
  name: "data" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.0625 }
  data_param { source: "data/digits_train_lmdb" backend: LMDB batch_size: 128 }
}
layer { name: "twin" type: "Split" bottom: "data" top: "left" top: "right" }
layer {
  name: "both" type: "Convolution" bottom: "left" bottom: "right" top: "both1" top: "both2"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }
}
layer { name: "relu1" type: "ReLU" bottom: "both1" top: "both1" }
layer { name: "relu2" type: "ReLU" bottom: "both2" top: "both2" }
layer { name: "join" type: "Concat" bottom: "both1" bottom: "both2" top: "join" }
layer {
  name: "grouped" type: "Convolution" bottom: "join" top: "grouped"
  convolution_param {
    num_output: 8 kernel_size: 3 group: 2 bias_term: false weight_filler { type: "msra" }
  }
}
layer { name: "bn" type: "BatchNorm" bottom: "grouped" top: "grouped" param { lr_mult: 0 } }
layer {
  name: "scale" type: "Scale" bottom: "grouped" top: "grouped" scale_param { bias_term: true }
}
layer { name: "relu3" type: "ReLU" bottom: "grouped" top: "grouped" }
layer {
  name: "up" type: "Deconvolution" bottom: "grouped" top: "up"
  convolution_param {
    num_output: 6 kernel_size: 2 stride: 2 group: 2 weight_filler { type: "xavier" }
  }
}
layer { name: "tanh" type: "TanH" bottom: "up" top: "up" }
layer {
  name: "sampled" type: "Convolution" bottom: "up" top: "sampled" param { lr_mult: 0 }
  convolution_param {
    num_output: 6 kernel_size: 1 stride: 3 group: 6 bias_term: false
    weight_filler { type: "constant" value: 1 }
  }
}
layer {
  name: "turned" type: "InnerProduct" bottom: "sampled" top: "turned"
  param { name: "shared" } param { name: "bias" }
  inner_product_param { num_output: 96 transpose: true weight_filler { type: "xavier" } }
}
layer { name: "relu4" type: "ReLU" bottom: "turned" top: "turned" }
layer {
  name: "again" type: "InnerProduct" bottom: "turned" top: "again"
  param { name: "shared" } param { name: "bias" }
  inner_product_param { num_output: 96 transpose: true weight_filler { type: "xavier" } }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "again" top: "ip"
  inner_product_param {
    num_output: 10 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.5 }
  }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
LAYERS = ["both", "grouped", "up", "turned", "ip"]


@pytest.fixture
def digits(digits_root):
    """The digits' experiment, with batches so large that LSUV takes one."""
    path = digits_root / "baseline/train_val.prototxt"
    path.write_text(path.read_text().replace("batch_size: 4\n", f"batch_size: {BATCH}\n"))
    return experiment.load(digits_root / "baseline", digits_root)


@pytest.fixture
def tricky(digits_root):
    """A net of all that LSUV has to look out for."""
    (digits_root / "baseline/train_val.prototxt").write_text(NET)
    solver = digits_root / "baseline/solver.prototxt"
    solver.write_text(re.sub("test_.*\n", "", solver.read_text()))
    return experiment.load(digits_root / "baseline", digits_root)


def measured(python, loaded, weights, layers):
    """The variance of each layer's output, as a fresh pycaffe has it."""
    done = subprocess.run(
        [python, "-c", MEASURE, loaded.net_path, weights, *layers],
        cwd=loaded.root,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(params=["pycaffe", "torch"])
def engine(request, python_caffe):
    return Pycaffe(python_caffe) if request.param == "pycaffe" else Torch()


def test_every_layer_of_the_digits_net_has_unit_variance(python_caffe, engine, digits):
    out = digits.folder / "init.caffemodel"

    result = write_lsuv(digits, out, engine, Settings())

    found = measured(python_caffe, digits, out, ["conv1", "conv2", "conv3", "ip"])
    assert [each.layer for each in result.outcomes] == list(found)
    for outcome in result.outcomes:
        assert abs(found[outcome.layer] - 1) <= 0.1
    # No dropout up to there: the same images give the same value.
    for outcome in result.outcomes[:3]:
        assert found[outcome.layer] == pytest.approx(outcome.after, rel=1e-4)


def test_whatever_the_layers_are_like(python_caffe, engine, tricky):
    out = tricky.folder / "init.caffemodel"

    result = write_lsuv(tricky, out, engine, Settings(tolerance=0.02))

    assert result.left == {"sampled": "lr_mult is 0", "again": "shares the weights of turned"}
    found = measured(python_caffe, tricky, out, LAYERS)
    for outcome in result.outcomes:
        assert not outcome.problem
        assert found[outcome.layer] == pytest.approx(outcome.after, rel=1e-4)
        assert abs(outcome.after - 1) <= 0.02


def test_what_lsuv_does_not_touch_has_its_fillers_values(python_caffe, engine, tricky):
    out = tricky.folder / "init.caffemodel"

    write_lsuv(tricky, out, engine, Settings())

    weights = caffemodel.read(out)
    for blob in weights["bn"]:
        assert not blob.any()
    np.testing.assert_array_equal(weights["scale"][0], 1)
    np.testing.assert_array_equal(weights["sampled"][0], 1)
    np.testing.assert_array_equal(weights["ip"][1], 0.5)
    np.testing.assert_array_equal(weights["again"][0], weights["turned"][0])
    for half in weights["grouped"][0].reshape(2, 4, -1).astype(float):
        product = half @ half.T
        np.testing.assert_allclose(product, product[0, 0] * np.eye(4), atol=1e-5 * product[0, 0])


def test_training_starts_from_it_with_a_sane_loss(caffe, python_caffe, digits):
    write_lsuv(digits, digits.folder / "init.caffemodel", Pycaffe(python_caffe), Settings())
    text = digits.solver_path.read_text().replace("max_iter: 100\n", "max_iter: 20\n")
    digits.solver_path.write_text(text)
    losses = []

    caffe_binary.train(
        job.prepare(experiment.load(digits.folder, digits.root)),
        caffe,
        lambda record: losses.append(getattr(record, "loss", None)),
    )

    assert "Finetuning from" in (digits.folder / "train.log").read_text()
    first, *_, last = (loss for loss in losses if loss is not None)
    assert 1 < first < 2 * np.log(10)
    assert last < first


def test_the_same_seed_gives_the_same_bytes(python_caffe, digits):
    outs = [digits.folder / f"{name}.caffemodel" for name in "abc"]

    for out, seed in zip(outs, (1, 1, 2), strict=True):
        write_lsuv(digits, out, Pycaffe(python_caffe), Settings(seed=seed), seed=seed)

    first, again, other = (out.read_bytes() for out in outs)
    assert first == again
    assert first != other


def test_small_batches_are_joined_until_they_make_128_images(python_caffe, digits_root):
    loaded = experiment.load(digits_root / "baseline", digits_root)  # Its batches are of 4.
    out = loaded.folder / "init.caffemodel"
    write_lsuv(loaded, out, Pycaffe(python_caffe), Settings())
    path = loaded.net_path
    path.write_text(path.read_text().replace("batch_size: 4\n", "batch_size: 128\n"))

    found = measured(python_caffe, loaded, out, ["conv1", "conv3"])

    assert found == pytest.approx({"conv1": 1, "conv3": 1}, abs=1e-4)


def test_given_weights_are_the_start(python_caffe, digits):
    first, second = digits.folder / "first.caffemodel", digits.folder / "second.caffemodel"
    write_lsuv(digits, first, Pycaffe(python_caffe), Settings())

    result = write_lsuv(digits, second, Pycaffe(python_caffe), Settings(seed=None), weights=first)

    assert all(each.scale == pytest.approx(1, abs=0.1) for each in result.outcomes)
    before, after = caffemodel.read(first), caffemodel.read(second)
    np.testing.assert_array_equal(before["conv1"][0], after["conv1"][0])


def test_a_net_that_the_solver_holds_itself_is_done_in_its_own_state(python_caffe, digits):
    text = digits.net_path.read_text().replace(
        "include { phase: TRAIN }", 'include { phase: TRAIN stage: "lsuv" min_level: 2 }'
    )
    solver = digits.solver_path.read_text().replace('net: "baseline/train_val.prototxt"', "")
    state = 'train_state { stage: "lsuv" level: 2 }'
    digits.solver_path.write_text(f"net_param {{ {text} }}\n{state}\n{solver}")
    digits.net_path.unlink()
    out = digits.folder / "init.caffemodel"

    outcomes = write_lsuv(
        experiment.load(digits.folder, digits.root), out, Pycaffe(python_caffe), Settings()
    ).outcomes

    assert all(abs(each.after - 1) <= 0.1 for each in outcomes)


def test_weights_of_another_shape_are_caffes_to_refuse(python_caffe, digits):
    out, other = digits.folder / "init.caffemodel", digits.folder / "other.caffemodel"
    write_lsuv(digits, other, Pycaffe(python_caffe), Settings())
    digits.net_path.write_text(
        digits.net_path.read_text().replace("num_output: 24", "num_output: 7")
    )
    loaded = experiment.load(digits.folder, digits.root)

    with pytest.raises(EngineError, match="Cannot copy param 0 weights from layer 'conv1'"):
        write_lsuv(loaded, out, Pycaffe(python_caffe), Settings(seed=None), weights=other)
    assert not out.exists()


def test_dead_layers_are_told_and_the_rest_is_done(python_caffe, digits):
    path = digits.net_path
    text = path.read_text().replace(
        'name: "relu2"\n  type: "ReLU"',
        'name: "relu2"\n  type: "Power"\n  power_param { scale: 0 }',
    )
    path.write_text(text)
    loaded = experiment.load(digits.folder, digits.root)
    out = digits.folder / "init.caffemodel"

    outcomes = write_lsuv(loaded, out, Pycaffe(python_caffe), Settings()).outcomes

    assert [bool(each.problem) for each in outcomes] == [False, False, True, True]
    weights = caffemodel.read(out)
    assert all(np.isfinite(blob).all() for blobs in weights.values() for blob in blobs)


def leftovers(folder):
    return [path.name for path in folder.iterdir() if "init" in path.name or "partial" in path.name]


def test_data_that_is_not_there_is_told(tmp_path):
    loaded = experiment.load(zoo.write("allcnn", tmp_path / "exp", tmp_path, tmp_path / "data"))

    with pytest.raises(NetError) as caught:
        write_lsuv(loaded, tmp_path / "exp/init.caffemodel", tmp_path, Settings())

    assert str(caught.value) == (
        f'{tmp_path}/exp/train_val.prototxt:20:5: source "data/cifar10_train_lmdb" does not '
        f"exist, expected a file or folder at {tmp_path}/data/cifar10_train_lmdb\n"
        '        source: "data/cifar10_train_lmdb"\n'
        "        ^\n"
        "Bring it there, correct the path, or give the folder it starts from: --root DIR."
    )
    assert not leftovers(tmp_path / "exp")


def test_bad_inputs_leave_nothing_behind(python_caffe, digits):
    out = digits.folder / "init.caffemodel"
    with pytest.raises(OutputError, match="the output is also an input"):
        write_lsuv(digits, digits.net_path, Pycaffe(python_caffe), Settings(), force=True)

    bad = digits.folder / "bad.caffemodel"
    bad.write_bytes(b"nothing")
    with pytest.raises(WeightsError):
        write_lsuv(digits, out, Pycaffe(python_caffe), Settings(), weights=bad)

    data = digits.root / "data/digits_train_lmdb" / database.DATA_FILE
    data.write_bytes(b"no database" * 1000)
    with pytest.raises(EngineError) as caught:
        write_lsuv(digits, out, Pycaffe(python_caffe), Settings())
    assert "pycaffe gave up" in str(caught.value)
    assert "mdb_status" in str(caught.value)
    assert not leftovers(digits.folder)


def test_an_existing_output_stays_without_force(python_caffe, digits):
    out = digits.folder / "init.caffemodel"
    out.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        write_lsuv(digits, out, Pycaffe(python_caffe), Settings())
    assert out.read_bytes() == b"mine"

    write_lsuv(digits, out, Pycaffe(python_caffe), Settings(), force=True)
    assert len(caffemodel.read(out)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('layers { name: "a" type: TANH bottom: "x" top: "y" }', "a net in the V1 format"),
        ('layer { name: "a" type: "TanH" bottom: "x" top: "y" }', "no layer to initialise"),
        (
            'layer { name: "a" type: "ReLU" bottom: "x" top: "y" }'
            'layer { name: "a" type: "InnerProduct" bottom: "y" top: "z" }',
            "2 layers 'a'",
        ),
    ],
)
def test_nets_it_cannot_do_are_refused(digits, text, message):
    digits.net_path.write_text(f'input: "x" input_dim: 1 {text}')
    loaded = experiment.load(digits.folder, digits.root)
    with pytest.raises(NetError, match=message):
        write_lsuv(loaded, digits.folder / "init.caffemodel", digits.folder, Settings())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_kill_leaves_nothing_and_ends_the_worker(python_caffe, digits, tmp_path, number):
    (tmp_path / "tmp").mkdir()
    program = "import sys; from caffesplit.cli import lsuv; lsuv.command.main(sys.argv[1:])"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", program, digits.folder, "--root", digits.root),
            *("--pycaffe", python_caffe, "--batches", "10"),
        ],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while not list((tmp_path / "tmp").glob("*/weights.npy")):
        assert process.poll() is None
        time.sleep(0.05)

    process.send_signal(number)
    process.communicate()

    assert not leftovers(digits.folder)
    assert number == signal.SIGKILL or not list((tmp_path / "tmp").iterdir())
    for _ in range(200):  # The worker, if it is left alone, ends with what it is at.
        if not is_running(process.pid):
            return
        time.sleep(0.05)
    pytest.fail("the worker goes on")


def is_running(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_python_without_pycaffe_is_told(digits):
    with pytest.raises(EngineError) as caught:
        write_lsuv(
            digits, digits.folder / "init.caffemodel", Pycaffe(Path(sys.executable)), Settings()
        )
    assert str(caught.value) == (
        f"{sys.executable}: this Python has no pycaffe (ModuleNotFoundError: No module named "
        "'caffe'), expected one that can `import caffe`\n"
        "On Debian or Ubuntu (x86-64), tools/install_caffe.py brings one without root.\n"
        "Or take PyTorch: --engine torch."
    )


def test_pycaffe_is_found_where_it_is_named_and_beside_caffe(
    caffe, python_caffe, tmp_path, monkeypatch
):
    monkeypatch.delenv("PYCAFFE", raising=False)
    assert pycaffe.find(str(python_caffe)) == python_caffe
    assert pycaffe.find() == python_caffe

    monkeypatch.setenv("PYCAFFE", str(tmp_path / "missing"))
    with pytest.raises(EngineError) as caught:
        pycaffe.find()
    assert str(caught.value) == (
        f'$PYCAFFE names "{tmp_path}/missing", expected a Python that can `import caffe`\n'
        "Name the interpreter itself, as in /usr/bin/python3."
    )


def test_a_python_on_the_path_serves_if_it_imports_caffe(python_caffe, tmp_path, monkeypatch):
    monkeypatch.delenv("PYCAFFE", raising=False)
    monkeypatch.delenv("CAFFE", raising=False)
    monkeypatch.delenv("CAFFE_ROOT", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError) as caught:
        pycaffe.find()
    assert str(caught.value) == (
        "no Python with pycaffe, expected one that can `import caffe`, in one of these places\n"
        "    --pycaffe\n    $PYCAFFE\n    python-caffe beside the Caffe binary\n    python3\n"
        "    python\n    python2\n"
        "On Debian or Ubuntu (x86-64), tools/install_caffe.py brings one without root."
    )

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "python").symlink_to(python_caffe)
    assert pycaffe.find() == tmp_path / "python"


def test_without_any_pycaffe_torch_runs_the_net(tmp_path, monkeypatch):
    monkeypatch.setattr(caffe_binary, "find", _missing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYCAFFE", raising=False)
    assert find() == Torch()
    with pytest.raises(EngineError, match="no Python with pycaffe"):
        find("caffe")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError) as caught:
        find()
    assert caught.value.found == "no Python with pycaffe"
    assert caught.value.remedy.endswith("\nOr do without Caffe: pip install torch")


@pytest.mark.parametrize("place", ["here", "on its path"])
def test_a_folder_called_caffe_is_no_pycaffe(place, tmp_path, monkeypatch):
    (tmp_path / "caffe/examples").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    if place == "on its path":
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(caffe_binary, "find", _missing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("PYCAFFE", raising=False)
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find() == Torch()


def _missing():
    raise EngineError("no Caffe")
