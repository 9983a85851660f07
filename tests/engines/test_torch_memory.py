"""Freed memory is kept for the next iteration."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from caffesplit.engines.torch_memory import keep_freed_memory
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
