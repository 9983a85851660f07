"""What Caffe's own Python tools do to get at the weights of a file, and the seconds it takes.

    python -m tools.bench.peer MODEL

Runs in a process of its own, as protobuf differs by version: up to 6 it hands numpy value by
value, 7 hands over whole arrays.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def main() -> None:
    path = Path(sys.argv[1])
    from caffesplit.formats import schema

    net_parameter = schema.message_class("NetParameter")
    start = time.perf_counter()
    net = net_parameter.FromString(path.read_bytes())
    for layer in net.layer:
        for blob in layer.blobs:
            np.array(blob.data)
    print(time.perf_counter() - start)


def seconds(path: Path, python: Path | str = sys.executable) -> float:
    """The seconds that it takes with the protobuf of an interpreter."""
    command = [python, "-m", "tools.bench.peer", path]
    done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    return float(done.stdout)


def interpreter(folder: Path, requirement: str) -> Path:
    """Make an interpreter with another protobuf, from the package registry."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-qq", requirement, "numpy"], check=True)
    return python


if __name__ == "__main__":
    main()
