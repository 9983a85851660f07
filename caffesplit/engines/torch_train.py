"""Training with PyTorch as `caffe train` does it: the same files in, the same log and files out."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

import torch

from caffesplit import experiment
from caffesplit.engines import running, torch_device
from caffesplit.engines.caffe_log import Log
from caffesplit.engines.job import Job, Outcome, named_weights
from caffesplit.engines.running import Observer
from caffesplit.engines.torch_feed import Place, build
from caffesplit.engines.torch_group import Group, joined
from caffesplit.engines.torch_solver import Request, Solver
from caffesplit.engines.watch import Watch
from caffesplit.errors import CaffesplitError, OutputError, TrainingError
from caffesplit.experiment import Experiment
from caffesplit.formats import schema

FAILURES = {
    "CUDA out of memory": "out of memory; a smaller batch_size needs less",
    "can't allocate memory": "out of memory; a smaller batch_size needs less",
    "device-side assert triggered": "on the GPU: a label is none of the net's classes",
    "gloo": "another process of the training has ended; it says why",
    "NCCL": "another process of the training has ended; it says why",
}
"""What torch says, from then on to every call after an index out of range, and what that means."""


def train(
    job: Job,
    observe: Observer = lambda record: None,
    *,
    device: str = "auto",
    precision: str = "float32",
) -> Outcome:
    """Train in this process, keep a log, and return when the training has ended.

    All is as in caffe_binary.train: what the job replaces is removed, the log is appended to or
    an earlier one renamed; SIGINT snapshots and stops, SIGHUP snapshots; a second SIGINT, and
    SIGTERM, end the run at once. A run whose loss is no number any more takes a last snapshot.

    Under torchrun this process is one of several, as Caffe's GPUs are: each takes every n-th item
    of the data, and gradients are averaged. The first one alone tests, logs and snapshots; the
    others return an outcome without a loss.

    Args:
        device: "cpu", "cuda", "cuda:1" …; "auto" is the job's, or a GPU where there is one.
        precision: "float32", or "tf32" or "bfloat16" for matrix products and convolutions.

    Raises:
        NetError, DatabaseError, WeightsError, EngineError: for an experiment that cannot be run,
            or that is at work already; nothing has been written then. DatabaseError also for
            data that turns out to be damaged later.
        TrainingError: if the run diverged or was killed.
        OutputError: if the log or a snapshot cannot be written.
    """
    on = torch_device.chosen(device, job.gpu, job.device_id)
    requests = _Requests()
    with (
        torch_device.computing(on, precision),
        running.handling(requests.handle),
        joined(on) as group,
    ):
        place = Place(on, job.root, group.share, precision == "bfloat16")
        if group.share.rank:
            return _follow(job, place, group, requests)
        with running.alone(job.solver), _Journal(job, observe) as journal:
            return _lead(job, place, group, requests, journal)


def _lead(job: Job, place: Place, group: Group, requests: _Requests, journal: _Journal) -> Outcome:
    """Train in the only process, or the first one of several."""
    start = time.monotonic()
    log = Log(journal.write)
    device = torch_device.title(place.device)
    log.device(job.gpu or _index(place.device), device)
    title = f"PyTorch {torch.__version__} on {device}"
    log.engine(title, group.share.rank, group.share.count)
    begun = running.Replaced(job).remove

    def crashed(how: str) -> CaffesplitError:
        error = journal.crashed(how)
        log.failed(how)
        return error

    try:
        with (
            _told(crashed),
            _ready(job, place, group, log, requests, begun) as solver,
        ):
            journal.open()
            solver.solve()
    except OutputError as error:
        raise journal.unwritten(error) from error
    except TrainingError:
        raise
    except CaffesplitError as error:
        log.failed(str(error))
        raise
    watch = journal.finish()
    if watch.diverged_at is not None:
        raise running.diverged(job, watch)
    return running.outcome(job, watch, start)


def _follow(job: Job, place: Place, group: Group, requests: _Requests) -> Outcome:
    """Train in another than the first process."""
    start = time.monotonic()

    def crashed(how: str) -> CaffesplitError:
        return TrainingError(f"process {group.share.rank} of the training ended ({how})")

    with (
        _told(crashed),
        _ready(job, place, group, Log(lambda line: None), requests) as solver,
    ):
        solver.solve()
    seconds = time.monotonic() - start
    return Outcome(solver.progress.iteration, None, None, seconds, solver.stopped, ())


@contextmanager
def _told(crashed: Callable[[str], CaffesplitError]) -> Iterator[None]:
    """Tell by an error of ours what signals, and errors of torch's that are known, mean."""
    try:
        yield
    except _Killed as killed:
        raise crashed(str(killed)) from None
    except RuntimeError as error:
        for words, meaning in FAILURES.items():
            if words in str(error):
                raise crashed(meaning) from error
        raise


