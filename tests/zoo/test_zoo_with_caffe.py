"""The zoo's nets in the real Caffe: loaded, trained, split, folded and initialised."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from pycaffe_process import Pycaffe

from caffesplit import experiment, zoo
from caffesplit.engines import caffe_binary, forward, job
from caffesplit.formats import database, prototxt, schema
from caffesplit.net import graph
from caffesplit.net.shapes import infer
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive
from caffesplit.study.fold import write_fold
from caffesplit.study.lsuv import Settings
from caffesplit.study.lsuv_experiment import write_lsuv

CIFAR = tuple(name for name in zoo.NAMES if name != "digits")
PADDED = {"cifar100-gcn-pad4": 40, "cifar100-pad4": 40, "cifar10-gcn-zca-pad5": 42, "cifar10": 32}

SHORT = {"max_iter": 3, "snapshot": 1, "display": 1, "test_interval": 3, "solver_mode": "CPU"}


def write_random(folder, dataset, size, whitened):
    """Databases of random images, as `caffesplit data` prepares them, and their mean."""
    rng = np.random.default_rng(0)
    classes = int(dataset.removeprefix("cifar"))
    images = rng.normal(0, 1, (24, 3, size, size)).astype(np.float32)
    if not whitened:
        images = (images * 40 + 120).clip(0, 255).astype(np.uint8)
    labels = rng.integers(0, classes, 24)
    records = [
        (database.key(i), database.datum(image, int(label)))
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    for part in ("train", "test"):
        database.write(folder / f"{dataset}_{part}_lmdb", records)
    mean = schema.message_class("BlobProto")(num=1, channels=3, height=size, width=size)
    mean.data.extend(images.mean(axis=0).ravel().tolist())
    (folder / f"{dataset}_mean.binaryproto").write_bytes(mean.SerializeToString())


@pytest.fixture(scope="module")
def root(caffe, tmp_path_factory):
    """Each net, trained for three iterations with batches of 4."""
    root = tmp_path_factory.mktemp("zoo")
    for name in CIFAR:
        entry = zoo.NETS[name]
        data = root / "data" / entry.data_name
        write_random(
            data, entry.data.split()[0], PADDED[entry.data_name], whitened="gcn" in entry.data
        )
        solver = zoo.write(name, root / name, root, data)
        tree = prototxt.load(solver)
        for field, value in SHORT.items():
            tree = tree.with_field_set(field, str(value))
        solver.write_text(re.sub(r"test_iter: \d+", "test_iter: 2", str(tree)))
        net = root / name / "train_val.prototxt"
        net.write_text(re.sub(r"batch_size: \d+", "batch_size: 4", net.read_text()))
        outcome = caffe_binary.train(job.prepare(experiment.load(solver, root)), caffe)
        assert outcome.iterations == 3
        assert math.isfinite(outcome.loss)
    return root


@pytest.mark.parametrize("name", CIFAR)
def test_caffe_trains_and_tests_it(root, name):
    log = (root / name / "train.log").read_text()
    tested = re.findall(r"Iteration 3, Testing net \(#(\d)\)", log)
    assert tested == (["0", "1"] if name == "inception_small" else ["0"])
    assert "Optimization Done." in log
    assert len(experiment.load(root / name, root).snapshots()) == 3


def test_shapes_are_those_that_caffe_has(python_caffe, tmp_path):
    with Pycaffe(python_caffe) as pycaffe:
        for name in zoo.NAMES:
            zoo.write(name, tmp_path / name, tmp_path, tmp_path)
            deploy = graph.build(prototxt.load(tmp_path / name / "deploy.prototxt"))
            blobs, _ = pycaffe(str(deploy.tree))
            assert infer(deploy, phase="TEST").blobs == blobs


@pytest.mark.parametrize("name", CIFAR)
def test_it_is_split_and_folds_back_to_the_same_text(root, name, tmp_path):
    base = experiment.load(root / name, root)
    plan = decide(base, (1, 3), 1)
    convolution = next(layer for layer in base.kernel_layers if "ip" not in layer)
    for number, chosen in enumerate((plan, decide(base, (1, 3), [convolution]))):
        out = root / f"{name}.split{number}"
        derive(base, chosen, base.weights_path(3), out)
        derived = experiment.load(out, root)

        result = write_fold(derived, out / "init.caffemodel", root / f"{name}.folded{number}")

        assert len(result.folded) == 1
        for file in ("train_val.prototxt", "deploy.prototxt"):
            folded = (root / f"{name}.folded{number}" / file).read_bytes()
            assert folded == (root / name / file).read_bytes()


@pytest.mark.parametrize("name", CIFAR)
def test_lsuv_gives_every_layer_unit_variance(root, python_caffe, tmp_path, name):
    loaded = experiment.load(root / name, root)

    result = write_lsuv(
        loaded,
        tmp_path / "init.caffemodel",
        forward.Pycaffe(python_caffe),
        Settings(),
        batches=2,
    )

    assert [each.layer for each in result.outcomes] == list(loaded.kernel_layers)
    assert not any(each.problem for each in result.outcomes)
    assert all(abs(each.after - 1) <= 0.1 for each in result.outcomes)
