"""`python -m tools.bench.memory SNAPSHOT…` prints the peak of anonymous memory of scoring them.

A process of its own: what the interpreter and the imports take counts too.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tools.bench.tpm import score


def main() -> None:
    peak = anonymous()
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(0.002):
            peak = max(peak, anonymous())

    sampler = threading.Thread(target=sample)
    sampler.start()
    score([Path(name) for name in sys.argv[1:]])
    ended.set()
    sampler.join()
    print(max(peak, anonymous()))


def anonymous() -> int:
    """This process's anonymous memory in bytes."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
