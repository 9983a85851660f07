"""The torch engine by itself: logs, snapshots, signals, and what goes wrong."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import old_experiment
import pytest
import torch

from caffesplit import experiment
from caffesplit.engines import job, testing, torch_device, torch_test, torch_time, torch_train
from caffesplit.engines.caffe_random import Random
from caffesplit.engines.job import Job, Outcome
from caffesplit.engines.timing import Timing
from caffesplit.engines.torch_feed import FedNet, Place, read_net
from caffesplit.errors import CaffesplitError, EngineError, NetError, TrainingError
from caffesplit.formats import caffemodel, snapshots, solverstate, trainlog
from caffesplit.formats.trainlog import Event, TrainRow
from caffesplit.net.solver import State


def set_solver(root: Path, **fields: object) -> None:
    solver = root / "baseline/solver.prototxt"
    text = solver.read_text()
    for name, value in fields.items():
        text = re.sub(rf"(?m)^{name}:.*\n", "", text) + f"{name}: {value}\n"
    solver.write_text(text)


def set_net(root: Path, old: str, new: str) -> None:
    net = root / "baseline/train_val.prototxt"
    text = net.read_text()
    assert old in text
    net.write_text(text.replace(old, new))


def prepared(root: Path, **options: object) -> Job:
    return job.prepare(experiment.load(root / "baseline", root), **options)


def train(root: Path, observe=lambda record: None, **options: object) -> Outcome:
    return torch_train.train(prepared(root, **options), observe, device="cpu")


def error_of(root: Path, observe=lambda record: None, **options: object) -> CaffesplitError:
    with pytest.raises(CaffesplitError) as caught:
        train(root, observe, **options)
    return caught.value


def read(root: Path, iteration: int) -> dict[str, list[np.ndarray]]:
    return dict(caffemodel.read(root / f"baseline/digits_iter_{iteration}.caffemodel"))


def at_iteration(number: int, *signals: int):
    """An observer that sends this process signals when that iteration is printed."""

    def observe(record) -> None:
        if isinstance(record, TrainRow) and record.iteration == number:
            for each in signals:
                os.kill(os.getpid(), each)

    return observe


# Log and snapshots


def test_the_digits_are_learnt_and_snapshots_appear(digits_root):
    seen = []
    outcome = train(digits_root, seen.append)
    log = trainlog.read(digits_root / "baseline/train.log")
    assert log.finished
    assert log.train[-1].loss < 0.8 * log.train[0].loss
    assert outcome.accuracy == log.test[-1].outputs["accuracy"] > 0.5
    assert (outcome.iterations, outcome.loss, outcome.stopped) == (100, log.train[-1].loss, False)
    found = snapshots.find(digits_root / "baseline/digits")
    assert outcome.snapshots == tuple(each.path for each in found)
    assert [each.iteration for each in found] == [50, 100]
    assert seen == [*trainlog.records(digits_root / "baseline/train.log")]


def test_the_same_seed_gives_the_same_training(digits_root):
    set_solver(digits_root, random_seed=7, max_iter=50)
    train(digits_root)
    first = read(digits_root, 50)
    train(digits_root, force=True)
    for name, blobs in read(digits_root, 50).items():
        assert all(map(np.array_equal, blobs, first[name]))
    assert (digits_root / "baseline/train.log.1").exists()


def test_a_run_that_goes_on_appends_to_its_log_and_starts_the_data_over(digits_root):
    set_solver(digits_root, max_iter=50)
    train(digits_root)
    set_solver(digits_root, max_iter=100)
    state = digits_root / "baseline/digits_iter_50.solverstate"
    outcome = train(digits_root, snapshot=state)
    log = trainlog.read(digits_root / "baseline/train.log")
    assert [row.iteration for row in log.train] == list(range(0, 101, 10))
    assert outcome.iterations == 100
    assert not (digits_root / "baseline/train.log.1").exists()
    events = [event.kind for event in log.events]
    assert "resume" in events


def test_snapshots_that_are_replaced_are_removed_before_anything_is_trained(digits_root):
    train(digits_root)
    set_solver(digits_root, max_iter=30, snapshot=20)
    outcome = train(digits_root, force=True)
    found = [each.iteration for each in snapshots.find(digits_root / "baseline/digits")]
    assert found == [20, 30]
    assert outcome.iterations == 30


def test_no_snapshot_after_training_if_the_solver_says_so(digits_root):
    set_solver(digits_root, max_iter=30, snapshot=20, snapshot_after_train="false")
    train(digits_root)
    found = [each.iteration for each in snapshots.find(digits_root / "baseline/digits")]
    assert found == [20]


def test_snapshots_name_the_weights_as_caffe_does_and_say_what_the_net_is(digits_root):
    set_solver(digits_root, max_iter=10, snapshot=10, type='"Adam"')
    train(digits_root)
    state = solverstate.read(digits_root / "baseline/digits_iter_10.solverstate")
    assert state.learned_net == "baseline/digits_iter_10.caffemodel"
    assert state.iteration == 10
    shapes = [blob.shape for blobs in read(digits_root, 10).values() for blob in blobs]
    assert [row.shape for row in state.history] == shapes * 2
    index = caffemodel.index(digits_root / state.learned_net)
    assert index.name == "digits"
    assert [layer.type for layer in index.layers][:3] == ["Data", "Convolution", "ReLU"]


def test_iter_size_adds_up_what_a_larger_batch_has_at_once(digits_root):
    set_net(digits_root, 'type: "Dropout"', 'type: "Power"')
    set_solver(digits_root, max_iter=10, snapshot=10, random_seed=3, iter_size=3)
    train(digits_root)
    in_parts = read(digits_root, 10)
    set_solver(digits_root, iter_size=1)
    set_net(digits_root, "batch_size: 4\n", "batch_size: 12\n")
    train(digits_root, force=True)
    for name, blobs in read(digits_root, 10).items():
        for one, other in zip(blobs, in_parts[name], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_several_nets_are_tested_and_their_data_is_not_rewound(digits_root):
    set_solver(digits_root, max_iter=20, snapshot=0, test_interval=10, base_lr=1e-20)
    solver = digits_root / "baseline/solver.prototxt"
    solver.write_text(
        solver.read_text().replace("test_iter: 10\n", "test_iter: 4\ntest_iter: 10\n")
    )
    train(digits_root)
    rows = trainlog.read(digits_root / "baseline/train.log").test
    assert [(row.iteration, row.net) for row in rows] == [
        (iteration, net) for iteration in (0, 10, 20) for net in (0, 1)
    ]
    # Four batches of ten go on where the last test stopped; ten of ten are the same each time.
    assert len({row.outputs["loss"] for row in rows if row.net == 1}) == 1
    assert len({row.outputs["loss"] for row in rows if row.net == 0}) == 3


def test_an_experiment_of_2014_trains_as_it_stands(digits_template, tmp_path):
    folder = old_experiment.make(tmp_path / "old")
    (folder / "data").symlink_to(digits_template / "data")
    planned = job.prepare(experiment.load(folder / "old_solver.prototxt"))
    outcome = torch_train.train(planned, device="cpu")
    assert [path.name for path in outcome.snapshots] == [
        "old_iter_20.caffemodel",
        "old_iter_40.caffemodel",
    ]
    log = trainlog.read(folder / "train.log")
    assert log.train[-1].loss < log.train[0].loss


def test_weights_that_the_solver_names_are_taken_up(digits_root):
    set_solver(digits_root, max_iter=10, snapshot=10)
    train(digits_root)
    (digits_root / "baseline/digits_iter_10.caffemodel").rename(digits_root / "w.caffemodel")
    set_solver(digits_root, weights='"w.caffemodel"', base_lr=1e-30)
    train(digits_root, force=True)
    after = read(digits_root, 10)
    for name, blobs in caffemodel.read(digits_root / "w.caffemodel").items():
        assert all(map(np.array_equal, blobs, after[name]))
    assert "Finetuning from w.caffemodel" in (digits_root / "baseline/train.log").read_text()


def test_gpu_mode_without_a_gpu_is_noted(digits_root):
    set_solver(digits_root, max_iter=10, solver_mode="GPU")
    train(digits_root)
    log = (digits_root / "baseline/train.log").read_text()
    assert "] solver_mode: GPU is not followed, since torch sees no GPU" in log


# Signals


def test_an_interrupt_takes_a_snapshot_and_stops(digits_root):
    before = signal.getsignal(signal.SIGINT)
    outcome = train(digits_root, at_iteration(20, signal.SIGINT))
    assert outcome.stopped
    assert outcome.iterations == 21
    assert outcome.snapshots[-1].name == "digits_iter_21.caffemodel"
    log = (digits_root / "baseline/train.log").read_text()
    assert "Optimization stopped early." in log
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_test_says_so(digits_root):
    set_solver(digits_root, test_interval=10, max_iter=20)
    solver = digits_root / "baseline/solver.prototxt"
    solver.write_text(solver.read_text().replace("test_iter: 10\n", "test_iter: 100000\n"))
    previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        outcome = train(digits_root)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert outcome.stopped
    assert "Test interrupted." in (digits_root / "baseline/train.log").read_text()


def test_a_hangup_takes_a_snapshot_and_goes_on(digits_root):
    outcome = train(digits_root, at_iteration(20, signal.SIGHUP))
    assert not outcome.stopped
    assert outcome.snapshots[0].name == "digits_iter_21.caffemodel"
    assert outcome.iterations == 100


@pytest.mark.parametrize(
    ("signals", "name"),
    [((signal.SIGINT, signal.SIGINT), "SIGINT"), ((signal.SIGTERM,), "SIGTERM")],
)
def test_a_second_interrupt_and_a_termination_end_the_run_at_once(digits_root, signals, name):
    error = error_of(digits_root, at_iteration(20, *signals))
    assert isinstance(error, TrainingError)
    assert str(error).startswith(
        f"{digits_root}/baseline/train.log: the training ended after iteration 20 "
        f"(killed by {name}); its last words:\n"
    )
    assert not list((digits_root / "baseline").glob("*_iter_*"))


# What goes wrong


def test_a_loss_that_is_no_number_ends_the_run_with_a_snapshot(digits_root):
    set_solver(digits_root, base_lr=1e30)
    error = error_of(digits_root)
    assert isinstance(error, TrainingError)
    assert "training diverged: the loss is nan since iteration 10, expected" in str(error)
    assert error.exit_code == 1
    assert [each.iteration for each in snapshots.find(digits_root / "baseline/digits")] == [10]


def test_a_loss_that_nobody_looks_at_is_looked_at_now_and_then(digits_root):
    set_solver(digits_root, base_lr=1e30, display=0, max_iter=1000000000)
    error = error_of(digits_root)
    assert "training diverged: the loss is nan since iteration 99, expected" in str(error)
    assert snapshots.find(digits_root / "baseline/digits")[-1].iteration == 99


def test_a_net_without_a_loss_is_refused(digits_root):
    set_net(digits_root, 'type: "SoftmaxWithLoss"', 'type: "Accuracy"')
    assert str(error_of(digits_root)).startswith(
        f"{digits_root}/baseline/train_val.prototxt: net 'digits' has no loss to train by, "
        "expected a layer whose "
    )


@pytest.mark.parametrize(
    ("file", "right", "wrong", "found", "more"),
    [
        ("solver", "momentum", "momentun", "SolverParameter has no 'momentun' in BVLC Caffe", ""),
        ("train_val", "lr_mult", "lr_mul", "ParamSpec has no 'lr_mul' in BVLC Caffe", "8"),
    ],
)
def test_a_field_that_caffe_has_not_is_refused_as_caffe_does(
    digits_root, file, right, wrong, found, more
):
    """Without it, another net would be trained, or in another way."""
    path = digits_root / f"baseline/{file}.prototxt"
    path.write_text(path.read_text().replace(right, wrong))
    message = str(error_of(digits_root))
    assert f"{path.name}:" in message
    assert f"{found}, which ends on it, expected what it has" in message
    assert f"Did you mean {right}? Correct it, or take it out." in message
    assert message.endswith(f" `caffesplit check` shows {more} such." if more else "caffe.")


def test_a_library_that_snapshots_need_is_missed_before_any_training(digits_root, monkeypatch):
    set_solver(digits_root, snapshot_format="HDF5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert str(error_of(digits_root)) == (
        "baseline/digits_iter_N.caffemodel.h5: "
        "the file is HDF5, and h5py is not installed\nInstall it: pip install h5py"
    )
    assert not (digits_root / "baseline/train.log").exists()


def test_a_disk_that_fills_up_ends_the_run_and_the_message_says_how_to_go_on(digits_root):
    set_solver(digits_root, max_iter=10, snapshot=10)
    train(digits_root)
    set_solver(digits_root, max_iter=30)
    state = "baseline/digits_iter_10.solverstate"
    command = f"{sys.executable} -m caffesplit train baseline --engine torch --snapshot {state}"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 60; {command}"],
        cwd=digits_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == TrainingError.exit_code
    assert re.fullmatch(
        f"caffesplit: {digits_root}/baseline: the training ended after iteration 20: "
        r"the output does not fit on the disk \(File too large, [\d,]+ bytes are free\), "
        "expected room for all of it\n"
        "Make room, or give an output on another disk.\n"
        f"It goes on from its last snapshot with --snapshot {digits_root}/{state}\n",
        done.stderr,
    )


def test_a_log_that_cannot_be_written_is_named(digits_root):
    message = str(error_of(digits_root, log=Path("/dev/full")))
    assert message.startswith(
        "/dev/full: the training ended before any training: "
        "the log cannot be written (No space left on device), expected a log that grows"
    )


def test_labels_that_are_no_classes_leave_an_earlier_runs_snapshots(digits_root):
    """Which `force` replaces only when a first batch has passed."""
    set_solver(digits_root, max_iter=10, snapshot=10, test_initialization="false")
    train(digits_root)
    set_net(digits_root, "num_output: 10", "num_output: 5")
    assert "0 to 4" in str(error_of(digits_root, force=True))
    assert len(snapshots.files(digits_root / "baseline/digits")) == 2


def test_a_log_that_cannot_be_written_leaves_an_earlier_runs_snapshots(digits_root):
    set_solver(digits_root, max_iter=10, snapshot=10)
    train(digits_root)
    assert "the log cannot" in str(error_of(digits_root, force=True, log=Path("/dev/full")))
    assert len(snapshots.files(digits_root / "baseline/digits")) == 2


def test_a_stop_before_the_first_batch_leaves_an_earlier_runs_snapshots(digits_root):
    set_solver(digits_root, max_iter=10, snapshot=10)
    train(digits_root)
    set_solver(digits_root, test_iter=1000)

    def stop_in_test(record) -> None:
        if isinstance(record, Event) and record.kind == "start":
            os.kill(os.getpid(), signal.SIGINT)

    outcome = train(digits_root, stop_in_test, force=True)
    assert (outcome.stopped, outcome.iterations, outcome.snapshots) == (True, 0, ())
    assert len(snapshots.files(digits_root / "baseline/digits")) == 2


def test_the_log_says_what_trains(digits_root):
    train(digits_root)
    log = (digits_root / "baseline/train.log").read_text()
    assert f"] PyTorch {torch.__version__} on the CPU\n" in log


def test_memory_that_is_not_there_is_a_message(digits_root):
    set_net(digits_root, "num_output: 32", "num_output: 2000000")
    done = subprocess.run(
        [sys.executable, "-m", "caffesplit", "train", "baseline", "--engine", "torch"],
        cwd=digits_root,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "(out of memory; a smaller batch_size needs less)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_net_may_force_gradients_of_what_is_frozen(digits_root):
    set_net(digits_root, 'name: "digits"\n', 'name: "digits"\nforce_backward: true\n')
    set_net(digits_root, "lr_mult: 1 ", "lr_mult: 0 ")
    net = read_net(digits_root / "baseline/train_val.prototxt")
    place = Place(torch.device("cpu"), digits_root)
    with FedNet(net, State("TRAIN"), place, Random(0)) as fed:
        assert {each.lr_mult for each in fed.net.parameters} == {0, 2}
        assert all(each.tensor.requires_grad for each in fed.net.parameters)


def test_a_second_training_of_a_solver_waits_for_the_first(digits_root):
    errors = []

    def observe(record):
        if not errors:
            with pytest.raises(EngineError) as caught:
                torch_train.train(planned, device="cpu")
            errors.append(str(caught.value))

    planned = prepared(digits_root)
    torch_train.train(planned, observe, device="cpu")
    assert "this solver is being trained with already" in errors[0]


def test_a_run_that_cannot_begin_writes_nothing_and_removes_nothing(digits_root):
    set_solver(digits_root, max_iter=10, snapshot=10)
    train(digits_root)
    before = sorted(path.name for path in (digits_root / "baseline").iterdir())
    set_net(digits_root, 'type: "Dropout"', 'type: "Rotation"')
    error = error_of(digits_root, force=True)
    assert isinstance(error, NetError)
    assert "Rotation" in str(error)
    assert sorted(path.name for path in (digits_root / "baseline").iterdir()) == before


def test_a_record_that_is_damaged_is_named_when_its_turn_comes(digits_root):
    data = digits_root / "data/digits_train_lmdb/data.mdb"
    content = bytearray(data.read_bytes())
    place = content.rindex(b"00000200")
    content[place + 8] = 0xFF
    data.write_bytes(content)
    message = str(error_of(digits_root))
    assert "digits_train_lmdb: record '00000200' is" in message


def test_a_gpu_that_is_not_there_is_an_error(digits_root):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError) as caught:
        torch_train.train(prepared(digits_root, gpu="0"))
    assert str(caught.value) == (
        "no device 'cuda:0'; this torch sees no GPU at all, expected a GPU that is there\n"
        "Train on the CPU: leave --gpu away."
    )
    with pytest.raises(EngineError) as caught:
        torch_device.chosen("auto", "0,1")
    assert str(caught.value) == (
        "2 GPUs and 1 process, expected a process for each\n"
        "torchrun --nproc_per_node=2 -m caffesplit train … starts them."
    )


@pytest.mark.parametrize(
    ("gpu", "device_id", "environment", "expected"),
    [
        (None, 0, {}, 0),
        (None, 2, {}, 2),
        (None, 7, {}, 0),
        ("1", 2, {}, 1),
        (None, 2, {"LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "3"}, 3),
        ("3,1", 2, {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 1),
    ],
)
def test_of_several_gpus_one_is_chosen_as_caffe_does(
    monkeypatch, gpu, device_id, environment, expected
):
    """A `device_id` that this machine has not gives its first GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert torch_device.chosen("auto", gpu, device_id) == torch.device("cuda", expected)


