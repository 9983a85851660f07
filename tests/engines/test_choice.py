"""Which engine runs a job."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from caffesplit.engines import choice, testing
from caffesplit.engines.choice import Caffe, Torch, choose
from caffesplit.engines.job import prepare
from caffesplit.engines.timing import Timing
from caffesplit.errors import EngineError
from caffesplit.experiment import load


@pytest.fixture
def no_caffe(monkeypatch, tmp_path):
    for name in ("CAFFE", "CAFFE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)


def test_auto_is_caffe_where_there_is_one(caffe):
    assert choose(caffe=str(caffe)) == Caffe(caffe)


def test_auto_is_torch_where_there_is_no_caffe(no_caffe):
    assert choose(precision="tf32") == Torch("tf32")


def test_a_caffe_that_is_named_and_missing_is_an_error_though_torch_is_there(no_caffe):
    with pytest.raises(EngineError, match='--caffe names "/no/caffe"'):
        choose(caffe="/no/caffe")


def test_without_any_engine_both_ways_out_are_told(no_caffe, no_torch):
    with pytest.raises(EngineError) as caught:
        choose()
    assert str(caught.value).startswith("no Caffe, expected its binary")
    assert caught.value.remedy.endswith(
        "tools/install_caffe.py brings one without root.\nOr do without Caffe: pip install torch"
    )


def test_torch_that_is_asked_for_and_missing_is_an_error_though_caffe_is_there(no_torch):
    with pytest.raises(EngineError) as caught:
        choose("torch")
    assert str(caught.value) == (
        "torch is not installed, expected it for --engine torch\nInstall it: pip install torch"
    )


def test_choosing_torch_imports_nothing_of_it(no_caffe):
    loaded = {name for name in sys.modules if name.startswith("torch")}
    choose()
    assert {name for name in sys.modules if name.startswith("torch")} == loaded


def test_both_engines_train_test_and_time_the_same_job(caffe, digits_root):
    experiment = load(digits_root / "baseline", digits_root)
    net = digits_root / "baseline/train_val.prototxt"
    weights = digits_root / "baseline/digits_iter_100.caffemodel"
    trained, tested, timed = [], [], []
    for engine in (Caffe(caffe), Torch()):
        trained.append(engine.train(prepare(experiment, force=True), lambda record: None))
        asked = testing.Test(net, weights, digits_root, 10)
        tested.append(engine.test(asked, lambda done, total: None))
        timed.append(engine.time(Timing(net, digits_root, 2), lambda done, total: None))

    assert [outcome.iterations for outcome in trained] == [100, 100]
    assert [outcome.snapshots[-1] for outcome in trained] == [weights, weights]
    assert [[name for name, _ in outputs.values] for outputs in tested] == [
        ["accuracy", "loss"]
    ] * 2
    assert [name for name, *_ in timed[0].layers] == [name for name, *_ in timed[1].layers]


def test_of_one_training_both_engines_measure_the_same_outputs(caffe, digits_root):
    experiment = load(digits_root / "baseline", digits_root)
    outcome = Caffe(caffe).train(prepare(experiment), lambda record: None)
    asked = testing.Test(
        digits_root / "baseline/train_val.prototxt", Path(outcome.snapshots[-1]), digits_root, 10
    )

    ours, theirs = (
        dict(engine.test(asked, lambda done, total: None).values)
        for engine in (Torch(), Caffe(caffe))
    )

    assert ours == pytest.approx(theirs, rel=1e-4)
