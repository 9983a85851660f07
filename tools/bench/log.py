"""Reading training logs, against `grep -c` and Caffe's own tools/extra/parse_log.py.

That one is measured where the environment variable PARSE_LOG has its path, with its one line that
is Python 2 put into Python 3.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tools.bench.measure import Result, in_turns
from tools.bench.memory import peak_of

MEGABYTES = 20
LARGE = 50
"""The log whose memory is measured is so many times as large."""

ROUNDS = 5
THREAD = "12345"


def run(paths: list[Path]) -> Result:
    with tempfile.TemporaryDirectory(prefix="caffesplit-bench-log-") as name:
        folder = Path(name)
        rows = [row for mix in MIXES for row in _speed(folder, mix)]
        return Result("Reading logs, page cache warm", (*rows, *_memory(folder)))


def _speed(folder: Path, mix: str) -> Iterator[tuple[str, str, str, str]]:
    path = _written(folder / "train.log", MIXES[mix](), MEGABYTES)
    megabytes = path.stat().st_size / 1e6
    peer = os.environ.get("PARSE_LOG")
    subjects: dict[str, Callable[[], object]] = {
        "grep -c": lambda: subprocess.run(["grep", "-c", "Iteration", path], capture_output=True),
        "trainlog.records": lambda: read(path),
    }
    if peer:
        parse_log = _parse_log(Path(peer))
        subjects["parse_log.py"] = lambda: parse_log(str(path))
    seconds = in_turns(subjects, ROUNDS)
    own = seconds["trainlog.records"]
    for name, taken in seconds.items():
        ratio = f"records is {taken / own:.2g}× as fast" if name != "trainlog.records" else ""
        wanted = "≥ 20×" if name == "parse_log.py" else ""
        yield f"{mix}: `{name}`", f"{megabytes / taken:.0f} MB/s", ratio, wanted


def _memory(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    path = _written(folder / "large.log", rows(), MEGABYTES)
    content = path.read_bytes()
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for times in (1, LARGE):
            with path.open("wb") as file:
                for _ in range(times):
                    file.write(content)
            peak = pool.apply(peak_of, (read, path))
            size = f"{path.stat().st_size / 1e6:.0f} MB"
            yield f"`trainlog.records` of {size}, peak of RssAnon", f"{peak:.0f} MB", "", "constant"


def read(path: Path) -> None:
    """Let every record of a log pass."""
    from caffesplit.formats import trainlog

    deque(trainlog.records(path), maxlen=0)


def rows() -> Iterator[str]:
    """A log that is all rows: every 20 iterations one of training, every 1000 a test."""
    yield f"I1202 00:00:00.000000 {THREAD} solver.cpp:288] Solving CaffeNet\n"
    for iteration in range(0, 100_000_000, 20):
        time = f"{iteration // 3600 % 24:02}:{iteration // 60 % 60:02}:{iteration % 60:02}"
        prefix = f"I1202 {time}.123456 {THREAD}"
        loss = f"{2.0 + iteration % 977 / 977:.6g}"
        if iteration % 1000 == 0:
            yield f"{prefix} solver.cpp:337] Iteration {iteration}, Testing net (#0)\n"
            yield f"{prefix} solver.cpp:404]     Test net output #0: accuracy = 0.45678\n"
            output = f"loss = {loss} (* 1 = {loss} loss)"
            yield f"{prefix} solver.cpp:404]     Test net output #1: {output}\n"
        yield f"{prefix} solver.cpp:228] Iteration {iteration}, loss = {loss}\n"
        output = f"loss = {loss} (* 1 = {loss} loss)"
        yield f"{prefix} solver.cpp:244]     Train net output #0: {output}\n"
        yield f"{prefix} sgd_solver.cpp:106] Iteration {iteration}, lr = 0.01\n"


def foreign_lines() -> Iterator[str]:
    """Rows with a data layer's lines between, 3 for each of their own."""
    chatter = f"I1202 18:15:25.452584 {THREAD} data_transformer.cpp:608] Using online data "
    for line in rows():
        yield line
        yield from [chatter + "augmentation Phase=1 crop_size=0 contrast_adjustment=0\n"] * 3


def debug_info() -> Iterator[str]:
    """The rows of a net of 20 layers whose solver has debug_info and display: 20."""
    prefix = f"I1202 18:15:25.452584 {THREAD} net.cpp"
    for number, line in enumerate(rows()):
        yield line
        if number % 3 == 2:
            for layer in range(20 * 20):
                yield (
                    f"{prefix}:591]     [Forward] Layer conv{layer % 20}, top blob "
                    f"conv{layer % 20} data: 0.0{layer}\n"
                )


MIXES: dict[str, Callable[[], Iterator[str]]] = {
    "rows only": rows,
    "three foreign lines for each": foreign_lines,
    "debug_info": debug_info,
}


def _written(path: Path, lines: Iterator[str], megabytes: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            file.writelines(islice(lines, 10_000))
    return path


def _parse_log(path: Path) -> Callable[[str], object]:
    """The function of that name in Caffe's tool."""
    source = re.sub(r"print ('.*)", r"print(\1)", path.read_text())
    spec = importlib.util.spec_from_loader("parse_log", loader=None)
    assert spec is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of regular expressions in plain strings.
        exec(compile(source, path, "exec"), module.__dict__)
    parse: Callable[[str], object] = module.parse_log
    return parse
