"""`caffesplit run`: what it prints, and what it refuses before anything is trained."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import study_helpers
from click.testing import CliRunner
from study_helpers import caffesplit

from caffesplit.cli import run as verb
from caffesplit.errors import CaffesplitError
from caffesplit.study.study_file import packaged
from caffesplit.study.study_folder import MARKER

FAKE = "#!/bin/sh\necho nothing to train with >&2\nexit 1\n"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def study(tmp_path) -> Path:
    return study_helpers.study(tmp_path)


@pytest.fixture
def fake(tmp_path) -> Path:
    """A Caffe that fails at once."""
    path = tmp_path / "caffe"
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def run(*arguments: object):
    return CliRunner().invoke(verb.command, [*map(str, arguments)], catch_exceptions=False)


def refused(*arguments: object) -> str:
    with pytest.raises(CaffesplitError) as caught:
        run(*arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("arguments", [[], ["--list"]])
def test_it_lists_the_studies_and_what_they_ask(arguments):
    lines = run(*arguments).stdout.splitlines()
    assert lines[0].split() == ["Study", "What", "it", "asks"]
    assert [line.split()[0] for line in lines[1:]] == list(packaged())
    assert all(line.endswith("?") for line in lines[1:])


@pytest.mark.parametrize("name", packaged())
def test_it_shows_a_study_file(name):
    assert run(name, "--show").stdout == packaged()[name]
    assert not list(Path().iterdir())


def test_a_dry_run_tells_the_stages_and_writes_nothing(study):
    before = sorted(Path().rglob("*"))
    lines = run(study, "-o", "out", "--dry-run").stdout.splitlines()
    assert [re.split("  +", line) for line in lines] == [
        ["Stage", "State", "What it is"],
        [
            "seed1/baseline",
            "to do",
            "digits of the zoo, max_iter=150, snapshot=50, test_interval=100, display=10, "
            "base_lr=0.003",
        ],
        [
            "seed1/residual1",
            "to do",
            "baseline, layer of highest entropy split (residual, half)",
        ],
        ["seed1/longer1", "to do", "control: baseline trained on"],
    ]
    assert sorted(Path().rglob("*")) == before


def test_an_unknown_study_is_refused_with_those_there_are():
    assert refused("residual") == (
        f"no study 'residual', expected a file, or one of {', '.join(packaged())}\n"
        "`caffesplit run --list` tells what they are."
    )


def test_a_study_file_that_cannot_be_read_is_refused(tmp_path):
    assert refused("gone.toml") == (
        "gone.toml: the study file cannot be read (No such file or directory), expected a text"
    )
    Path("latin.toml").write_bytes(b'title = "\xe9"')
    assert refused("latin.toml") == (
        "latin.toml: the study file cannot be read (it is no UTF-8), expected a text"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cpus", "2"], "--cpus and --gpus are --cluster's: give it, too."),
        (["--gpus", "1"], "--cpus and --gpus are --cluster's: give it, too."),
        (["--gpus", "nan", "--cluster", "local"], "'nan' is not a finite number"),
        (
            ["--gpu", "0", "--cluster", "local"],
            "--gpu chooses GPUs of this machine: with --cluster, give --gpus N.",
        ),
        (["--resume", "-o", "gone"], "--resume: no study was begun in gone."),
    ],
)
def test_options_that_contradict_each_other_are_refused(study, arguments, message):
    result = run(study, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("name", ["table.md", "curves.png", "report.html", "study.toml", "bases"])
def test_a_folder_with_somebodys_own_files_is_left_as_it_is(study, fake, name):
    mine = Path("out") / name
    mine.parent.mkdir()
    mine.write_text("mine")
    for force in ([], ["--force"]):
        assert refused(study, "-o", "out", "--caffe", fake, *force) == (
            f"out: {name} is here, not written by a study, expected a new folder, or one of a "
            "study\nGive another output."
        )
    assert [path.name for path in Path("out").iterdir()] == [name]
    assert mine.read_text() == "mine"


def test_a_study_file_may_lie_in_its_own_folder(study, fake):
    Path("out").mkdir()
    Path("out/study.toml").write_bytes(study.read_bytes())
    assert run("out/study.toml", "-o", "out", "--caffe", fake).exit_code == 1


def test_a_folder_that_cannot_be_written_to_is_refused(study, fake):
    Path("file").touch()
    assert refused(study, "-o", "file/out", "--caffe", fake) == (
        "file/out: the study's folder cannot be written to (Not a directory), expected a writable "
        "folder\nGive another output, or change the folder's permissions."
    )


def test_two_runs_at_once_are_refused_and_the_first_ones_study_stays(study, fake):
    run(study, "-o", "out", "--caffe", fake)
    with Path("out", MARKER).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other = study_helpers.study(Path(), seeds=[1, 2])
        assert refused(other, "-o", "out", "--caffe", fake) == (
            "out: a study is being run here already, expected one at a time\n"
            "Wait for its end, or stop it."
        )
    assert "seeds = [1]" in Path("out/study.toml").read_text()


def test_a_caffe_that_fails_is_told_once_and_what_needs_it_is_left_out(study, fake):
    result = run(study, "-o", "out", "--caffe", fake)
    assert result.exit_code == 1
    assert result.stdout.startswith("3 stages, 3 of them to do\n\nNet ")
    assert result.stderr.count("nothing to train with") == 1
    assert "2/3 seed1/residual1: left out, since it needs one that failed\n" in result.stderr
    assert result.stderr.endswith("missing: 3 of 3 stages; the same command tries again\n")
    assert {path.name for path in Path("out").iterdir()} == {
        *("bases", "data", "seed1", "study.toml", "table.md", "table.json", MARKER),
    }


def test_data_and_fields_are_where_and_what_the_options_say(study, fake):
    run(study, "-o", "out", "--caffe", fake, "--data", "sets", "--set", "momentum=0.5")
    assert (Path("sets") / "digits/digits_train_lmdb").exists()
    assert not Path("out/data").exists()
    assert "momentum: 0.5\n" in Path("out/seed1/baseline/solver.prototxt").read_text()


def test_where_the_data_lie_is_no_change_of_the_study(study, fake):
    run(study, "-o", "out", "--caffe", fake)
    assert run(study, "-o", "out", "--caffe", fake, "--data", "sets").exit_code == 1


def test_cifar_that_is_no_archive_is_refused(fake, tmp_path):
    Path("cifar-100-binary.tar.gz").write_bytes(b"no archive")
    command = ("run", "multi-split", "-o", "out", "--caffe", fake)
    done = caffesplit(*command, "--archive", "cifar-100-binary.tar.gz", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("caffesplit: cifar-100-binary.tar.gz: ")
    assert "Traceback" not in done.stderr


def test_on_a_terminal_it_shows_which_stage_of_how_many_it_is_at(study, caffe, tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "caffesplit", "run", study, "-o", "out", "--caffe", caffe]
    terminal = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=terminal) as process:
        os.close(theirs)
        seen = "".join(iter(lambda: read(ours), ""))
    os.close(ours)
    assert process.returncode == 0, seen
    for number, name in enumerate(["baseline", "residual1", "longer1"], start=1):
        assert re.search(rf"{number}/3 seed1/{name}\S* .*/150", seen)


def read(terminal: int) -> str:
    try:
        return os.read(terminal, 1 << 16).decode(errors="replace")
    except OSError:
        return ""  # So Linux says that the other side has closed it.
