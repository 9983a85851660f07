from __future__ import annotations

import subprocess
from importlib.resources import files

import numpy as np
import pytest

from caffesplit import experiment, zoo
from caffesplit.engines import caffe_binary, job
from caffesplit.errors import NetError, OutputError
from caffesplit.formats import database, prototxt
from caffesplit.net import check, graph
from caffesplit.net.solver_rules import check_solver
from caffesplit.net.sources import named_paths


def test_an_experiment_names_its_files_from_the_root(tmp_path):
    solver = zoo.write("digits", tmp_path / "exp/baseline", tmp_path, tmp_path / "sets")

    loaded = experiment.load(solver)
    assert loaded.root == tmp_path
    assert loaded.net_path == tmp_path / "exp/baseline/train_val.prototxt"
    assert loaded.snapshot_prefix == str(tmp_path / "exp/baseline/digits")
    assert [path for _, path in named_paths(loaded.net.layers)] == [
        "sets/digits_train_lmdb",
        "sets/digits_test_lmdb",
    ]


def test_all_that_a_net_reads_is_taken_from_its_data_folder(tmp_path):
    loaded = experiment.load(zoo.write("resnet20", tmp_path / "exp", tmp_path, tmp_path / "sets"))

    assert [path for _, path in named_paths(loaded.net.layers)] == [
        "sets/cifar100_mean.binaryproto",
        "sets/cifar100_train_lmdb",
        "sets/cifar100_mean.binaryproto",
        "sets/cifar100_test_lmdb",
    ]


@pytest.mark.parametrize("net", zoo.NAMES)
def test_only_paths_are_changed(tmp_path, net):
    zoo.write(net, tmp_path / net, tmp_path, tmp_path / "data")

    for name in zoo.FILES:
        original = (files("caffesplit.zoo") / net / name).read_bytes()
        assert (tmp_path / net / name).read_bytes() == original


@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_net_is_legal(tmp_path, name):
    solver = zoo.write(name, tmp_path / name, tmp_path, tmp_path / "data")

    loaded = experiment.load(solver)

    assert loaded.deploy_path is not None
    deploy = graph.build(prototxt.load(loaded.deploy_path))
    assert not check.check_net(loaded.net)
    assert not check.check_net(deploy)
    assert not check_solver(loaded.solver_tree)
    loaded.check_tests()


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(NetError) as caught:
        zoo.write("alexnet", tmp_path / "exp", tmp_path, tmp_path)
    assert str(caught.value) == (
        'no net "alexnet" in the zoo, expected one of fitnet4, resnet20, allcnn, inception_small, '
        "digits"
    )


def test_files_that_exist_are_replaced_only_by_force(tmp_path):
    zoo.write("digits", tmp_path / "a", tmp_path, tmp_path)
    with pytest.raises(OutputError):
        zoo.write("digits", tmp_path / "a", tmp_path, tmp_path)
    zoo.write("digits", tmp_path / "a", tmp_path, tmp_path, force=True)


DEPLOYED = """
import sys, numpy as np, caffe
net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
images, labels = np.load(sys.argv[3]), np.load(sys.argv[4])
net.blobs["data"].reshape(*images.shape)
net.blobs["data"].data[...] = images
print((net.forward()["prob"].argmax(axis=1) == labels).mean())
"""


def test_the_deployed_net_is_as_accurate_as_the_log_says(
    caffe, python_caffe, digits_root, tmp_path
):
    loaded = experiment.load(digits_root / "baseline")
    outcome = caffe_binary.train(job.prepare(loaded), caffe)
    records = [datum for _, datum in database.read(digits_root / "data/digits_test_lmdb")]
    np.save(tmp_path / "images.npy", np.stack([database.pixels(d) for d in records]) * 0.0625)
    np.save(tmp_path / "labels.npy", np.array([datum.label for datum in records]))

    answer = subprocess.run(
        [
            *(python_caffe, "-c", DEPLOYED, loaded.deploy_path, outcome.snapshots[-1]),
            *(tmp_path / "images.npy", tmp_path / "labels.npy"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )

    assert float(answer.stdout) == pytest.approx(outcome.accuracy)
    assert outcome.accuracy > 0.5
