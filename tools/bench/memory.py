"""The anonymous memory of a process that takes the TPM of many large snapshots."""

from __future__ import annotations

import multiprocessing
import re
import threading
from pathlib import Path

from tools.bench import vgg
from tools.bench.measure import Result

SNAPSHOTS = (4, 40)
INTERVAL = 0.002
"""Seconds between samples of RssAnon."""


def run(paths: list[Path]) -> Result:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = pool.starmap(_peak, [(paths, count) for count in SNAPSHOTS], chunksize=1)
    return Result(
        "Anonymous memory of the whole process (peak of RssAnon)",
        tuple(
            (f"TPM over {count} snapshots of VGG-16", f"{peak:.0f} MB", "", "≤ 200 MB")
            for count, peak in zip(SNAPSHOTS, peaks, strict=True)
        ),
    )


def _peak(paths: list[Path], snapshots: int) -> float:
    from caffesplit.metric.trajectory import scores

    done = threading.Event()
    samples = [_anonymous()]

    def sample() -> None:
        while not done.wait(INTERVAL):
            samples.append(_anonymous())

    sampler = threading.Thread(target=sample)
    sampler.start()
    scores(vgg.history(paths, snapshots), [(0, snapshots - 1)], vgg.layers())
    done.set()
    sampler.join()
    return max(samples)


def _anonymous() -> float:
    """RssAnon of this process in MB."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024 / 1e6
