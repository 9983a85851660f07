"""A disk of a few kilobytes, to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size, mounted at `folder`; the test is skipped where one may not mount."""
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    may = mount and not os.getuid()
    if not may or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def grown(folder: Path, size: str) -> None:
    """Make the disk larger."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
