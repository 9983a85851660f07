"""`caffesplit report` and `caffesplit tensorboard`."""

from __future__ import annotations

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
    assert f"{broken}: {broken}/train.log: no line of training or testing" in done.stderr


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
    wall_times = [wall_time for wall_time, _, _ in found]
    log = tree / "base/train.log"
    assert max(wall_times) == pytest.approx(log.stat().st_mtime)
    assert max(wall_times) - min(wall_times) == pytest.approx(40.0)


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
