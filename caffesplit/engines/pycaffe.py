"""pycaffe in a Python of its own: found, and asked for what a net's layers put out.

pycaffe is built for one Python, which is hardly ever that of caffesplit. A worker process of that
Python holds the net; requests and answers go through pipes, arrays through files.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffesplit.engines import caffe_binary, install
from caffesplit.errors import EngineError, Location
from caffesplit.formats.blobs import Array

WORKER = Path(__file__).with_name("pycaffe_worker.py")

PYTHON = "python-caffe"
"""What tools/install_caffe.py puts beside the Caffe binary."""

ON_PATH = ("python3", "python", "python2")

LAST_LINES = 12
"""Of the worker's own words, shown where it ends before its time."""

INSTALL = "On Debian or Ubuntu (x86-64), tools/install_caffe.py brings one without root."

QUIET = {"GLOG_logtostderr": "1", "GLOG_minloglevel": "2"}
"""Errors alone."""


@dataclass(frozen=True)
class State:
    """The net to set up in TRAIN: its prototxt, and the folder that its paths start from.

    `weights` is a file to start from, in place of the fillers. `seed` is that of the fillers, of
    the data's random crops and mirror images, and of dropout.
    """

    net: str
    root: Path
    weights: Path | None = None
    level: int = 0
    stages: tuple[str, ...] = ()
    seed: int = 0


def find(explicit: str | None = None) -> Path:
    """The Python that has pycaffe: `explicit`, $PYCAFFE, Caffe's neighbour, or one on PATH.

    Raises:
        EngineError: if there is none, with all places tried; or if the one that `explicit` or
            $PYCAFFE names is not there.
    """
    for origin, name in (("--pycaffe", explicit), ("$PYCAFFE", os.environ.get("PYCAFFE"))):
        if name:
            path = shutil.which(name)
            if path is None:
                raise EngineError(
                    f'{origin} names "{name}"',
                    "a Python that can `import caffe`",
                    "Name the interpreter itself, as in /usr/bin/python3.",
                )
            return Path(path).absolute()
    for neighbour in _neighbours():
        if neighbour.is_file():
            return neighbour
    for name in ON_PATH:
        path = shutil.which(name)
        if path and _has_caffe(Path(path).absolute()):
            return Path(path).absolute()
    tried = ("--pycaffe", "$PYCAFFE", f"{PYTHON} beside the Caffe binary", *ON_PATH)
    raise EngineError(
        "no Python with pycaffe",
        "one that can `import caffe`, in one of these places",
        "".join(f"    {place}\n" for place in tried) + INSTALL,
    )


class Forward:
    """A net in the worker, run forward on one batch, layer after layer.

    `initial` is a caffemodel of the weights that it was set up with. It goes with the worker.
    """

    def __init__(self, python: Path, process: subprocess.Popen[str], folder: Path) -> None:
        self._python, self._process, self._folder = python, process, folder
        self.initial = folder / "initial.caffemodel"

    def open(self, net: Path, state: State) -> None:
        """Set up the net. The first thing to ask for.

        Raises:
            EngineError: if Caffe gives up.
        """
        self._ask(
            "open",
            net=str(net),
            weights=state.weights and str(state.weights.resolve()),
            level=state.level,
            stages=list(state.stages),
            seed=state.seed,
            initial=str(self.initial),
        )

    def output_variance(self, layer: str, weights: Array) -> float:
        """The variance of what `layer` puts out with these weights, before anything works on that
        in place. Layers are asked for in the net's order, each as often as need be.

        Raises:
            EngineError: if Caffe gives up.
        """
        path = self._folder / "weights.npy"
        np.save(path, weights.astype(np.float32))
        return float(self._ask("measure", layer=layer, weights=str(path)))

    def _ask(self, what: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise self._ended()
        return json.loads(answer)

    def _ended(self) -> EngineError:
        status = self._process.wait()
        said = (self._folder / "stderr").read_text(encoding="utf-8", errors="replace")
        lines = [line for line in said.splitlines() if not line.startswith("    @ ")]
        words = "\n".join(f"    {line}" for line in lines[-LAST_LINES:])
        at = Location(str(self._python))
        if "import caffe" in words:
            return EngineError(
                f"this Python has no pycaffe ({lines[-1]})",
                "one that can `import caffe`",
                f"{INSTALL}\nOr take PyTorch: --engine torch.",
                at,
            )
        return EngineError(
            f"pycaffe gave up (exit status {status}); its last words:",
            "",
            words or "    (it said nothing)",
            at,
        )


@contextmanager
def forward(state: State, python: Path) -> Iterator[Forward]:
    """A net in a worker process, which ends with the block.

    Raises:
        EngineError: if the Python does not start, has no pycaffe, or Caffe does not take the net.
    """
    with ExitStack() as leaving:
        folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="caffesplit.")))
        net = folder / "net.prototxt"
        net.write_bytes(state.net.encode("utf-8", "surrogateescape"))
        said = leaving.enter_context((folder / "stderr").open("wb"))
        try:
            process = subprocess.Popen(
                [python, WORKER],
                cwd=state.root,
                env={**os.environ, **QUIET},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        except OSError as error:
            raise EngineError(
                f"this Python does not start ({error.strerror})",
                "an executable file for this machine",
                at=Location(str(python)),
            ) from error
        leaving.callback(_end, process)
        worker = Forward(python, process, folder)
        worker.open(net, state)
        yield worker


def _neighbours() -> Iterator[Path]:
    with suppress(EngineError):
        yield caffe_binary.find().with_name(PYTHON)
    installed = install.installed()
    if installed:
        yield installed.with_name(PYTHON)


def _has_caffe(python: Path) -> bool:
    """Whether the worker will find it: a folder that is only called caffe, as that of Caffe's
    source, is no pycaffe, nor is what lies in the working directory.
    """
    command = [str(python), "-c", "from caffe import Net"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=WORKER.parent)
    return done.returncode == 0


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    with suppress(BrokenPipeError):
        process.communicate()
