"""The torch engine beside the real Caffe: the same start, the same data, the same training."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from caffesplit import experiment
from caffesplit.engines import caffe_binary, job, testing, torch_test, torch_train
from caffesplit.formats import caffemodel, prototxt, solverstate, trainlog

TYPES = {
    "SGD": "base_lr: 0.001 momentum: 0.9",
    "Nesterov": "base_lr: 0.0007 momentum: 0.9",
    "AdaGrad": "base_lr: 0.01",
    "RMSProp": "base_lr: 0.001 rms_decay: 0.98",
    "AdaDelta": "base_lr: 1 momentum: 0.95 delta: 1e-6",
    "Adam": "base_lr: 0.001 momentum: 0.9 momentum2: 0.999",
}
"""Fields of a solver of each type, with which the digits are learnt in 200 iterations."""

COMMON = """
net: "{name}/train_val.prototxt" snapshot_prefix: "{name}/digits"
test_iter: 10 test_interval: 100 display: 10 average_loss: 3
lr_policy: "step" gamma: 0.5 stepsize: 120 weight_decay: 0.005
max_iter: 200 snapshot: 100 solver_mode: CPU random_seed: 1
"""


@pytest.fixture(scope="session")
def start(caffe, digits_template, tmp_path_factory) -> Path:
    """A folder with data/, and net.prototxt without dropout beside weights to start from."""
    root = tmp_path_factory.mktemp("start")
    shutil.copytree(digits_template / "data", root / "data")
    tree = prototxt.load(digits_template / "baseline/train_val.prototxt")
    kept = [field for field in tree.fields if "Dropout" not in str(field.value)]
    (root / "net.prototxt").write_text(str(prototxt.Message(tuple(kept))))
    made(root, "init", 'base_lr: 0.001 type: "SGD"', max_iter=1)
    caffe_binary.train(prepared(root, "init"), caffe)
    (root / "init/digits_iter_1.caffemodel").rename(root / "init.caffemodel")
    return root


def made(root: Path, name: str, fields: str, **others: object) -> Path:
    """An experiment of that name with a solver of those fields."""
    folder = root / name
    folder.mkdir()
    shutil.copy(root / "net.prototxt", folder / "train_val.prototxt")
    tree = prototxt.parse(COMMON.format(name=name) + fields)
    for field, value in others.items():
        tree = tree.with_field_set(field, str(value))
    (folder / "solver.prototxt").write_text(str(tree))
    return folder


def prepared(root: Path, name: str, **options: Path) -> job.Job:
    return job.prepare(experiment.load(root / name, root), **options)


def losses(folder: Path) -> list[float]:
    return [row.loss for row in trainlog.read(folder / "train.log").train]


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = caffemodel.read(one), caffemodel.read(other)
    assert list(ours) == list(theirs)
    for name in theirs:
        for our, their in zip(ours[name], theirs[name], strict=True):
            np.testing.assert_allclose(our, their, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", TYPES)
def test_every_solver_follows_caffe_for_200_iterations(caffe, start, tmp_path, kind):
    root = tmp_path / "root"
    shutil.copytree(start, root)
    fields = f'type: "{kind}" {TYPES[kind]}'
    weights = root / "init.caffemodel"
    theirs, ours = made(root, "theirs", fields), made(root, "ours", fields)
    caffe_binary.train(prepared(root, "theirs", weights=weights), caffe)
    torch_train.train(prepared(root, "ours", weights=weights), device="cpu")
    assert losses(ours)[-1] < 0.7 * losses(ours)[0]
    np.testing.assert_allclose(losses(ours), losses(theirs), rtol=1e-3)
    for iteration in (100, 200):
        name = f"digits_iter_{iteration}"
        assert_same_weights(ours / f"{name}.caffemodel", theirs / f"{name}.caffemodel")
        state, caffes = (solverstate.read(each / f"{name}.solverstate") for each in (ours, theirs))
        assert (state.iteration, state.current_step) == (caffes.iteration, caffes.current_step)
        for our, their in zip(state.history, caffes.history, strict=True):
            assert our.shape == their.shape
            np.testing.assert_allclose(our, their, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("kind", ["Nesterov", "RMSProp"])
def test_from_most_starts_the_paths_differ_by_rounding_alone(caffe, start, tmp_path, kind):
    """From some, a value on a kink of ReLU or pooling parts them, as it parts Caffe from Caffe
    when one rounding of the start is another: then by 1e-3 to 1e-1, at the same starts."""
    root = tmp_path / "root"
    shutil.copytree(start, root)
    fields = f'type: "{kind}" {TYPES[kind]}'
    apart = []
    for seed in range(1, 6):
        made(root, f"init{seed}", 'base_lr: 1e-12 type: "SGD"', max_iter=1, random_seed=seed)
        caffe_binary.train(prepared(root, f"init{seed}"), caffe)
        weights = root / f"init{seed}/digits_iter_1.caffemodel"
        ours, theirs = (made(root, f"{name}{seed}", fields) for name in ("ours", "theirs"))
        caffe_binary.train(prepared(root, theirs.name, weights=weights), caffe)
        torch_train.train(prepared(root, ours.name, weights=weights), device="cpu")
        one, other = (
            caffemodel.read(each / "digits_iter_200.caffemodel") for each in (ours, theirs)
        )
        apart.append(
            max(
                float(np.abs(our - their).max())
                for name in other
                for our, their in zip(one[name], other[name], strict=True)
            )
        )
    assert np.median(apart) < 1e-5


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_the_engine_may_change_at_a_snapshot(caffe, start, tmp_path, kind, hdf5):
    """Either goes on from the other's files as Caffe does from its own."""
    root = tmp_path / "root"
    shutil.copytree(start, root)
    fields = f'type: "{kind}" {TYPES[kind]} snapshot_format: {"HDF5" if hdf5 else "BINARYPROTO"}'
    engines = {
        "caffe": lambda planned: caffe_binary.train(planned, caffe),
        "torch": lambda planned: torch_train.train(planned, device="cpu"),
    }
    ending = ".h5" if hdf5 else ""
    for name, engine in engines.items():
        made(root, name, fields, max_iter=100, snapshot=100)
        engine(prepared(root, name, weights=root / "init.caffemodel"))
    runs = {}
    for first, then in (("caffe", "caffe"), ("caffe", "torch"), ("torch", "caffe")):
        name = f"{first}_{then}"
        made(root, name, fields, max_iter=150, snapshot=150, display=5)
        snapshot = root / first / f"digits_iter_100.solverstate{ending}"
        engines[then](prepared(root, name, snapshot=snapshot))
        runs[name] = root / name
    for name in ("caffe_torch", "torch_caffe"):
        np.testing.assert_allclose(losses(runs[name]), losses(runs["caffe_caffe"]), rtol=1e-3)
        assert_same_weights(
            runs[name] / f"digits_iter_150.caffemodel{ending}",
            runs["caffe_caffe"] / f"digits_iter_150.caffemodel{ending}",
        )


