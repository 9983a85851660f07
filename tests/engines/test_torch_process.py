"""Freed memory is kept for the next iteration, and threads wait without taking up a core."""

import os
import subprocess
import sys

import pytest

from caffesplit.engines.torch_process import WAITING, wait_briefly

PROGRAM = """
import resource, sys, torch
from caffesplit.engines.torch_process import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(20):
    torch.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how):
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of the GNU C library")
def test_blocks_that_were_freed_are_not_mapped_anew():
    """Ten blocks of 32 MiB."""
    assert page_faults("kept") < 100 < page_faults("freed")


def test_threads_wait_briefly_unless_the_user_has_chosen(monkeypatch):
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "2000"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_that_is_so_before_torch_is_imported():
    program = (
        "import os, sys; from caffesplit.engines import choice; choice.choose('torch'); "
        "print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    )
    clean = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "False 2000\n"
