"""Momentum in the real Caffe: a derived net goes on from its base's state as the base does."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from caffesplit.engines import caffe_binary, job
from caffesplit.experiment import load
from caffesplit.formats import caffemodel, prototxt, solverstate, trainlog
from caffesplit.split.forms import Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive

SOLVERS = {
    "SGD": "",
    "Nesterov": "",
    "AdaGrad": "base_lr: 0.003 momentum: 0",
    "RMSProp": "base_lr: 0.0003 momentum: 0 rms_decay: 0.9",
    "AdaDelta": "base_lr: 0.5 delta: 1e-6",
    "Adam": "base_lr: 0.0003 momentum2: 0.99",
}
EXACT = Setting(noise=0, new_lr_mult=0, new_decay_mult=0)
"""With the extension form, a derived net that stays its base for ever."""


def baseline(caffe, root, kind="SGD", more=""):
    """An experiment trained for 100 iterations, with snapshots and states at 50 and 100.

    It has no dropout, whose draws depend on how many weights were filled before it.
    """
    folder = root / "baseline"
    net, solver = folder / "train_val.prototxt", folder / "solver.prototxt"
    net.write_text(re.sub(r'layer \{\n  name: "drop3".*?\n\}\n', "", net.read_text(), flags=re.S))
    tree = prototxt.load(solver).without("test_iter").without("test_interval")
    text = f'display: 1 average_loss: 1 type: "{kind}" {SOLVERS[kind]} {more}'
    fields = prototxt.parse(text).fields
    for field in fields:
        tree = tree.without(field.name)
    tree = tree.appended(*fields)
    solver.write_bytes(prototxt.encode(tree))
    caffe_binary.train(job.prepare(load(folder)), caffe)
    return folder


def extended(base, iteration=50, setting=EXACT, **kwargs):
    """All layers with kernels extended, the momentum of `iteration` carried."""
    out = base.with_name("derived1")
    experiment = load(base)
    plan = decide(experiment, (50, 100), experiment.kernel_layers, "extension")
    start = experiment.weights_path(iteration)
    derive(experiment, plan, start, out, setting, momentum=True, **kwargs)
    return out


def resumed(caffe, folder, state):
    """The losses of a training that goes on from a state, as a user of Caffe calls it."""
    done = subprocess.run(
        [caffe, "train", f"--solver={folder}/solver.prototxt", f"--snapshot={state}"],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    log = state.with_name("resumed.log")
    log.write_text(done.stderr)
    return {row.iteration: row.loss for row in trainlog.read(log).train}


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_frozen_extension_goes_on_exactly_as_its_base(caffe, digits_root, kind):
    base = baseline(caffe, digits_root, kind)
    out = extended(base)
    expected = resumed(caffe, base, base / "digits_iter_50.solverstate")
    assert list(expected) == list(range(50, 101))
    found = resumed(caffe, out, out / "init.solverstate")
    assert found == pytest.approx(expected, rel=1e-4)

    before = caffemodel.read(base / "digits_iter_100.caffemodel")["conv2"][0]
    after = caffemodel.read(out / "digits_iter_100.caffemodel")
    parts = np.concatenate([after["conv2_split1"][0], after["conv2_split2"][0]])
    np.testing.assert_allclose(np.sort(parts, axis=None), np.sort(before, axis=None), atol=1e-5)


def test_with_an_empty_history_it_would_not(caffe, digits_root):
    base = baseline(caffe, digits_root)
    out = extended(base)
    state = solverstate.read(out / "init.solverstate")
    empty = replace(state, history=tuple(map(np.zeros_like, state.history)))
    solverstate.write(out / "empty.solverstate", empty)
    expected = resumed(caffe, base, base / "digits_iter_50.solverstate")
    found = resumed(caffe, out, out / "empty.solverstate")
    assert found[50] == pytest.approx(expected[50], rel=1e-4)
    assert found[60] != pytest.approx(expected[60], rel=1e-3)


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_snapshots_in_hdf5_carry_it_too_and_so_do_starts(caffe, digits_root, kind, hdf5):
    base = baseline(caffe, digits_root, kind, "snapshot_format: HDF5")
    out = extended(base, hdf5=hdf5)
    expected = resumed(caffe, base, base / "digits_iter_50.solverstate.h5")
    found = resumed(caffe, out, out / f"init.solverstate{'.h5' if hdf5 else ''}")
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("hdf5", [False, True])
def test_training_a_derived_experiment_takes_up_its_state(caffe, digits_root, hdf5):
    out = extended(baseline(caffe, digits_root), hdf5=hdf5)
    outcome = caffe_binary.train(job.prepare(load(out)), caffe)
    assert outcome.iterations == 100
    assert [path.name for path in outcome.snapshots] == ["digits_iter_100.caffemodel"]
    assert trainlog.read(out / "train.log").train[0].iteration == 50


def test_steps_of_the_learning_rate_go_on_where_the_base_was(caffe, digits_root):
    policy = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 10 stepvalue: 20'
    out = extended(baseline(caffe, digits_root, more=policy))
    caffe_binary.train(job.prepare(load(out)), caffe)
    rates = {row.lr for row in trainlog.read(out / "train.log").train}
    assert max(rates) == pytest.approx(0.00003)


def test_a_derived_net_of_a_derived_net_carries_the_momentum_of_its_parts(caffe, digits_root):
    base = baseline(caffe, digits_root, "Adam")
    first = extended(base, setting=Setting(noise=0))
    caffe_binary.train(job.prepare(load(first)), caffe)
    again = LayerPlan("conv2_split2", "extension", "half", (0, 3), (1, 2, *range(4, 16)))
    second = base.with_name("derived2")
    derive(
        load(first),
        Plan((again,), (50, 100), (50, 100)),
        first / "digits_iter_100.caffemodel",
        second,
        EXACT,
        ["max_iter=150"],
        momentum=True,
    )
    solver = first / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 100", "max_iter: 150"))
    expected = resumed(caffe, first, first / "digits_iter_100.solverstate")
    found = resumed(caffe, second, second / "init.solverstate")
    assert list(found) == list(range(100, 151))
    assert found == pytest.approx(expected, rel=1e-4)
