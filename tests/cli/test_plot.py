import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

from caffesplit.cli import logs, screens
from caffesplit.cli.main import main
from caffesplit.report.figures import curves
from caffesplit.report.runs import read_runs

ROOT = Path(__file__).parent.parent.parent
LOGS = ROOT / "tests" / "data" / "logs"


@pytest.fixture(autouse=True)
def without_display():
    mpl.use("agg")


@pytest.fixture
def plot(monkeypatch, capsys):
    """Run `caffesplit plot ARGUMENTS`; return its exit code and what it wrote."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["caffesplit", "plot", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return (stop.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def train_log(tmp_path):
    path = tmp_path / "derived1" / "train.log"
    path.parent.mkdir()
    shutil.copy(LOGS / "bvlc-1.0.log", path)
    return path


def test_the_picture_goes_where_it_is_told(plot, train_log, tmp_path):
    output = tmp_path / "new/curves.svg"
    assert plot(train_log, "--avg", 3, "-o", output) == (0, f"{output}\n", "")
    assert "derived1" in output.read_text()


def test_the_picture_is_replaced_only_with_force(plot, train_log, tmp_path):
    output = tmp_path / "curves.png"
    output.touch()
    code, _, err = plot(train_log, "-o", output)
    assert (code, "the output exists already" in err) == (2, True)
    assert plot(train_log, "-o", output, "--force")[0] == 0


def test_without_a_display_the_picture_lies_beside_the_first_log(plot, train_log):
    picture = train_log.with_name("train.log.png")
    for _ in range(2):
        assert plot(train_log.parent, LOGS / "resumed.log") == (0, f"{picture}\n", "")
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_while_a_log_grows_the_picture_is_drawn_again(plot, train_log, monkeypatch):
    monkeypatch.setattr(screens, "INTERVAL", 0.05)
    lines = train_log.read_text().splitlines(keepends=True)
    train_log.write_text("".join(lines[:-9]))

    def grow():
        time.sleep(0.5)
        with train_log.open("a") as file:
            file.write("".join(lines[-9:]))

    writer = threading.Thread(target=grow)
    writer.start()
    code, out, _ = plot(train_log)
    writer.join()
    assert (code, len(out.splitlines())) == (0, 2)


def test_a_log_that_has_no_row_yet_is_waited_for(plot, train_log, monkeypatch):
    monkeypatch.setattr(screens, "INTERVAL", 0.05)
    text = train_log.read_text()
    train_log.write_text("")
    threading.Timer(0.5, train_log.write_text, [text]).start()
    assert plot(train_log, "--metric", "accuracy") == (
        0,
        f"{train_log}.png\n",
        f"{train_log}: waiting for the first row\n",
    )


def test_a_log_that_ends_without_a_row_is_an_error(plot, train_log, monkeypatch):
    monkeypatch.setattr(screens, "INTERVAL", 0.05)
    train_log.write_text("I1121 05:00:00.000001 7 caffe.cpp:197] Use CPU.\n")
    fatal = "F1121 05:00:00.000002 7 db_lmdb.hpp:15] Check failed\n"
    threading.Timer(0.5, train_log.write_text, [fatal]).start()
    code, out, err = plot(train_log)
    assert (code, out) == (2, "")
    assert "no line of training or testing among 1 lines" in err
    assert not train_log.with_name("train.log.png").exists()


def test_without_refresh_a_log_that_has_no_row_is_an_error(plot, train_log):
    train_log.write_text("")
    code, _, err = plot(train_log, "--no-refresh")
    assert (code, "the file is empty" in err, "waiting" in err) == (2, True, False)


def test_of_watched_logs_one_may_be_replaced_and_one_may_go(plot, train_log, tmp_path, monkeypatch):
    monkeypatch.setattr(screens, "INTERVAL", 0.05)
    whole, gone = tmp_path / "whole.log", tmp_path / "gone.log"
    train_log.rename(whole)
    for log in (train_log, gone):
        log.write_text("Iteration 0, loss = 1\n")
    threading.Timer(0.5, gone.unlink).start()
    threading.Timer(1, whole.rename, [train_log]).start()
    code, out, _ = plot(train_log, gone)
    assert (code, len(out.splitlines())) == (0, 2)


def test_no_refresh_draws_a_growing_log_once(plot, train_log):
    train_log.write_text("Iteration 0, loss = 1\n")
    code, out, _ = plot(train_log, "--no-refresh")
    assert (code, len(out.splitlines())) == (0, 1)


def test_a_log_that_nobody_has_written_to_for_long_is_drawn_once(plot, train_log):
    train_log.write_text("Iteration 0, loss = 1\n")
    long_ago = time.time() - 2 * logs.PATIENCE
    os.utime(train_log, (long_ago, long_ago))
    assert len(plot(train_log)[1].splitlines()) == 1


def test_a_window_shows_the_curves():
    figure = plt.figure()
    runs = read_runs([LOGS / "bvlc-1.0.log"])
    screens.Window(figure).draw(lambda shown: curves(runs, figure=shown))
    assert len(figure.axes) == 2
    plt.close(figure)


def test_a_metric_that_was_asked_for_must_exist(plot, train_log, tmp_path):
    code, _, err = plot(train_log, "--metric", "top5", "-o", tmp_path / "curves.png")
    assert code == 2
    assert err.startswith('caffesplit: no test output is named "top5", expected one of accuracy')
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("avg", ["0", "-3", "x"])
def test_avg_is_a_positive_number(plot, train_log, avg):
    code, _, err = plot(train_log, "--avg", avg)
    assert code == 2
    assert "Invalid value for '--avg'" in err


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ((), ["iteration", "loss, log scale"]),
        (("--x", "time"), ["training time, seconds"]),
        (("--linear",), ["loss"]),
        (("--log",), ["loss, log scale"]),
    ],
)
def test_the_axes_can_be_chosen(plot, train_log, tmp_path, options, seen):
    picture = tmp_path / "curves.svg"
    assert plot(train_log, "-o", picture, *options)[0] == 0
    assert all(f">{label}<" in picture.read_text() for label in seen)


def test_over_epochs_the_experiment_around_the_log_tells_their_length(plot, train_log, tmp_path):
    picture = tmp_path / "curves.svg"
    folder = train_log.parent
    (folder / "solver.prototxt").write_text('net: "net.prototxt" iter_size: 2')
    (folder / "net.prototxt").write_text(
        'layer { name: "data" type: "Data" top: "data" data_param { source: "no" batch_size: 5 } }'
    )
    code, _, err = plot(train_log, "--x", "epoch", "-o", picture)
    assert (code, picture.exists()) == (2, False)
    assert "/no: the training set cannot be counted: " in err
    assert plot(train_log, "--x", "epoch", "--epoch-size", 100, "-o", picture)[0] == 0
    assert ">epoch<" in picture.read_text()
    assert ">20.0<" in picture.read_text()


def test_over_epochs_a_log_without_an_experiment_is_refused(plot, train_log, tmp_path):
    assert plot(train_log, "--x", "epoch", "--epoch-size", 100, "-o", tmp_path / "a.png") == (
        2,
        "",
        f"caffesplit: {train_log}: no experiment around this log tells its batch size "
        "(0 solvers (no prototxt at all)), expected a solver and its net in the log's folder\n"
        "Draw it over iterations: --x iteration.\n",
    )


def test_an_epoch_size_is_of_no_use_for_another_axis(plot, train_log):
    code, _, err = plot(train_log, "--epoch-size", 100)
    assert (code, "--epoch-size is for --x epoch." in err) == (2, True)


def test_over_time_a_log_without_stamps_is_refused(plot, tmp_path):
    code, _, err = plot(LOGS / "no-prefix.log", "--x", "time", "-o", tmp_path / "a.png")
    assert (code, "no line has a time stamp" in err) == (2, True)
    assert not (tmp_path / "a.png").exists()


def test_plot_loss_takes_the_arguments_of_the_notebooks(train_log):
    script = ROOT / "tools" / "plot_loss.py"
    command = [sys.executable, script, train_log, LOGS / "resumed.log", "--avg", "3"]
    done = subprocess.run(
        [*command, "--no_refresh"],
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{train_log}.png\n"


def test_plot_loss_says_what_is_wrong(tmp_path):
    script = ROOT / "tools" / "plot_loss.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "no.log"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"plot_loss: {tmp_path}/no.log: no such file")


def test_a_log_from_standard_input_needs_a_file_for_its_picture(plot):
    assert plot("-") == (
        2,
        "",
        "caffesplit: a log from standard input has no folder for its picture, expected a file "
        "for it\nGive one: -o FILE.\n",
    )


def test_a_crashed_runs_log_is_left_out_with_a_word(plot, train_log, tmp_path):
    crashed = tmp_path / "w700.log"
    crashed.write_text("nothing\n")
    code, _, err = plot(train_log, crashed, "-o", tmp_path / "curves.svg")
    assert code == 0
    assert err == f"{crashed}: no line of training or testing among 1 lines; left out\n"


def test_plot_loss_ends_on_ctrl_c_without_a_traceback(tmp_path):
    os.mkfifo(tmp_path / "log")  # opening it waits for a writer
    script = ROOT / "tools" / "plot_loss.py"
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "log"],
        stderr=subprocess.PIPE,
        text=True,
        # A test in the background of a shell has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "")
