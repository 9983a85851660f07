"""The real Caffe: finding the binary, and training with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caffesplit.engines import install, running
from caffesplit.engines.job import Job, Outcome
from caffesplit.engines.running import Observer
from caffesplit.engines.watch import Watch
from caffesplit.errors import CaffesplitError, EngineError, Location

PIECE = 1 << 16
"""Bytes of the log read at a time, at most."""

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

    What the job replaces is removed when Caffe has set up its nets. The log gets what Caffe
    prints, as it comes. A run that goes on is appended to it; before any other one, an earlier log
    is renamed to LOG.1, LOG.2 … SIGINT, SIGHUP and SIGTERM are passed on to Caffe, which finishes
    its snapshot; a second SIGINT kills it.

    A run whose loss is no number any more is ended, since no iteration can mend that.

    Raises:
        EngineError: if the binary does not start, or has no GPU and is asked for one; or if
            the solver is at work already.
        TrainingError: if the run diverged, crashed, was killed or trained nothing; with the
            log's last words.
        OutputError: if the log cannot be written.
    """
    start, replaced = time.monotonic(), running.Replaced(job)
    with (
        running.alone(job.solver),
        _started(job, caffe) as process,
        Watch(job.log, job.goes_on) as watch,
    ):
        status = _followed(process, watch, observe, replaced)
        if watch.diverged_at is not None:
            raise running.diverged(job, watch)
        if status != 0 or not watch.trained:
            raise _crashed(job, caffe, watch, status)
        replaced.remove()
        return running.outcome(job, watch, start)


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
def _started(job: Job, caffe: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Caffe at work on the job; what is left of it in the end is killed."""
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


def _followed(
    process: subprocess.Popen[bytes],
    watch: Watch,
    observe: Observer,
    replaced: running.Replaced,
) -> int:
    """Follow Caffe to its end, or to where it is hopeless; return its exit status.

    Once it says that it trains, which is before its first iteration, `replaced` is removed.
    """
    assert process.stdout is not None
    with running.handling(_passing_on(process)):
        while piece := os.read(process.stdout.fileno(), PIECE):
            for record in watch.feed(piece):
                observe(record)
            if watch.begun:
                replaced.remove()
            if watch.hopeless:
                _send(process, signal.SIGKILL)
        status = process.wait()
    for record in watch.close():
        observe(record)
    return status


def _passing_on(process: subprocess.Popen[bytes]) -> Callable[[int], None]:
    """A handler that passes signals to Caffe; it kills it on the second SIGINT."""
    interrupts = 0

    def pass_on(number: int) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        _send(process, signal.SIGKILL if interrupts > 1 else number)

    return pass_on


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to Caffe and, where `caffe` is a script, to what it has started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _crashed(job: Job, caffe: Path, watch: Watch, status: int) -> CaffesplitError:
    if NO_GPU in watch.last_words:
        return EngineError(
            "this Caffe was built without CUDA, and is asked for a GPU",
            "solver_mode: CPU, and no --gpu",
            f"Set it in {job.solver}, name a Caffe with CUDA (this is {caffe}), or take PyTorch: "
            "--engine torch.\n" + running.quoted(watch.last_words),
            Location(str(job.log)),
        )
    how = f"exit status {status}"
    if status < 0 and status != -signal.SIGABRT:
        how = f"killed by {signal.Signals(-status).name}"
    return running.crashed(job, watch, "Caffe", how, f"(it said nothing; this is {caffe})")
