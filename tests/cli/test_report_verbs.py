"""`caffesplit report` and `caffesplit tensorboard`."""

from __future__ import annotations

import os
import re
from datetime import datetime

import event_files
import pytest
import report_tree
from click.testing import CliRunner

from caffesplit.cli import report, tensorboard
from caffesplit.errors import CaffesplitError


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return report_tree.make(tmp_path_factory.mktemp("verbs"))


def run(command, *arguments):
    return CliRunner().invoke(command, [*map(str, arguments)])


def test_report_writes_one_page_and_replaces_it_only_with_force(tree, tmp_path):
    out = tmp_path / "new/report.html"
    done = run(report.command, tree, "-o", out)
    assert (done.exit_code, done.output) == (0, f"{out}: 5 experiments\n")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert out.read_text().startswith("<!DOCTYPE html>")
    again = run(report.command, tree, "-o", out)
    assert isinstance(again.exception, CaffesplitError)
    assert "the output exists already" in str(again.exception)
    assert run(report.command, tree, "-o", out, "--force").exit_code == 0


def test_report_overwrites_no_input(tree, tmp_path):
    log = tree / "base/train.log"
    before = log.read_bytes()
    done = run(report.command, tree, "-o", log, "--force")
    assert done.exit_code == 2
    assert "name it FILE.html" in done.output
    assert log.read_bytes() == before


def test_report_says_what_it_could_not_read(tree, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "train.log").write_text("nothing\n")
    done = run(report.command, broken, tree / "base", "-o", tmp_path / "report.html")
    assert done.exit_code == 0
    assert f"broken: {broken}/train.log: no line of training or testing" in done.stderr


def test_report_of_nothing_that_can_be_read_is_refused(tmp_path):
    (tmp_path / "train.log").write_text("nothing\n")
    done = run(report.command, tmp_path / "train.log", "-o", tmp_path / "report.html")
    assert str(done.exception) == (
        f"{tmp_path}/train.log: nothing of this can be read, expected an experiment"
    )
    assert not (tmp_path / "report.html").exists()


def test_tensorboard_writes_a_folder_per_trained_experiment(tree, tmp_path):
    done = run(tensorboard.command, tree, "-o", tmp_path / "runs")
    assert done.exit_code == 0
    files = sorted((tmp_path / "runs").rglob("*tfevents*"))
    assert [file.parent.name for file in files] == sorted(report_tree.ACCURACY)
    _, found = event_files.read(files[0].read_bytes())
    assert {tag for _, _, values in found for tag in values} == {
        *("train/loss", "train/lr", "test/accuracy", "test/loss", "tpm/conv1", "tpm/conv2")
    }
    steps = [step for _, step, _ in found]
    assert steps == sorted(steps)


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (lambda text: text, "2019-01-02 03:04:05.5"),
        (lambda text: f"Log file created at: 2016/01/02 03:04:05\n{text}", "2016-01-02 03:04:05.5"),
        (lambda text: text.replace("I0102", "I20170102"), "2017-01-02 03:04:05.5"),
        (lambda text: re.sub(r"I0102 \S+ 7 \S+ ", "", text), "2020-01-01"),
    ],
    ids=["day and time", "head of the log", "year", "none: when the file was written"],
)
def test_wall_times_are_the_logs_own(tmp_path, stamps, expected):
    log = tmp_path / "train.log"
    log.write_text(stamps(report_tree.log_text(0.5)))
    written = datetime.fromisoformat("2020-01-01").timestamp()
    os.utime(log, (written, written))
    assert run(tensorboard.command, log, "-o", tmp_path).exit_code == 0
    (file,) = tmp_path.rglob("*tfevents*")
    first, _, _ = event_files.read(file.read_bytes())[1][0]
    assert datetime.fromtimestamp(first) == datetime.fromisoformat(expected)


def test_tensorboard_replaces_files_only_with_force(tree, tmp_path):
    assert run(tensorboard.command, tree, "-o", tmp_path).exit_code == 0
    again = run(tensorboard.command, tree, "-o", tmp_path)
    assert "the output exists already" in str(again.exception)
    assert run(tensorboard.command, tree, "-o", tmp_path, "--force").exit_code == 0


def test_tensorboard_needs_an_experiment_that_was_trained(tree, tmp_path):
    done = run(tensorboard.command, tree / "folded", "-o", tmp_path)
    assert str(done.exception) == (
        f"{tree}/folded: neither a log nor snapshots, expected an experiment that was trained"
    )
