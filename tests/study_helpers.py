"""Small studies on the digits, and the command that carries them out as a user would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from caffesplit import zoo
from caffesplit.data import digits

STUDY = """
title = "Does it work?"
seeds = {seeds}
resume = "{resume}"

[bases.baseline]
zoo = "digits"
[bases.baseline.set]
max_iter = {max_iter}
snapshot = {snapshot}
test_interval = 100
display = 10
base_lr = 0.003

[chains.residual]
window = [50, 150]
top = 1
controls = {controls}
"""


def study(folder: Path, **changes: object) -> Path:
    """A study file of a base, a split and a control, of 150 iterations each."""
    values = {
        "seeds": [1],
        "resume": "start",
        "max_iter": 150,
        "snapshot": 50,
        "controls": ["longer"],
    }
    path = folder / "small.toml"
    path.write_text(STUDY.format(**(values | changes)).replace("'", '"'))
    return path


def caffesplit(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "caffesplit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def started(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    """The command at work in a process group of its own, with the signals of a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "caffesplit", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)


def processes(word: str) -> list[int]:
    """The processes whose command line has `word` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue  # It has ended meanwhile.
            if word.encode() in command and state != "Z":
                found.append(int(entry.name))
    return found


def kill_all(process: subprocess.Popen[bytes], out: Path) -> None:
    """Kill the command, and the Caffe that trains for it in a group of its own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for pid in processes(f"{out}/seed"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wait_for_no(word: str, seconds: float = 20) -> None:
    """Wait until no process has `word` in its command line."""
    end = time.monotonic() + seconds
    while processes(word):
        assert time.monotonic() < end, f"processes with {word} stay"
        time.sleep(0.05)


def trained_base(folder: Path, caffe: Path) -> Path:
    """An experiment on the digits, trained for 150 iterations."""
    digits.write(folder / "data")
    solver = zoo.write("digits", folder / "baseline", folder, folder / "data")
    text = solver.read_text().replace("max_iter: 2000", "max_iter: 150")
    solver.write_text(text.replace("snapshot: 200", "snapshot: 50"))
    done = caffesplit("train", folder / "baseline", "--caffe", caffe)
    assert done.returncode == 0, done.stderr
    return folder / "baseline"


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))
