"""The anonymous memory of a process that takes the TPM of many large snapshots."""

from __future__ import annotations

import multiprocessing
import re
import threading
from collections.abc import Callable
from pathlib import Path

from tools.bench import vgg
from tools.bench.measure import Result

SNAPSHOTS = (4, 40)
INTERVAL = 0.002
"""Seconds between samples of RssAnon."""


def run(paths: list[Path]) -> Result:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        jobs = [(_tpm, paths, count) for count in SNAPSHOTS]
        peaks = pool.starmap(peak_of, jobs, chunksize=1)
    return Result(
        "Anonymous memory of the whole process (peak of RssAnon)",
        tuple(
            (f"TPM over {count} snapshots of VGG-16", f"{peak:.0f} MB", "", "≤ 200 MB")
            for count, peak in zip(SNAPSHOTS, peaks, strict=True)
        ),
    )


def peak_of(job: Callable[..., object], *arguments: object) -> float:
    """The peak of RssAnon in MB while `job` runs, for a process of its own."""
    done = threading.Event()
    samples = [_anonymous()]

    def sample() -> None:
        while not done.wait(INTERVAL):
            samples.append(_anonymous())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        job(*arguments)
    finally:
        done.set()
        sampler.join()
    return max(samples)


def _tpm(paths: list[Path], snapshots: int) -> None:
    from caffesplit.metric.trajectory import scores

    scores(vgg.history(paths, snapshots), [(0, snapshots - 1)], vgg.layers())


def _anonymous() -> float:
    """RssAnon of this process in MB."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024 / 1e6
