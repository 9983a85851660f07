"""How long `caffesplit --help` takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.bench.measure import medians

ROUNDS = 21


def run(say: Callable[[str], None]) -> None:
    """Measure and print times."""
    script = Path(sys.executable).with_name("caffesplit")

    def run_quietly(*command: str | Path) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    taken = medians(
        {
            "help": lambda: run_quietly(script, "--help"),
            "python": lambda: run_quietly(sys.executable, "-c", "pass"),
        },
        ROUNDS,
    )
    say(f"caffesplit --help   {taken['help']:6.3f} s  (wanted: less than 0.2)")
    say(f"python -c pass      {taken['python']:6.3f} s")
