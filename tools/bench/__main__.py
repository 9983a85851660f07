"""Run the benchmarks and print their tables; `--save` also writes them to RESULTS.md.

The machine should be idle, and needs 3.5 GB in its folder for temporary files; `tpm` fetches an
older protobuf to measure against.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import re
import tempfile
from pathlib import Path

import numpy as np

from tools.bench import vgg

BENCHMARKS = (
    *("tpm", "memory", "splice", "fold", "plot", "log", "data", "startup"),
    *("pipeline", "engines"),
)
ON_REQUEST = ("gpu",)
"""Not among all of them: it needs a GPU."""

WITH_MODELS = {"tpm", "memory", "splice", "fold"}
SNAPSHOTS = 4
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="|".join((*BENCHMARKS, *ON_REQUEST)), help="[all but gpu]"
    )
    parser.add_argument("--save", action="store_true", help="write RESULTS.md, too")
    arguments = parser.parse_args()
    names = arguments.names or BENCHMARKS
    if unknown := set(names) - {*BENCHMARKS, *ON_REQUEST}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    text = header()
    print(text, end="", flush=True)
    with tempfile.TemporaryDirectory(prefix="caffesplit-bench-") as folder:
        paths = vgg.write(Path(folder), SNAPSHOTS) if set(names) & WITH_MODELS else []
        for name in names:
            table = importlib.import_module(f"tools.bench.{name}").run(paths).markdown()
            print(f"\n{table}", flush=True)
            text += f"\n{table}\n"
    if arguments.save:
        RESULTS.write_text(text, encoding="utf-8")


def header() -> str:
    """When and on what."""
    return (
        "# Results of `python -m tools.bench`\n\n"
        f"{datetime.date.today()}; {processor()}, {os.cpu_count()} cores; "
        f"{platform.system()}, Python {platform.python_version()}, numpy {np.__version__}. "
        "Medians, the subjects of a table taking turns.\n"
    )


def processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
