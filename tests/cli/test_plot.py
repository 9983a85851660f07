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

from caffesplit.cli import plot as plot_verb
from caffesplit.cli import screens
from caffesplit.cli.main import main
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


def test_no_refresh_draws_a_growing_log_once(plot, train_log):
    train_log.write_text("Iteration 0, loss = 1\n")
    code, out, _ = plot(train_log, "--no-refresh")
    assert (code, len(out.splitlines())) == (0, 1)


def test_a_log_that_nobody_has_written_to_for_long_is_drawn_once(plot, train_log):
    train_log.write_text("Iteration 0, loss = 1\n")
    long_ago = time.time() - 2 * plot_verb.PATIENCE
    os.utime(train_log, (long_ago, long_ago))
    assert len(plot(train_log)[1].splitlines()) == 1


def test_a_window_shows_the_curves():
    figure = plt.figure()
    screens.Window(figure).draw(read_runs([LOGS / "bvlc-1.0.log"]), 1, "accuracy")
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
