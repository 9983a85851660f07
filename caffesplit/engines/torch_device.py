"""What a torch engine computes on, and how precisely."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from caffesplit.errors import EngineError

SMALL = 1 << 16
"""Values in a pass; fewer than this are computed before a second thread has begun."""

PRECISIONS = ("float32", "tf32", "bfloat16")
"""float32 is Caffe's own; the others let matrix products and convolutions be coarser."""


def chosen(device: str, gpu: str | None, device_id: int = 0) -> torch.device:
    """The device that is named, or of the GPUs ("0", "0,1", "all") the one for this process.

    With neither of them (device "auto", no `gpu`), a GPU where there is one: of several for one
    process that of the solver's `device_id`.

    Raises:
        EngineError: if there is no such device, or there are more GPUs than processes.
    """
    if device != "auto":
        return _named(device)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu is None and not count:
        return torch.device("cpu")
    ids = list(range(count)) if gpu in (None, "all") else _ids(gpu)
    processes, own = (int(os.environ.get(name, default)) for name, default in PROCESS)
    if gpu is not None and len(ids) > processes:
        raise EngineError(
            f"{len(ids)} GPUs and {processes} process{'es' if processes > 1 else ''}",
            "a process for each",
            f"torchrun --nproc_per_node={len(ids)} -m caffesplit train … starts them.",
        )
    if gpu is None and processes == 1 and device_id in ids:
        ids = [device_id]
    return _named(f"cuda:{ids[own % len(ids)]}" if ids else "cuda")


PROCESS = (("LOCAL_WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
"""torchrun's variables: how many processes there are on this machine, and which this one is."""


def _ids(gpu: str | None) -> list[int]:
    try:
        return [int(number) for number in (gpu or "").split(",")]
    except ValueError:
        raise EngineError(f"GPU {gpu!r}", '"0", "0,1" or "all"') from None


def _named(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise EngineError(f"device {name!r}", '"cpu", "cuda" or "cuda:1"') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        built = "" if torch.cuda.is_available() else "; this torch sees no GPU at all"
        raise EngineError(
            f"no device {name!r}{built}",
            "a GPU that is there",
            "Train on the CPU: leave --gpu away.",
        )
    return device


def title(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def warning(solver: Any, device: torch.device) -> str:
    """That a solver's GPU is not there; nothing where it is, or where none is named."""
    if solver.HasField("solver_mode") and solver.solver_mode == solver.GPU and device.type == "cpu":
        return "solver_mode: GPU is not followed, since torch sees no GPU: this runs on the CPU"
    return ""


@contextmanager
def computing(device: torch.device, precision: str = "float32") -> Iterator[None]:
    """Compute there, and leave other GPUs alone; in real float32, which cuDNN by itself does not,
    or with TF32 where that is asked.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"precision {precision!r}", f"one of {', '.join(PRECISIONS)}")
    coarse = precision == "tf32"
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = coarse
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def suited(size: int, threads: int) -> Iterator[None]:
    """Compute as it suits a net whose pass makes so many values (`size`): a small one without what
    saves time in large ones only, further `threads` and oneDNN's convolutions.
    """
    is_small = size <= SMALL
    before = torch.get_num_threads()
    has_onednn, *_ = torch.backends.mkldnn.set_flags(not is_small)
    torch.set_num_threads(1 if is_small else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.backends.mkldnn.set_flags(has_onednn)