@contextmanager
def _ready(
    job: Job,
    place: Place,
    group: Group,
    log: Log,
    requests: _Requests,
    begun: Callable[[], object] = lambda: None,
) -> Iterator[Solver]:
    """The job's solver, set up, with what it starts from."""
    loaded = experiment.load(job.solver, job.root, build)
    schema.refuse_unknown(schema.read(loaded.solver_tree, "SolverParameter").unknown)
    weights = _weights(job, loaded)
    if warning := torch_device.warning(loaded.solver, place.device):
        log.note(warning)
    with Solver(loaded, place, group, log, requests.next, weights, begun) as solver:
        if job.snapshot:
            solver.restore(str(job.snapshot))
        yield solver


def _weights(job: Job, loaded: Experiment) -> list[str]:
    """The weights to start from: the job's, or else those that the solver names itself."""
    if job.snapshot:
        return []
    if job.weights:
        return [str(job.weights)]
    return named_weights(loaded.solver)


def _index(device: torch.device) -> str | None:
    return None if device.type == "cpu" else str(device.index or 0)


class _Killed(BaseException):
    """A signal that ends the run at once."""

    def __init__(self, number: int) -> None:
        super().__init__(f"killed by {signal.Signals(number).name}")


class _Requests:
    """What signals ask for, as Caffe understands them."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._interrupted = False

    def handle(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._waiting.append(Request.SNAPSHOT)
        elif number == signal.SIGINT and not self._interrupted:
            self._interrupted = True
            self._waiting.append(Request.STOP)
        else:
            raise _Killed(number)

    def next(self) -> Request:
        return self._waiting.popleft() if self._waiting else Request.NONE


class _Journal:
    """The run's log. Lines wait until it is opened: a run that cannot begin leaves none.

    A context, which closes it.
    """

    def __init__(self, job: Job, observe: Observer) -> None:
        self._job, self._observe = job, observe
        self._early: list[bytes] = []
        self._watch: Watch | None = None
        self._closing = ExitStack()

    def write(self, line: bytes) -> None:
        if self._watch is None:
            self._early.append(line)
            return
        for record in self._watch.feed(line):
            self._observe(record)

    def open(self) -> None:
        """Begin the log."""
        self._watch = self._closing.enter_context(Watch(self._job.log, self._job.goes_on))
        for line in self._early:
            self.write(line)

    def finish(self) -> Watch:
        """Tell what the log's end completes."""
        assert self._watch is not None
        for record in self._watch.close():
            self._observe(record)
        return self._watch

    def unwritten(self, error: OutputError) -> CaffesplitError:
        """The error of a run that could not write any more, if it had begun."""
        return error if self._watch is None else running.unwritten(self._job, self._watch, error)

    def crashed(self, how: str) -> CaffesplitError:
        """The error of a run that ended in the middle."""
        if self._watch is None:
            return TrainingError(f"the training ended before it began ({how})")
        return running.crashed(self._job, self._watch, "the training", how, "(nothing yet)")

    def __enter__(self) -> _Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()