SETTLED = re.compile(r"(?m)^.\d{4} \S+ +\d+ ((?:sgd_)?solver|caffe)\.cpp:\d+\] (.*)$")


def lines(log: Path, name: str) -> list[str]:
    """What solver and tool have said, without time, speed and the experiment's name."""
    said = [match[2] for match in SETTLED.finditer(log.read_text())]
    return [re.sub(r"\(.* iters\)", "(speed)", each).replace(name, "NAME") for each in said]


def without_numbers(text: list[str]) -> list[str]:
    return [re.sub(r"-?\d+\.?\d*(e-?\d+)?", "0", each) for each in text]


def test_the_log_says_the_same_and_reads_the_same(caffe, start, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(start, root)
    fields = (
        'type: "SGD" base_lr: 0.001 momentum: 0.9 clip_gradients: 3 iter_size: 2 '
        "test_compute_loss: true"
    )
    others = {"max_iter": 30, "snapshot": 20, "test_interval": 15, "lr_policy": '"multistep"'}
    for name in ("theirs", "ours"):
        made(root, name, fields + " stepvalue: 12 stepvalue: 14", **others)
        planned = prepared(root, name, weights=root / "init.caffemodel")
        if name == "ours":
            torch_train.train(planned, device="cpu")
        else:
            caffe_binary.train(planned, caffe)
    ours, theirs = (lines(root / name / "train.log", name) for name in ("ours", "theirs"))
    begin = ours.index("Starting Optimization")
    assert without_numbers(ours[begin:]) == without_numbers(
        theirs[theirs.index("Starting Optimization") :]
    )
    assert any("Gradient clipping" in line for line in ours)
    our, their = (trainlog.read(root / name / "train.log") for name in ("ours", "theirs"))
    for mine, other in zip((*our.train, *our.test), (*their.train, *their.test), strict=True):
        assert (mine.iteration, mine.outputs.keys()) == (other.iteration, other.outputs.keys())
        np.testing.assert_allclose(
            [mine.lr, mine.loss, *mine.outputs.values()],
            [other.lr, other.loss, *other.outputs.values()],
            rtol=1e-3,
        )
    assert [event.kind for event in our.events] == [event.kind for event in their.events]


def test_debug_info_tells_the_same_means(caffe, start, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(start, root)
    fields = 'type: "SGD" base_lr: 0.001 momentum: 0.9 debug_info: true'
    for name in ("theirs", "ours"):
        made(root, name, fields, max_iter=1, snapshot=0, test_initialization="false")
        planned = prepared(root, name, weights=root / "init.caffemodel")
        if name == "ours":
            torch_train.train(planned, device="cpu")
        else:
            caffe_binary.train(planned, caffe)
    said = re.compile(r"    (\[(?:Forward|Backward)\] .*?)([^a-z]*)$", re.MULTILINE)
    ours, theirs = (
        said.findall((root / name / "train.log").read_text()) for name in ("ours", "theirs")
    )
    assert len(ours) > 30
    assert [text for text, _ in ours] == [text for text, _ in theirs]
    numbers = re.compile(r"\d[-\d.e]*")
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            [float(each) for each in numbers.findall(mine)],
            [float(each) for each in numbers.findall(other)],
            rtol=1e-3,
        )


STATISTICS_AND_SHARING = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "data/digits_train_lmdb" batch_size: 8 backend: LMDB }
  transform_param { scale: 0.0625 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 bias_term: false
    weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "one" type: "InnerProduct" bottom: "bn" top: "one" param { name: "w" }
  param { lr_mult: 0 } inner_product_param { num_output: 10 weight_filler { type: "xavier" }
    bias_filler { type: "constant" value: 1 } } }
