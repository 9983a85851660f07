"""Drawing ten logs, from the command line to the picture."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tools.bench.measure import Result, in_turns

LOGS = 10
SIZE = 4_000_000
"""Bytes of a log."""

ROUNDS = 5


def run(paths: list[Path]) -> Result:
    caffesplit = Path(sys.executable).with_name("caffesplit")
    with tempfile.TemporaryDirectory(prefix="caffesplit-bench-") as folder:
        logs = [_write(Path(folder) / f"derived{number}") for number in range(LOGS)]
        picture = Path(folder) / "curves.png"
        seconds = in_turns(
            {
                "help": lambda: _quiet(caffesplit, "plot", "--help"),
                "one": lambda: _quiet(caffesplit, "plot", logs[0], "-o", picture, "--force"),
                "plot": lambda: _quiet(caffesplit, "plot", *logs, "-o", picture, "--force"),
            },
            ROUNDS,
        )
    return Result(
        f"Loss, accuracy and learning rate of {LOGS} logs of {SIZE / 1e6:.0f} MB as a PNG",
        (
            ("`caffesplit plot --help`", f"{seconds['help']:.3f} s", "", ""),
            ("`caffesplit plot`, one of the logs", f"{seconds['one']:.3f} s", "", ""),
            (f"`caffesplit plot`, all {LOGS}", f"{seconds['plot']:.3f} s", "", "< 3 s"),
        ),
    )


def _quiet(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _write(folder: Path) -> Path:
    """Write a log as Caffe 1.0 does, with a row every 20 iterations and a test every 500."""
    folder.mkdir()
    path = folder / "train.log"
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for line in _lines():
            written += file.write(line)
            if written >= SIZE:
                break
    return path


def _lines() -> Iterator[str]:
    iteration = 0
    yield f"{_stamp(0)} solver.cpp:279] Solving CaffeNet\n"
    while True:
        stamp, loss = _stamp(iteration), 7 * math.exp(-iteration / 1e5) + iteration * 7 % 10 / 20
        if iteration % 500 == 0:
            accuracy = 1 - loss / 8
            yield f"{stamp} solver.cpp:337] Iteration {iteration}, Testing net (#0)\n"
            yield f"{stamp} solver.cpp:404]     Test net output #0: accuracy = {accuracy:.6g}\n"
            yield (
                f"{stamp} solver.cpp:404]     Test net output #1: "
                f"loss = {loss:.6g} (* 1 = {loss:.6g} loss)\n"
            )
        yield (
            f"{stamp} solver.cpp:228] Iteration {iteration} "
            f"(3.21 iter/s, 6.23s/20 iters), loss = {loss:.6g}\n"
        )
        yield (
            f"{stamp} solver.cpp:244]     Train net output #0: "
            f"loss = {loss:.6g} (* 1 = {loss:.6g} loss)\n"
        )
        yield f"{stamp} sgd_solver.cpp:106] Iteration {iteration}, lr = 0.01\n"
        iteration += 20


def _stamp(iteration: int) -> str:
    """glog's prefix at an iteration, a third of a second each."""
    seconds = iteration / 3
    days, hours, minutes = int(seconds // 86400), int(seconds // 3600), int(seconds // 60)
    return f"I11{days + 1:02} {hours % 24:02}:{minutes % 60:02}:{seconds % 60:09.6f} 14320"
