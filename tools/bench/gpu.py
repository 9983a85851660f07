"""Training on a GPU: speed, the part of a step in which no kernel runs, and peak memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from caffesplit import experiment
from caffesplit.engines import torch_device
from caffesplit.engines.caffe_log import Log
from caffesplit.engines.torch_feed import Place, build
from caffesplit.engines.torch_group import One
from caffesplit.engines.torch_solver import Solver
from tools.bench import engines
from tools.bench.engines import Subject
from tools.bench.measure import Result

WARMING, PROFILED, STEPS = 30, 20, 200
NEVER = 10**6
SUBJECTS = (
    Subject("allcnn", (3, 42, 42), NEVER, 128),
    Subject("resnet20", (3, 40, 40), NEVER, 128),
)
PRECISIONS = ("float32", "tf32", "bfloat16")


def run(paths: list[Path]) -> Result:
    if not torch.cuda.is_available():
        raise SystemExit("gpu: torch sees no GPU here")
    device = torch.device("cuda", 0)
    rows = [
        row
        for subject in SUBJECTS
        for precision in PRECISIONS
        for row in measured(subject, device, precision)
    ]
    return Result(
        f"Training on {torch.cuda.get_device_name(device)}, torch {torch.__version__}", (*rows,)
    )


def measured(
    subject: Subject, device: torch.device, precision: str, steps: int = STEPS
) -> list[tuple[str, str, str, str]]:
    """Rows of one net: images per second; what share of a step is no kernel's; memory."""
    title = f"{subject.net}, batches of {subject.batch_size}, {precision}"
    with _ready(subject, device, precision) as solver:
        solver.step_to(WARMING)
        busy = _kernel_seconds(solver, device)
        torch.cuda.reset_peak_memory_stats()
        seconds = _wall_seconds(solver, device, steps)
        peak = torch.cuda.max_memory_allocated() / 1e6
    outside = max(0.0, 1 - busy / seconds)
    return [
        (title, f"{subject.batch_size / seconds:,.0f} images/s", "", ""),
        ("  outside kernels", f"{outside:.0%} of {1e3 * seconds:.2f} ms", "", "≤ 10 %"),
        ("  peak memory", f"{peak:,.0f} MB", "", ""),
    ]


@contextmanager
def _ready(subject: Subject, device: torch.device, precision: str) -> Iterator[Solver]:
    with tempfile.TemporaryDirectory(prefix="caffesplit-bench-gpu-") as name:
        root = Path(name)
        engines.write(root, subject)
        place = Place(device, root, bfloat16=precision == "bfloat16")
        loaded = experiment.load(root / subject.net, root, build)
        with (
            torch_device.computing(device, precision),
            Solver(loaded, place, One(), Log(lambda line: None)) as solver,
        ):
            yield solver


def _wall_seconds(solver: Solver, device: torch.device, steps: int) -> float:
    """Of a step, from many."""
    _wait(device)
    start = time.perf_counter()
    solver.step_to(solver.progress.iteration + steps)
    _wait(device)
    return (time.perf_counter() - start) / steps


def _kernel_seconds(solver: Solver, device: torch.device) -> float:
    """Of a step: the sum of its kernels' times, which run one after the other."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        solver.step_to(solver.progress.iteration + PROFILED)
        _wait(device)
    kernels = (event for event in profiled.key_averages() if event.device_type == DeviceType.CUDA)
    total = sum(event.self_device_time_total for event in kernels if not event.is_user_annotation)
    return total / 1e6 / PROFILED


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
