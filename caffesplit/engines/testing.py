"""`caffe test`: what a net with given weights puts out, averaged over batches."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffesplit.engines.caffe_binary import LOGGING
from caffesplit.errors import EngineError, Location

Progress = Callable[[int, int], None]

LAST_LINES = 12
"""Of Caffe's own words, shown where it fails."""

_BATCH = re.compile(r"\] Batch (\d+), ")
_LOSS = re.compile(r"\] Loss: (\S+)$")
_OUTPUT = re.compile(r"\] (.+?) = (\S+)(?: \(\* .* loss\))?$")


@dataclass(frozen=True)
class Test:
    """One call of `caffe test`: paths as Caffe takes them, from its working directory `root`."""

    net: Path
    weights: Path
    root: Path
    iterations: int
    level: int = 0
    stages: Sequence[str] = ()
    gpu: str | None = None


@dataclass(frozen=True)
class Outputs:
    """The loss, and the net's outputs, each averaged over the batches.

    Of an output with several values there are as many entries of its name, in their order.
    """

    loss: float
    values: tuple[tuple[str, float], ...]


def run(test: Test, caffe: Path, progress: Progress = lambda done, total: None) -> Outputs:
    """Run `caffe test` (test() in tools/caffe.cpp).

    Raises:
        EngineError: if the binary does not start, or fails; with its last words.
    """
    lines = []
    try:
        with subprocess.Popen(
            _command(test, caffe),
            cwd=test.root,
            env={**os.environ, **LOGGING},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                if batch := _BATCH.search(line):
                    progress(int(batch[1]) + 1, test.iterations)
    except OSError as error:
        raise EngineError(
            f"Caffe does not start ({error.strerror})",
            "an executable file for this machine",
            at=Location(str(caffe)),
        ) from error
    outputs = parse(lines)
    if process.returncode != 0 or outputs is None:
        words = "\n".join(f"    {line}" for line in lines[-LAST_LINES:])
        raise EngineError(
            f"caffe test failed (exit status {process.returncode})",
            "the outputs of the net",
            f"`caffesplit check` may tell why. Its last words:\n{words}",
            Location(str(test.net)),
        )
    return outputs


def parse(lines: Sequence[str]) -> Outputs | None:
    """What the last lines of `caffe test` say: the loss, and behind it an output a line."""
    for index in range(len(lines) - 1, -1, -1):
        if loss := _LOSS.search(lines[index]):
            found = filter(None, map(_OUTPUT.search, lines[index + 1 :]))
            return Outputs(float(loss[1]), tuple((each[1], float(each[2])) for each in found))
    return None


def _command(test: Test, caffe: Path) -> list[str]:
    command = [
        *(str(caffe), "test", f"--model={test.net}", f"--weights={test.weights}"),
        f"--iterations={test.iterations}",
    ]
    if test.level:
        command.append(f"--level={test.level}")
    if test.stages:
        command.append(f"--stage={','.join(test.stages)}")
    if test.gpu is not None:
        command.append(f"--gpu={test.gpu}")
    return command
