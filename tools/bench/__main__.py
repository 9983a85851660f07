"""Benchmarks: `python -m tools.bench [tpm] [splice] [startup]`, all of them by default.

They print ratios against peers and physical limits, measured in the same run. They need 3 GB in
the folder for temporary files, and some minutes. Results belong into RESULTS.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from pathlib import Path

import numpy as np

from tools.bench import splice, startup, tpm

BENCHMARKS = {"tpm": tpm.run, "splice": splice.run, "startup": startup.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", choices=[*BENCHMARKS, []], metavar="BENCHMARK")
    chosen = parser.parse_args().benchmarks or list(BENCHMARKS)
    print(f"{datetime.date.today()}, {machine()}")
    for name in chosen:
        print(f"\n{name}")
        BENCHMARKS[name](lambda line: print(f"  {line}", flush=True))


def machine() -> str:
    """The processor, its cores, and what runs on it."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    python = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{models[0]}, {os.cpu_count()} cores, {platform.system()}, {python}"


if __name__ == "__main__":
    main()
