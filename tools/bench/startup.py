"""How long `caffesplit --help` takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.bench.measure import Result, in_turns

ROUNDS = 20


def run(paths: list[Path]) -> Result:
    caffesplit = Path(sys.executable).with_name("caffesplit")
    seconds = in_turns(
        {
            "python": lambda: _quiet(sys.executable, "-c", "pass"),
            "help": lambda: _quiet(caffesplit, "--help"),
        },
        ROUNDS,
    )
    return Result(
        "Start-up",
        (
            ("`python -c pass`", f"{seconds['python']:.3f} s", "", ""),
            ("`caffesplit --help`", f"{seconds['help']:.3f} s", "", "< 0.2 s"),
        ),
    )


def _quiet(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
