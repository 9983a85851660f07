from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from caffesplit.cli import progress, train
from caffesplit.engines.job import Outcome
from caffesplit.errors import EngineError, NetError, OutputError
from caffesplit.formats.trainlog import TrainRow


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(
        train.command, [str(each) for each in arguments], catch_exceptions=False
    )


def test_a_run_ends_with_what_it_reached_and_where_that_lies(caffe, digits_root, monkeypatch):
    monkeypatch.chdir(digits_root)

    result = run("baseline", "--caffe", caffe)

    assert result.exit_code == 0
    assert re.fullmatch(
        r"baseline: 100 iterations in \d+\.\d s with Caffe, loss \d\.\d+, accuracy 0\.\d{4}\n"
        r"log: baseline/train\.log\n"
        r"last snapshot: baseline/digits_iter_100\.caffemodel\n",
        result.stdout,
    )


def test_log_and_start_may_be_chosen(caffe, digits_root, monkeypatch):
    monkeypatch.chdir(digits_root)
    run("baseline", "--caffe", caffe)

    state = "baseline/digits_iter_50.solverstate"
    options = ["--snapshot", state, "--log", "logs/again.log", "--force"]
    result = run("baseline", "--caffe", caffe, *options)

    assert "log: logs/again.log\n" in result.stdout
    assert f"Resuming from {digits_root.resolve()}/{state}" in Path("logs/again.log").read_text()


def test_elsewhere_than_on_a_terminal_progress_is_a_line_now_and_then(
    caffe, digits_root, monkeypatch
):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)

    lines = run(digits_root / "baseline", "--caffe", caffe).stderr.splitlines()

    assert re.fullmatch(r"baseline: 0/100  accuracy 0\.\d{4}", lines[0])
    assert re.fullmatch(r"baseline: 50/100 loss \d\.\d+ +accuracy 0\.\d{4}, \d+ s left", lines[7])
    assert len(lines) == 16


def test_a_short_run_elsewhere_than_on_a_terminal_is_silent(caffe, digits_root):
    assert run(digits_root / "baseline", "--caffe", caffe).stderr == ""


def test_on_a_terminal_progress_is_a_bar_with_loss_accuracy_and_time_left(caffe, digits_root):
    code = "from caffesplit.cli.main import main; main()"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, "train", str(digits_root / "baseline"), "--caffe", str(caffe)],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
    ):
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 1 << 16):
                shown += piece
        except OSError:  # the terminal's other end is closed
            os.close(ours)

    last = re.sub(r"\x1b\[[\d;?]*\w", "", shown.decode()).strip().splitlines()[-1]
    assert re.fullmatch(
        r"baseline ━+ 100/100 loss \d\.\d+ +accuracy 0\.\d{4} +\d:\d\d:\d\d", last.strip()
    )


class Gone(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_of_stderr_that_has_gone_does_not_end_the_training(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    monkeypatch.setattr(sys, "stderr", Gone())
    with pytest.raises(BrokenPipeError):
        click.echo("a line", err=True)

    with progress.training("net", 10) as observe:
        observe(TrainRow(0, 0.0, 0.1, 2.3, {}))


def test_an_engine_that_there_is_not_is_refused(digits_root):
    result = run(digits_root / "baseline", "--engine", "tensorflow")
    assert result.exit_code == 2
    assert "'tensorflow' is not one of 'auto', 'caffe'" in result.stderr


def test_a_folder_without_a_solver_is_refused(tmp_path):
    with pytest.raises(NetError, match="0 solvers"):
        run(tmp_path)


def test_a_caffe_that_is_not_there_is_refused(digits_root):
    with pytest.raises(EngineError, match='--caffe names "nowhere"'):
        run(digits_root / "baseline", "--caffe", "nowhere")


def test_force_replaces_an_earlier_runs_snapshots(caffe, digits_root):
    first = run(digits_root / "baseline", "--caffe", caffe)
    with pytest.raises(OutputError, match="snapshots of an earlier run are here"):
        run(digits_root / "baseline", "--caffe", caffe)
    again = run(digits_root / "baseline", "--caffe", caffe, "--force")
    assert (first.exit_code, again.exit_code) == (0, 0)


def test_nothing_is_created_before_caffe_is_found(digits_root):
    solver = digits_root / "baseline/solver.prototxt"
    text = solver.read_text()
    solver.write_text(re.sub("snapshot_prefix:.*", 'snapshot_prefix: "new/digits"', text))
    with pytest.raises(EngineError):
        run(digits_root / "baseline", "--caffe", "nowhere", "--root", digits_root)
    assert not (digits_root / "new").exists()


def test_one_iteration_is_singular():
    outcome = Outcome(1, None, None, 2.0, stopped=True, snapshots=())
    assert train.summary(outcome, "Caffe") == "1 iteration in 2.0 s with Caffe"


def test_a_loss_that_is_older_than_the_run_says_of_when_it_is():
    outcome = Outcome(600, 2.306, None, 2.0, stopped=False, snapshots=(), loss_at=0)
    assert train.summary(outcome, "Caffe") == (
        "600 iterations in 2.0 s with Caffe, loss 2.306 at iteration 0"
    )


def test_a_gpu_that_the_solver_wants_and_torch_does_not_see_is_told_of_at_once(
    digits_root, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    solver = digits_root / "baseline/solver.prototxt"
    solver.write_text(solver.read_text().replace("solver_mode: CPU", "solver_mode: GPU"))
    result = run(digits_root / "baseline", "--engine", "torch")
    assert result.stderr.startswith(
        "baseline: solver_mode: GPU is not followed, since torch sees no GPU: this runs on the "
        "CPU\n"
    )
    assert " s with PyTorch on the CPU, loss " in result.stdout


def test_a_run_that_displays_nothing_gets_on_by_its_snapshots(digits_root, monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    solver = digits_root / "baseline/solver.prototxt"
    text = re.sub("(?m)^(display|test_).*\n", "", solver.read_text())
    solver.write_text(f"{text}display: 0\n")
    net = digits_root / "baseline/train_val.prototxt"
    net.write_text(net.read_text().replace("phase: TEST", "phase: TRAIN stage: 'never'"))
    lines = run(digits_root / "baseline", "--engine", "torch").stderr.splitlines()
    assert [line.split()[1] for line in lines] == ["50/100", "100/100"]
