"""Trained derived nets fold into the base architecture, and the real Caffe sees no difference."""

import re

import pytest
from real_caffe import outputs_in_test

from caffesplit.engines import caffe_binary, job
from caffesplit.experiment import load
from caffesplit.split.fold import Scope
from caffesplit.split.forms import Setting
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive
from caffesplit.study.fold import write_fold


def train(caffe, folder):
    caffe_binary.train(job.prepare(load(folder)), caffe)
    return folder


def derived(caffe, base, name, layers, method, **setting):
    experiment, out = load(base), base.with_name(name)
    plan = decide(experiment, (50, 100), layers, method)
    derive(experiment, plan, experiment.weights_path(100), out, Setting(**setting))
    return train(caffe, out)


@pytest.mark.parametrize("second", ["residual", "extension", "skip"])
def test_two_trained_generations_fold_to_the_base_with_the_same_accuracy_and_loss(
    second, caffe, digits_root
):
    base = train(caffe, digits_root / "baseline")
    first = derived(caffe, base, "derived1", ["conv1", "conv2", "ip"], "residual")
    layers = ["conv1_split2_residual_pre", "conv1_reorder", "conv2_split1", "conv3"]
    trained = derived(caffe, first, "derived2", layers, second)
    weights = trained / "digits_iter_100.caffemodel"
    out = digits_root / "folded"

    result = write_fold(load(trained), weights, out)

    assert result.deviation < 1e-6
    for name in ("train_val.prototxt", "deploy.prototxt"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    before = outputs_in_test(caffe, trained / "train_val.prototxt", weights)
    after = outputs_in_test(caffe, out / "train_val.prototxt", out / "folded.caffemodel")
    assert before["accuracy"] > 0.15
    assert after == pytest.approx(before, rel=1e-4)


def test_statistics_of_a_trained_net_fold_into_its_convolutions(caffe, digits_root):
    base = digits_root / "baseline"
    net = base / "train_val.prototxt"
    relu = re.search(r"layer \{\s*name: \"relu2\"", net.read_text())
    normed = (
        'layer { name: "bn2" type: "BatchNorm" bottom: "conv2" top: "conv2" }\n'
        'layer { name: "scale2" type: "Scale" bottom: "conv2" top: "conv2"\n'
        "  scale_param { bias_term: true } }\n"
    )
    text = net.read_text()
    net.write_text(text[: relu.start()] + normed + text[relu.start() :])
    (base / "deploy.prototxt").unlink()
    train(caffe, base)
    trained = derived(caffe, base, "derived1", ["conv2"], "residual")
    weights, out = trained / "digits_iter_100.caffemodel", digits_root / "folded"

    write_fold(load(trained), weights, out, Scope(batch_norms=True))

    assert (out / "train_val.prototxt").read_text() == text
    before = outputs_in_test(caffe, trained / "train_val.prototxt", weights)
    after = outputs_in_test(caffe, out / "train_val.prototxt", out / "folded.caffemodel")
    assert after == pytest.approx(before, rel=1e-4)
