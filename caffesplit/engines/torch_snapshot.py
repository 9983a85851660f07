"""Snapshots of the torch engine: Caffe's files, which Caffe resumes from as well.

Source: Solver::Snapshot in src/caffe/solver.cpp, Net::ToProto and ToHDF5 in src/caffe/net.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffesplit.engines.caffe_log import Log
from caffesplit.engines.torch_feed import FedNet
from caffesplit.engines.torch_updates import Updater
from caffesplit.errors import Location
from caffesplit.formats import caffemodel, hdf5, solverstate
from caffesplit.formats.layers import LayerWeights
from caffesplit.net.graph import PHASES


@dataclass(frozen=True)
class Progress:
    """Where a training stands: updates made, and steps of the learning rate's policy."""

    iteration: int = 0
    current_step: int = 0


class Snapshots:
    """A solver's snapshots. Paths are as Caffe has them: from `root`, the working directory."""

    def __init__(self, solver: Any, prefix: str, root: Path, log: Log) -> None:
        """Raises WeightsError where snapshots are to be HDF5 and its library is not there."""
        self._prefix, self._root, self._log = prefix, root, log
        self._hdf5 = solver.snapshot_format == solver.HDF5
        if self._hdf5:
            hdf5.h5py_for(Location(f"{prefix}_iter_N.caffemodel{hdf5.SUFFIX}"))

    def write(self, progress: Progress, name: str, fed: FedNet, updater: Updater) -> None:
        """Write weights and solver state, over earlier ones of this iteration.

        Raises:
            OutputError: if the disk is full, or the files cannot be written.
        """
        ending = hdf5.SUFFIX if self._hdf5 else ""
        stem = f"{self._prefix}_iter_{progress.iteration}"
        weights, state = f"{stem}.caffemodel{ending}", f"{stem}.solverstate{ending}"
        self._log.snapshot(weights, self._hdf5)
        caffemodel.write(self._root / weights, records(fed), name, force=True)
        self._log.solver_state(state, self._hdf5)
        solverstate.write(
            self._root / state,
            solverstate.SolverState(
                progress.iteration, weights, updater.arrays(), progress.current_step
            ),
            force=True,
        )


def restore(path: Path, root: Path, fed: FedNet, updater: Updater, log: Log) -> Progress:
    """Take up a solver state and the weights that it names.

    Raises:
        WeightsError: if one of them is damaged, or of another net or type of solver.
    """
    state = solverstate.read(path)
    if state.learned_net:
        _copy(root / state.learned_net, fed, log)
    log.restored()
    updater.restore(state.history, str(path))
    return Progress(state.iteration, state.current_step)


def load(path: Path, shown: str, fed: FedNet, log: Log) -> None:
    """Take up weights, layer by layer of the same name.

    Raises:
        WeightsError: if the file is damaged, or a layer's blobs are shaped otherwise.
    """
    log.finetuning(shown)
    _copy(path, fed, log)


def _copy(path: Path, fed: FedNet, log: Log) -> None:
    for name in fed.net.load(caffemodel.read(path), str(path)):
        log.ignored(name)


def records(fed: FedNet) -> list[LayerWeights]:
    """The net's layers as Caffe writes them: definition and blobs.

    Without the Split layers that Caffe adds by itself, which hold nothing.
    """
    made = []
    for layer, (name, kind, blobs) in zip(fed.layers, fed.net.named_blobs(), strict=True):
        message = type(layer.message)()
        message.CopyFrom(layer.message)
        message.phase = PHASES.index(fed.phase)
        made.append(LayerWeights(name, kind, tuple(blobs), message))
    return made