layer { name: "other" type: "InnerProduct" bottom: "bn" top: "other" param { name: "w" }
  param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "one" bottom: "label" top: "loss" }
layer { name: "apart" type: "EuclideanLoss" bottom: "one" bottom: "other" top: "apart"
  loss_weight: 0.1 }
"""


@pytest.mark.parametrize("kind", ["SGD", "AdaGrad"])
def test_statistics_shared_and_frozen_blobs_have_caffes_places(caffe, start, tmp_path, kind):
    root = tmp_path / "root"
    shutil.copytree(start, root)
    (root / "net.prototxt").write_text(STATISTICS_AND_SHARING)
    fields = f'type: "{kind}" {TYPES[kind]}'
    made(root, "first", fields, max_iter=1)
    caffe_binary.train(prepared(root, "first"), caffe)
    weights = root / "first/digits_iter_1.caffemodel"
    for name in ("theirs", "ours"):
        made(root, name, fields, max_iter=30, snapshot=30)
    caffe_binary.train(prepared(root, "theirs", weights=weights), caffe)
    torch_train.train(prepared(root, "ours", weights=weights), device="cpu")
    np.testing.assert_allclose(losses(root / "ours"), losses(root / "theirs"), rtol=1e-3)
    name = "digits_iter_30"
    state, caffes = (
        solverstate.read(root / each / f"{name}.solverstate") for each in ("ours", "theirs")
    )
    assert [row.shape for row in state.history] == [row.shape for row in caffes.history]
    for our, their in zip(state.history, caffes.history, strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-2, atol=1e-4)
    ours, theirs = (
        caffemodel.read(root / each / f"{name}.caffemodel") for each in ("ours", "theirs")
    )
    assert list(ours) == list(theirs)
    for layer in theirs:
        for our, their in zip(ours[layer], theirs[layer], strict=True):
            np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-4)


def test_a_net_tests_as_in_caffe(caffe, start, tmp_path):
    net, weights = start / "net.prototxt", start / "init.caffemodel"
    asked = testing.Test(net, weights, start, iterations=10)
    ours, theirs = torch_test.run(asked, device="cpu"), testing.run(asked, caffe)
    assert [name for name, _ in ours.values] == [name for name, _ in theirs.values]
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-4)
    np.testing.assert_allclose(
        [value for _, value in ours.values], [value for _, value in theirs.values], rtol=1e-4
    )
