"""The real Caffe: finding the binary, and training with it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from caffesplit.engines import install
from caffesplit.engines.job import Job, Outcome
from caffesplit.engines.watch import Watch
from caffesplit.errors import CaffesplitError, EngineError, Location, TrainingError
from caffesplit.formats.trainlog import Record

Observer = Callable[[Record], None]
"""Called with every row and event of the log, as soon as it is complete."""

PIECE = 1 << 16
"""Bytes of the log read at a time, at most."""

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""Passed on. Caffe by itself takes a snapshot and stops on SIGINT, takes one on SIGHUP."""

LOGGING = {"GLOG_logtostderr": "1", "GLOG_minloglevel": "0"}
"""Everything to stderr, even where the user's environment keeps pycaffe quiet."""

NO_GPU = "CPU-only Caffe"
"""What a Caffe that was built without CUDA says of a GPU (src/caffe/common.cpp)."""


def find(explicit: str | None = None) -> Path:
    """The Caffe binary: `explicit`, $CAFFE, $CAFFE_ROOT's build, PATH's, or the installed one.

    Raises:
        EngineError: if there is none, with all places tried; or if the one that `explicit` or
            $CAFFE names is not there.
    """
    for origin, name in (("--caffe", explicit), ("$CAFFE", os.environ.get("CAFFE"))):
        if name:
            return _named(origin, name)
    root = os.environ.get("CAFFE_ROOT")
    candidates = {
        f"{root or '$CAFFE_ROOT'}/build/tools/caffe": root
        and shutil.which(Path(root, "build/tools/caffe")),
        "caffe on PATH": shutil.which("caffe"),
        "caffe.bin on PATH": shutil.which("caffe.bin"),
        f"{install.cache_folder() / 'caffe'}": install.installed(),
    }
    for path in candidates.values():
        if path:
            return Path(path).absolute()
    tried = "".join(f"    {place}\n" for place in ("--caffe", "$CAFFE", *candidates))
    raise EngineError(
        "no Caffe",
        "its binary, `caffe`, in one of these places",
        f"{tried}On Debian or Ubuntu (x86-64), tools/install_caffe.py brings one without root.",
    )


def train(job: Job, caffe: Path, observe: Observer = lambda record: None) -> Outcome:
    """Run `caffe train`, keep its log, and return when it has ended.

    What the job replaces is removed before Caffe starts. The log gets what Caffe prints, as it
    comes. A run that goes on is appended to it; before any other one, an earlier log is renamed
    to LOG.1, LOG.2 … SIGINT, SIGHUP and
    SIGTERM are passed on to Caffe, which finishes its snapshot; a second SIGINT kills it.

    A run whose loss is no number any more is ended, since no iteration can mend that.

    Raises:
        EngineError: if the binary does not start, or has no GPU and is asked for one; or if
            the solver is at work already.
        TrainingError: if the run diverged, crashed, was killed or trained nothing; with the
            log's last words.
        OutputError: if the log cannot be written.
    """
    start = time.monotonic()
    with (
        _alone(job.solver),
        _started(job, caffe) as process,
        Watch(job.log, job.goes_on) as watch,
    ):
        status = _followed(process, watch, observe)
        if watch.diverged_at is not None:
            raise _diverged(job, watch)
        if status != 0 or not watch.trained:
            raise _crashed(job, caffe, watch, status)
        return Outcome(
            watch.iterations,
            watch.loss,
            watch.accuracy,
            time.monotonic() - start,
            watch.stopped,
            tuple(job.root / path for path in watch.snapshots),
        )


def _named(origin: str, name: str) -> Path:
    path = shutil.which(name)
    if path is None:
        raise EngineError(
            f'{origin} names "{name}"',
            "an executable file, or one on PATH",
            "Name the binary itself, as in build/tools/caffe.",
        )
    return Path(path).absolute()


def _command(job: Job, caffe: Path) -> list[str]:
    command = [str(caffe), "train", f"--solver={job.solver}"]
    if job.weights:
        command.append(f"--weights={job.weights}")
    if job.snapshot:
        command.append(f"--snapshot={job.snapshot}")
    if job.level:
        command.append(f"--level={job.level}")
    if job.gpu:
        command.append(f"--gpu={job.gpu}")
    return command


@contextmanager
def _alone(solver: Path) -> Iterator[None]:
    """Keep a second training of the same solver from starting meanwhile."""
    with solver.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EngineError(
                "this solver is being trained with already",
                "one training at a time",
                "Wait for its end, or stop it: both would write the same snapshots.",
                Location(str(solver)),
            ) from error
        except OSError:
            # Some network file systems have no locks.
            pass
        yield


@contextmanager
def _started(job: Job, caffe: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Caffe at work on the job; what is left of it in the end is killed."""
    for path in job.replaced:
        path.unlink(missing_ok=True)
    try:
        process = subprocess.Popen(
            _command(job, caffe),
            cwd=job.root,
            env={**os.environ, **LOGGING},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own: the terminal's Ctrl-C would reach Caffe a second time otherwise.
            start_new_session=True,
        )
    except OSError as error:
        raise EngineError(
            f"Caffe does not start ({error.strerror})",
            "an executable file for this machine",
            at=Location(str(caffe)),
        ) from error
    with process:
        try:
            yield process
        finally:
            _send(process, signal.SIGKILL)


def _followed(process: subprocess.Popen[bytes], watch: Watch, observe: Observer) -> int:
    """Follow Caffe to its end, or to where it is hopeless; return its exit status."""
    assert process.stdout is not None
    with _passing_signals_on(process):
        while piece := os.read(process.stdout.fileno(), PIECE):
            for record in watch.feed(piece):
                observe(record)
            if watch.hopeless:
                _send(process, signal.SIGKILL)
        status = process.wait()
    for record in watch.close():
        observe(record)
    return status


@contextmanager
def _passing_signals_on(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass signals to Caffe instead of ending on them, where this is the main thread."""
    interrupts = 0

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        _send(process, signal.SIGKILL if interrupts > 1 else number)

    passed = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        passed = []
    before = {number: signal.signal(number, pass_on) for number in passed}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to Caffe and, where `caffe` is a script, to what it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _diverged(job: Job, watch: Watch) -> TrainingError:
    return TrainingError(
        f"training diverged: the loss is {watch.loss:g} since iteration {watch.diverged_at}",
        "a loss that falls",
        f"Lower base_lr in {job.solver}, or set clip_gradients.",
        Location(str(job.log)),
    )


def _crashed(job: Job, caffe: Path, watch: Watch, status: int) -> CaffesplitError:
    words = "\n".join(f"    {line}" for line in watch.last_words.splitlines())
    at = Location(str(job.log))
    if NO_GPU in words:
        return EngineError(
            "this Caffe was built without CUDA, and is asked for a GPU",
            "solver_mode: CPU, and no --gpu",
            f"Set it in {job.solver}, or name a Caffe with CUDA (this is {caffe}).\n{words}",
            at,
        )
    how = f"exit status {status}"
    if status < 0 and status != -signal.SIGABRT:
        how = f"killed by {signal.Signals(-status).name}"
    when = f"after iteration {watch.iterations}" if watch.iterations else "before any training"
    if not words:
        words = f"    (it said nothing; this is {caffe})"
    return TrainingError(f"Caffe ended {when} ({how}); its last words:", "", words, at)