def test_coarser_numbers_are_there_for_the_asking_and_leave_no_trace(digits_root):
    set_solver(digits_root, max_iter=20, snapshot=0)
    before = torch.backends.cudnn.allow_tf32
    for precision in ("bfloat16", "tf32"):
        planned = prepared(digits_root, force=True)
        outcome = torch_train.train(planned, device="cpu", precision=precision)
        assert np.isfinite(outcome.loss)
    assert torch.backends.cudnn.allow_tf32 == before
    with pytest.raises(EngineError):
        torch_train.train(prepared(digits_root, force=True), device="cpu", precision="float8")


# Test and time


def test_a_trained_net_tests_as_its_log_says(digits_root):
    outcome = train(digits_root)
    net = digits_root / "baseline/train_val.prototxt"
    steps = []
    asked = testing.Test(net, outcome.snapshots[-1], digits_root, iterations=10)
    found = torch_test.run(asked, lambda done, total: steps.append((done, total)), device="cpu")
    assert dict(found.values)["accuracy"] == pytest.approx(outcome.accuracy, abs=1e-5)
    assert steps == [(done, 10) for done in range(1, 11)]


def test_every_layer_is_timed_forward_and_backward(digits_root):
    net = digits_root / "baseline/train_val.prototxt"
    times = torch_time.run(Timing(net, digits_root, iterations=3), device="cpu")
    names = [name for name, _, _ in times.layers]
    assert names[:3] == ["data", "conv1", "relu1"]
    assert all(forward > 0 for _, forward, _ in times.layers)
    backward = {name: time for name, _, time in times.layers}
    assert backward["conv1"] > 0 == backward["data"]
    assert times.forward == pytest.approx(sum(forward for _, forward, _ in times.layers))
    assert re.search(r"(?m)^ {5}conv1\tbackward: \S+ ms\.$", str(times))


def test_layers_that_a_program_would_feed_are_timed_on_zeros(tmp_path):
    net = tmp_path / "deploy.prototxt"
    net.write_text(
        'input: "data" input_shape { dim: 2 dim: 3 } layer { name: "ip" type: "InnerProduct" '
        'bottom: "data" top: "ip" inner_product_param { num_output: 2 } }'
    )
    times = torch_time.run(Timing(net, tmp_path, 1, "TEST"), device="cpu")
    assert [name for name, _, _ in times.layers] == ["input", "ip"]
