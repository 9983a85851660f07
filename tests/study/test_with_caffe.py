"""Derived experiments in the real Caffe: it loads them, tests them and trains them."""

from pathlib import Path

import numpy as np
import pytest
from real_caffe import outputs_in_test

from caffesplit.engines import caffe_binary, job
from caffesplit.experiment import load
from caffesplit.formats import caffemodel
from caffesplit.split.forms import Setting
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive


def train(caffe: Path, folder: Path) -> caffe_binary.Outcome:
    return caffe_binary.train(job.prepare(load(folder)), caffe)


@pytest.fixture
def baseline(caffe, digits_root):
    """A trained experiment with snapshots at 50 and 100."""
    train(caffe, digits_root / "baseline")
    return digits_root / "baseline"


def split(base, out, layers, method="residual", **setting):
    experiment = load(base)
    plan = decide(experiment, (50, 100), layers, method)
    return derive(experiment, plan, experiment.weights_path(100), out, Setting(**setting))


def test_extension_without_noise_tests_exactly_as_the_base(caffe, baseline):
    out = baseline.with_name("derived1")
    split(baseline, out, ["conv1", "conv2", "conv3"], "extension", noise=0)
    base = outputs_in_test(
        caffe, baseline / "train_val.prototxt", baseline / "digits_iter_100.caffemodel"
    )
    derived = outputs_in_test(caffe, out / "train_val.prototxt", out / "init.caffemodel")
    assert base["accuracy"] > 0.2
    assert derived == base


def test_residual_starts_somewhere_between_chance_and_the_base(caffe, baseline):
    out = baseline.with_name("derived1")
    split(baseline, out, ["conv3"])
    base = outputs_in_test(
        caffe, baseline / "train_val.prototxt", baseline / "digits_iter_100.caffemodel"
    )
    derived = outputs_in_test(caffe, out / "train_val.prototxt", out / "init.caffemodel")
    assert 0.1 < derived["accuracy"] <= base["accuracy"] + 0.05
    assert derived["loss"] != base["loss"]


@pytest.mark.parametrize("method", ["residual", "extension"])
def test_a_derived_net_trains_and_is_derived_again_its_new_layers_included(caffe, baseline, method):
    derived1, derived2 = baseline.with_name("derived1"), baseline.with_name("derived2")
    split(baseline, derived1, ["conv1", "conv3"], method)
    outcome = train(caffe, derived1)
    assert outcome.iterations == 100
    assert outcome.accuracy > 0.2
    added = "conv3_split2_residual_pre" if method == "residual" else "conv3_split2_extension"
    split(derived1, derived2, [added, "conv3_reorder", "conv2"], method)
    assert train(caffe, derived2).accuracy > 0.2


def test_multipliers_of_zero_freeze_the_added_layers_and_no_others(caffe, baseline):
    out = baseline.with_name("derived1")
    split(baseline, out, ["conv2"], new_lr_mult=0, new_decay_mult=0)
    train(caffe, out)
    before = caffemodel.read(out / "init.caffemodel")
    after = caffemodel.read(out / "digits_iter_100.caffemodel")
    moved = {name for name in before if not all(map(np.array_equal, before[name], after[name]))}
    assert moved == {"conv1", "conv2_split1", "conv2_split2", "conv3", "ip"}


def test_an_hdf5_snapshot_is_scored_and_split_like_any_other(caffe, digits_root):
    base = digits_root / "baseline"
    solver = base / "solver.prototxt"
    solver.write_text(solver.read_text() + "snapshot_format: HDF5\n")
    train(caffe, base)
    out = base.with_name("derived1")
    split(base, out, ["conv3"], "extension", noise=0)
    derived = outputs_in_test(caffe, out / "train_val.prototxt", out / "init.caffemodel")
    assert derived == outputs_in_test(
        caffe, base / "train_val.prototxt", base / "digits_iter_100.caffemodel.h5"
    )
