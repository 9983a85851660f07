"""Caffe's tools that say what they found and end: `caffe test`, `caffe time`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from caffesplit.engines import running
from caffesplit.engines.caffe_binary import LOGGING
from caffesplit.engines.watch import last_words
from caffesplit.errors import EngineError, Location


def said(
    command: Sequence[str], root: Path, hear: Callable[[str], None] = lambda line: None
) -> tuple[list[str], int]:
    """Run a command of Caffe's in the folder `root`: its lines, which `hear` gets as they come,
    and its exit status.

    Raises:
        EngineError: if the binary, the command's first word, does not start.
    """
    lines = []
    try:
        with subprocess.Popen(
            command,
            cwd=root,
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
                hear(line)
    except OSError as error:
        raise EngineError(
            f"Caffe does not start ({error.strerror})",
            "an executable file for this machine",
            at=Location(command[0]),
        ) from error
    return lines, process.returncode


def failed(tool: str, expected: str, net: Path, lines: Sequence[str], status: int) -> EngineError:
    """The error of a tool that did not say what it should, with its last words."""
    words = running.quoted(last_words(lines))
    return EngineError(
        f"{tool} failed (exit status {status})",
        expected,
        f"`caffesplit check` may tell why. Its last words:\n{words}",
        Location(str(net)),
    )


def state(level: int, stages: Sequence[str], gpu: str | None) -> list[str]:
    """The flags for a net's state, and the GPU."""
    flags = []
    if level:
        flags.append(f"--level={level}")
    if stages:
        flags.append(f"--stage={','.join(stages)}")
    if gpu is not None:
        flags.append(f"--gpu={gpu}")
    return flags
