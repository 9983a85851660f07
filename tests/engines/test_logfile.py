"""A log goes where no other content is lost."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from caffesplit import experiment
from caffesplit.engines import job, logfile
from caffesplit.errors import CaffesplitError, OutputError

LINE = b"I1231 23:59:59.000001 7 solver.cpp:239] Iteration 0, loss = 2.3\n"


@pytest.fixture
def loaded(digits_root) -> experiment.Experiment:
    return experiment.load(digits_root / "baseline", digits_root)


def refusal(loaded: experiment.Experiment, log: Path) -> CaffesplitError:
    with pytest.raises(OutputError) as caught:
        job.prepare(loaded, log=log)
    return caught.value


@pytest.mark.parametrize("name", ["solver.prototxt", "train_val.prototxt"])
def test_what_the_training_reads_is_never_its_log(loaded, name):
    assert str(refusal(loaded, loaded.folder / name)) == (
        f"{loaded.folder}/{name}: the log would go into a file that the training reads, expected "
        "another file\nGive another: --log FILE."
    )


def test_a_file_that_is_no_log_is_refused_as_one(loaded, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n")
    assert str(refusal(loaded, path)) == (
        f"{path}: this file is no log, expected a new file, or an earlier log\n"
        "Give another: --log FILE."
    )
    assert path.read_text() == "my notes\n"


def test_an_earlier_log_may_be_given_whatever_stands_before_its_first_line(loaded, tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"\xff libdc1394 error\n" + LINE)
    assert job.prepare(loaded, log=path).log == path


def test_the_experiments_own_log_may_hold_any_last_words(loaded):
    (loaded.folder / "train.log").write_text("caffe: error while loading shared libraries\n")
    job.prepare(loaded)


def test_a_log_below_a_file_is_refused(loaded):
    error = refusal(loaded, loaded.folder / "solver.prototxt" / "logs" / "a.log")
    assert error.found == "the log cannot be written (Not a directory)"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_log_in_a_folder_that_is_read_only_is_refused(loaded, tmp_path):
    tmp_path.chmod(0o500)
    error = refusal(loaded, tmp_path / "a.log")
    assert error.found == "the log cannot be written (Permission denied)"


def test_a_device_is_opened_as_it_is(loaded):
    planned = job.prepare(loaded, log=Path("/dev/null"))
    with logfile.opened(planned.log, append=False) as log:
        log.write(LINE)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert not Path("/dev/null.1").exists()


def test_an_earlier_log_is_set_aside_and_an_empty_file_is_not(tmp_path):
    path = tmp_path / "a.log"
    for content in (b"", b"first", b"second"):
        with logfile.opened(path, append=False) as log:
            log.write(content)
    assert path.read_bytes() == b"second"
    assert (tmp_path / "a.log.1").read_bytes() == b"first"
    assert not (tmp_path / "a.log.2").exists()
