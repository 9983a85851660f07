"""The engines that run a net's jobs, and which one to take."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from caffesplit.engines import caffe_binary, testing, timing, torch_process
from caffesplit.engines.job import Job, Outcome
from caffesplit.engines.running import Observer
from caffesplit.engines.testing import Outputs, Progress, Test
from caffesplit.engines.timing import Times, Timing
from caffesplit.errors import EngineError

ENGINES = ("auto", "caffe", "torch")
"""auto is Caffe where there is one, else torch."""


class Engine(Protocol):
    """What can run a job; each raises what its own functions say."""

    def title(self, gpu: str | None, device_id: int = 0) -> str:
        """What trains, and on what, for a person; both as in a job."""
        ...

    def warning(self, solver: Any, gpu: str | None) -> str:
        """What else a person should know before a solver is trained with; mostly nothing."""
        ...

    def train(self, job: Job, observe: Observer) -> Outcome: ...

    def test(self, test: Test, progress: Progress) -> Outputs: ...

    def time(self, asked: Timing, progress: Progress) -> Times: ...


@dataclass(frozen=True)
class Caffe:
    """The real Caffe."""

    binary: Path

    def title(self, gpu: str | None, device_id: int = 0) -> str:
        return "Caffe"

    def warning(self, solver: Any, gpu: str | None) -> str:
        return ""

    def train(self, job: Job, observe: Observer) -> Outcome:
        return caffe_binary.train(job, self.binary, observe)

    def test(self, test: Test, progress: Progress) -> Outputs:
        return testing.run(test, self.binary, progress)

    def time(self, asked: Timing, progress: Progress) -> Times:
        return timing.run(asked, self.binary, progress)


@dataclass(frozen=True)
class Torch:
    """PyTorch, with Caffe's numerics."""

    precision: str = "float32"
    """As torch_train.train has it."""

    def title(self, gpu: str | None, device_id: int = 0) -> str:
        from caffesplit.engines import torch_device

        return f"PyTorch on {torch_device.title(torch_device.chosen('auto', gpu, device_id))}"

    def warning(self, solver: Any, gpu: str | None) -> str:
        from caffesplit.engines import torch_device

        return torch_device.warning(solver, torch_device.chosen("auto", gpu))

    def train(self, job: Job, observe: Observer) -> Outcome:
        from caffesplit.engines import torch_train

        return torch_train.train(job, observe, precision=self.precision)

    def test(self, test: Test, progress: Progress) -> Outputs:
        from caffesplit.engines import torch_test

        return torch_test.run(test, progress)

    def time(self, asked: Timing, progress: Progress) -> Times:
        from caffesplit.engines import torch_time

        return torch_time.run(asked, progress)


def choose(name: str = "auto", caffe: str | None = None, precision: str = "float32") -> Engine:
    """The engine of this name; `caffe` is the binary's path, where it is not to be searched for.

    Raises:
        EngineError: if it is not there.
    """
    has_torch = importlib.util.find_spec("torch") is not None
    if name == "torch" and not has_torch:
        raise EngineError(
            "torch is not installed",
            "it for --engine torch",
            "Install it: pip install torch",
        )
    if name == "torch":
        return _torch(precision)
    try:
        return Caffe(caffe_binary.find(caffe))
    except EngineError as error:
        if name == "caffe" or caffe is not None:
            raise
        if has_torch:
            return _torch(precision)
        raise without_caffe(error) from None


def without_caffe(error: EngineError) -> EngineError:
    """The error that there is no Caffe, and that torch would do."""
    remedy = f"{error.remedy}\nOr do without Caffe: pip install torch"
    return EngineError(error.found, error.expected, remedy)


def _torch(precision: str) -> Torch:
    torch_process.wait_briefly()
    return Torch(precision)
