from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from caffesplit import experiment
from caffesplit.engines import caffe_binary, install, job
from caffesplit.engines.job import Job, Outcome
from caffesplit.errors import CaffesplitError, EngineError, NetError, OutputError, TrainingError
from caffesplit.formats import snapshots, solverstate, trainlog

# Finding it


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """A Caffe at every place that is looked at."""
    paths = {
        "--caffe": tmp_path / "given/caffe",
        "$CAFFE": tmp_path / "named/caffe-gpu",
        "$CAFFE_ROOT": tmp_path / "root/build/tools/caffe",
        "caffe": tmp_path / "path1/caffe",
        "caffe.bin": tmp_path / "path2/caffe.bin",
        "installed": tmp_path / "cache/caffesplit/caffe/bin/caffe",
    }
    for path in paths.values():
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    stamp = tmp_path / "cache/caffesplit/caffe" / install.STAMP
    stamp.write_text(f'{{"recipe": {install.RECIPE}}}')
    monkeypatch.setenv("CAFFE", str(paths["$CAFFE"]))
    monkeypatch.setenv("CAFFE_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("PATH", f"{tmp_path}/path1:{tmp_path}/path2")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return paths


def test_the_places_are_looked_at_in_their_order(places, monkeypatch):
    assert caffe_binary.find(str(places["--caffe"])) == places["--caffe"]
    assert caffe_binary.find() == places["$CAFFE"]
    monkeypatch.delenv("CAFFE")
    for place in ("$CAFFE_ROOT", "caffe", "caffe.bin", "installed"):
        assert caffe_binary.find() == places[place]
        places[place].unlink()


def test_an_unset_caffe_root_is_passed_over(places, monkeypatch):
    monkeypatch.delenv("CAFFE")
    monkeypatch.delenv("CAFFE_ROOT")
    assert caffe_binary.find() == places["caffe"]


def test_the_variable_may_name_a_program_on_the_path(places, monkeypatch):
    monkeypatch.setenv("CAFFE", "caffe.bin")
    assert caffe_binary.find() == places["caffe.bin"]


@pytest.mark.parametrize(("origin", "explicit"), [("--caffe", "/no/caffe"), ("$CAFFE", None)])
def test_a_caffe_that_was_named_and_is_not_there_is_an_error(places, monkeypatch, origin, explicit):
    monkeypatch.setenv("CAFFE", "/no/caffe")
    with pytest.raises(EngineError) as caught:
        caffe_binary.find(explicit)
    assert str(caught.value) == (
        f'{origin} names "/no/caffe", expected an executable file, or one on PATH\n'
        "Name the binary itself, as in build/tools/caffe."
    )


def test_without_any_the_error_lists_all_places_and_the_remedy(monkeypatch, tmp_path):
    for name in ("CAFFE", "CAFFE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    with pytest.raises(EngineError) as caught:
        caffe_binary.find()

    assert str(caught.value) == (
        "no Caffe, expected its binary, `caffe`, in one of these places\n"
        "    --caffe\n"
        "    $CAFFE\n"
        "    $CAFFE_ROOT/build/tools/caffe\n"
        "    caffe on PATH\n"
        "    caffe.bin on PATH\n"
        f"    {tmp_path}/caffesplit/caffe\n"
        "On Debian or Ubuntu (x86-64), tools/install_caffe.py brings one without root."
    )


# Training


def set_solver(root: Path, **fields: object) -> None:
    solver = root / "baseline/solver.prototxt"
    text = solver.read_text()
    for name, value in fields.items():
        text = re.sub(rf"(?m)^{name}:.*\n", "", text) + f"{name}: {value}\n"
    solver.write_text(text)


def prepared(root: Path, **options: Path | str) -> Job:
    return job.prepare(experiment.load(root / "baseline", root), **options)


def train(root: Path, caffe: Path, **options: Path | str) -> Outcome:
    return caffe_binary.train(prepared(root, **options), caffe)


def error_of(root: Path, caffe: Path, **options: Path | str) -> CaffesplitError:
    with pytest.raises(CaffesplitError) as caught:
        train(root, caffe, **options)
    return caught.value


def iterations(root: Path) -> list[int]:
    return [one.iteration for one in snapshots.find(root / "baseline/digits")]


def test_the_digits_are_learnt_and_snapshots_appear(caffe, digits_root):
    outcome = train(digits_root, caffe)

    log = trainlog.read(digits_root / "baseline/train.log")
    assert log.finished
    assert log.train[-1].loss < 0.8 * log.train[0].loss
    assert outcome.accuracy == log.test[-1].outputs["accuracy"] > 0.5
    assert outcome.loss == log.train[-1].loss
    assert outcome.iterations == 100
    assert not outcome.stopped
    assert iterations(digits_root) == [50, 100]
    assert outcome.snapshots == tuple(one.path for one in snapshots.find(outcome_prefix(outcome)))


def outcome_prefix(outcome: Outcome) -> str:
    return str(outcome.snapshots[0]).partition("_iter_")[0]


def test_the_observer_sees_what_the_log_holds(caffe, digits_root):
    seen: list[trainlog.Record] = []

    caffe_binary.train(prepared(digits_root), caffe, seen.append)

    log = trainlog.read(digits_root / "baseline/train.log")
    assert [row for row in seen if isinstance(row, trainlog.TrainRow)] == list(log.train)
    assert [row for row in seen if isinstance(row, trainlog.TestRow)] == list(log.test)
    assert [event for event in seen if isinstance(event, trainlog.Event)] == list(log.events)


def test_an_environment_that_silences_caffe_does_not_silence_the_log(
    caffe, digits_root, monkeypatch
):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.setenv("GLOG_logtostderr", "0")

    assert train(digits_root, caffe).iterations == 100


def test_an_earlier_log_is_kept_and_a_resumed_run_is_appended(caffe, digits_root):
    log = digits_root / "baseline/train.log"
    train(digits_root, caffe)
    first = log.read_bytes()

    state = digits_root / "baseline/digits_iter_50.solverstate"
    outcome = train(digits_root, caffe, snapshot=state, force=True)

    assert outcome.iterations == 100
    assert log.read_bytes().startswith(first)
    assert [row.iteration for row in trainlog.read(log).train] == list(range(0, 101, 10))

    train(digits_root, caffe, force=True)
    train(digits_root, caffe, force=True)

    assert log.with_name("train.log.1").read_bytes().startswith(first)
    assert log.with_name("train.log.2").exists()
    assert len(trainlog.read(log).superseded) == 0


def test_initial_weights_in_the_folder_are_taken_up(caffe, digits_root):
    trained = train(digits_root, caffe)
    trained.snapshots[-1].rename(digits_root / "baseline/init.caffemodel")

    again = train(digits_root, caffe, force=True)

    log = trainlog.read(digits_root / "baseline/train.log")
    assert "init.caffemodel" in next(e.value for e in log.events if e.kind == "finetune")
    assert log.test[0].outputs["accuracy"] == trained.accuracy
    assert again.iterations == 100


def test_an_initial_solverstate_in_the_folder_is_taken_up_before_weights(caffe, digits_root):
    train(digits_root, caffe)
    folder = digits_root / "baseline"
    (folder / "digits_iter_50.solverstate").rename(folder / "init.solverstate")
    (folder / "init.caffemodel").write_bytes(b"not looked at")
    set_solver(digits_root, snapshot_prefix='"baseline/again"')

    assert train(digits_root, caffe).iterations == 100
    assert "Resuming from" in (folder / "train.log").read_text()


def test_the_snapshots_folder_is_created(caffe, digits_root):
    set_solver(digits_root, snapshot_prefix='"baseline/new/folder/net"')

    train(digits_root, caffe)

    assert (digits_root / "baseline/new/folder/net_iter_100.caffemodel").exists()


def test_a_job_runs_wherever_it_is_called_from(caffe, digits_root, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert train(digits_root, caffe).iterations == 100
    assert list((tmp_path / "elsewhere").iterdir()) == []


# Runs that go wrong


def test_a_diverged_run_is_ended_and_reported(caffe, digits_root):
    set_solver(digits_root, base_lr=1e6, max_iter=1_000_000)
    start = time.monotonic()

    error = error_of(digits_root, caffe)

    assert time.monotonic() - start < 20
    assert isinstance(error, TrainingError)
    assert re.fullmatch(
        rf"{digits_root}/baseline/train.log: training diverged: the loss is nan since iteration "
        rf"\d+, expected a loss that falls\n"
        rf"Lower base_lr in {digits_root}/baseline/solver.prototxt, or set clip_gradients.",
        str(error),
    )


def test_a_loss_that_is_stuck_where_softmax_saturates_is_divergence(digits_root, tmp_path):
    script = speaking_caffe(
        tmp_path,
        "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 0, loss = 2.3'",
        "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 10, loss = 87.3365'",
        "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 20, loss = 87.3365'",
    )
    assert "the loss is 87.3365 since iteration 10" in str(error_of(digits_root, script))


def test_a_loss_that_recovers_is_no_divergence(digits_root, tmp_path):
    script = speaking_caffe(
        tmp_path,
        "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 0, loss = 87.3365'",
        "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 10, loss = 2.3'",
    )
    assert train(digits_root, script).loss == 2.3


def speaking_caffe(folder: Path, *lines: str) -> Path:
    """A program that says what a real Caffe cannot be brought to say at will."""
    script = folder / "caffe"
    script.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    script.chmod(0o755)
    return script


def test_a_crash_is_reported_with_the_logs_own_last_words(caffe, digits_root):
    net = digits_root / "baseline/train_val.prototxt"
    net.write_text(net.read_text().replace('bottom: "pool3"\n  top: "ip"', 'top: "ip"'))

    error = error_of(digits_root, caffe)

    assert isinstance(error, TrainingError)
    assert str(error).startswith(
        f"{digits_root}/baseline/train.log: Caffe ended before any training (exit status -6); "
        "its last words:\n"
    )
    assert "Creating Layer ip" in str(error)
    assert "Check failed: " in str(error).splitlines()[-1]
    assert "Check failure stack trace" in (digits_root / "baseline/train.log").read_text()


def test_a_run_that_was_killed_says_by_what_and_when(digits_root, tmp_path):
    script = speaking_caffe(
        tmp_path,
        "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 40, loss = 2.3'",
        "echo 'I1231 23:59:59.000001 7 sgd_solver.cpp:112] Iteration 40, lr = 0.1'",
        "kill -9 $$",
    )
    assert str(error_of(digits_root, script)) == (
        f"{digits_root}/baseline/train.log: Caffe ended after iteration 40 (killed by SIGKILL); "
        "its last words:\n"
        "    I1231 23:59:59.000001 7 solver.cpp:239] Iteration 40, loss = 2.3\n"
        "    I1231 23:59:59.000001 7 sgd_solver.cpp:112] Iteration 40, lr = 0.1"
    )


def test_a_log_of_any_bytes_is_kept_as_it_is(digits_root, tmp_path):
    script = speaking_caffe(tmp_path, r"printf 'a\377\000b\r\nno newline'")

    with pytest.raises(TrainingError):
        train(digits_root, script)

    assert (digits_root / "baseline/train.log").read_bytes() == b"a\xff\0b\r\nno newline"


def test_a_caffe_without_cuda_that_is_asked_for_a_gpu_says_what_to_do(caffe, digits_root):
    if "GPU" in subprocess.run([caffe, "device_query"], capture_output=True, text=True).stdout:
        pytest.skip("this Caffe has CUDA")
    set_solver(digits_root, solver_mode="GPU")

    error = error_of(digits_root, caffe)

    assert isinstance(error, EngineError)
    assert str(error).startswith(
        f"{digits_root}/baseline/train.log: this Caffe was built without CUDA, and is asked for "
        "a GPU, expected solver_mode: CPU, and no --gpu\n"
        f"Set it in {digits_root}/baseline/solver.prototxt, name a Caffe with CUDA (this is "
        f"{caffe}), or take PyTorch: --engine torch.\n"
    )


def test_a_file_that_is_no_program_is_named(digits_root, tmp_path):
    script = tmp_path / "caffe"
    script.write_bytes(b"\x7fELF nothing")
    script.chmod(0o755)

    assert str(error_of(digits_root, script)) == (
        f"{script}: Caffe does not start (Exec format error), "
        "expected an executable file for this machine"
    )
    assert not (digits_root / "baseline/train.log").exists()


# What is noticed before anything starts


def test_a_missing_data_source_is_named_where_it_stands(digits_root):
    net = digits_root / "baseline/train_val.prototxt"
    net.write_text(net.read_text().replace("digits_test_lmdb", "digits_text_lmdb"))

    with pytest.raises(NetError) as caught:
        prepared(digits_root)

    line = net.read_text().splitlines().index('    source: "data/digits_text_lmdb"') + 1
    assert str(caught.value) == (
        f'{net}:{line}:5: source "data/digits_text_lmdb" does not exist, '
        f"expected a file or folder at {digits_root}/data/digits_text_lmdb\n"
        '        source: "data/digits_text_lmdb"\n        ^\n'
        "Bring it there, correct the path, or give the folder it starts from: --root DIR."
    )
    assert not (digits_root / "baseline/train.log").exists()


def test_a_source_that_no_phase_of_this_job_reads_may_be_missing(digits_root):
    net = digits_root / "baseline/train_val.prototxt"
    net.write_text(net.read_text().replace("digits_test_lmdb", "digits_text_lmdb"))
    solver = digits_root / "baseline/solver.prototxt"
    solver.write_text(re.sub("test_i.*\n", "", solver.read_text()))

    assert prepared(digits_root).weights is None


def test_weights_and_a_snapshot_exclude_each_other(digits_root):
    file = digits_root / "baseline/solver.prototxt"
    with pytest.raises(EngineError) as caught:
        prepared(digits_root, weights=file, snapshot=file)
    assert str(caught.value) == (
        "both weights and a snapshot to start from, expected one of them\n"
        "A snapshot (.solverstate) names its own weights."
    )


def test_weights_that_do_not_exist_are_named(digits_root):
    with pytest.raises(EngineError) as caught:
        prepared(digits_root, weights=digits_root / "none.caffemodel")
    assert str(caught.value) == (
        f"{digits_root}/none.caffemodel: no such file, expected weights or a snapshot"
    )


def test_a_net_that_caffe_would_look_for_elsewhere_is_named(digits_root):
    set_solver(digits_root, net='"moved/away/baseline/train_val.prototxt"')
    with pytest.raises(NetError, match="which is not where the solver names it"):
        prepared(digits_root)


def test_a_log_that_cannot_be_written_is_named(digits_root, tmp_path):
    script = speaking_caffe(tmp_path, "exit 0")
    (digits_root / "folder").mkdir()

    with pytest.raises(OutputError) as caught:
        train(digits_root, script, log=digits_root / "folder")

    assert str(caught.value) == (
        f"{digits_root}/folder: the log cannot be written (Is a directory), "
        "expected a file in a writable folder\nGive another: --log FILE."
    )


# Signals, through the command line


CLI = (sys.executable, "-c", "from caffesplit.cli.main import main; main()")


@contextmanager
def running(root: Path, caffe: Path) -> Iterator[subprocess.Popen[str]]:
    """`caffesplit train baseline`, called from `root`, at its 20th iteration."""
    with subprocess.Popen(
        [*CLI, "train", "baseline", "--caffe", str(caffe)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for(root, "Iteration 20 ")
            yield process
        finally:
            process.terminate()


@pytest.fixture
def long_run(caffe, digits_root):
    """A run that would take minutes."""
    set_solver(digits_root, max_iter=1_000_000, snapshot=1_000_000, test_interval=1_000_000)
    with running(digits_root, caffe) as process:
        yield process


def wait_for(root: Path, words: str) -> None:
    log = root / "baseline/train.log"
    deadline = time.monotonic() + 20
    while not (log.exists() and words in log.read_text()):
        assert time.monotonic() < deadline, f"{words!r} is not in the log"
        time.sleep(0.02)


def no_caffe_is_left(root: Path) -> bool:
    """Whether no process works in `root`."""
    folders = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            folders.append(str((process / "cwd").readlink()))
    return str(root.resolve()) not in folders


def test_ctrl_c_takes_a_snapshot_and_ends_the_run(long_run, digits_root):
    long_run.send_signal(signal.SIGINT)
    output, errors = long_run.communicate(timeout=20)

    assert (long_run.returncode, errors) == (130, "")
    (iteration,) = iterations(digits_root)
    assert f"baseline: {iteration} iterations in " in output
    assert f"last snapshot: baseline/digits_iter_{iteration}.caffemodel" in output
    assert "Optimization stopped early" in (digits_root / "baseline/train.log").read_text()
    state = solverstate.read(digits_root / f"baseline/digits_iter_{iteration}.solverstate")
    assert state.iteration == iteration
    assert no_caffe_is_left(digits_root)


def test_sighup_takes_a_snapshot_and_the_run_goes_on(long_run, digits_root):
    long_run.send_signal(signal.SIGHUP)

    wait_for(digits_root, "Snapshotting solver state")
    assert long_run.poll() is None


def test_sigterm_ends_the_run_with_status_1(long_run, digits_root):
    long_run.send_signal(signal.SIGTERM)
    _, errors = long_run.communicate(timeout=20)

    assert long_run.returncode == 1
    assert re.search(r"Caffe ended after iteration \d+ \(killed by SIGTERM\)", errors)
    assert no_caffe_is_left(digits_root)


def test_a_second_ctrl_c_kills_a_caffe_that_does_not_stop(digits_root, tmp_path):
    script = speaking_caffe(
        tmp_path,
        "trap '' INT",
        "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 20 , loss = 2.3'",
        "while true; do sleep 0.1; done",
    )
    with running(digits_root, script) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None

        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "killed by SIGKILL" in errors
    assert no_caffe_is_left(digits_root)


def test_closing_the_terminal_takes_a_snapshot_and_the_run_goes_on(caffe, digits_root):
    set_solver(digits_root, max_iter=1_000_000, snapshot=1_000_000, test_interval=1_000_000)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["setsid", "-c", *CLI, "train", "baseline", "--caffe", str(caffe)],
        cwd=digits_root,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        try:
            os.close(theirs)
            wait_for(digits_root, "Iteration 20 ")

            os.close(ours)

            wait_for(digits_root, "Snapshotting solver state")
            seen = trainlog.read(digits_root / "baseline/train.log").train[-1].iteration
            wait_for(digits_root, f"Iteration {seen + 1000} ")
            assert process.poll() is None
        finally:
            process.terminate()
    assert no_caffe_is_left(digits_root)


def test_a_net_that_caffe_refuses_leaves_an_earlier_runs_snapshots(caffe, digits_root):
    folder = digits_root / "baseline"
    caffe_binary.train(job.prepare(experiment.load(folder, digits_root)), caffe)
    before = snapshots.files(folder / "digits")
    net = folder / "train_val.prototxt"
    net.write_text(net.read_text().replace("kernel_size: 3", "kernel_size: 30"))
    with pytest.raises(TrainingError):
        caffe_binary.train(job.prepare(experiment.load(folder, digits_root), force=True), caffe)
    assert snapshots.files(folder / "digits") == before != {}
