"""Split the convolutions of Caffe nets by what their training reveals.

The names below are the public ones; each is imported when it is first used.

    experiment = caffesplit.load("exp/baseline")
    plan = caffesplit.decide(experiment, window=(40000, 50000), layers=3)
    caffesplit.derive(experiment, plan, experiment.weights_path(50000), Path("exp/derived1"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caffesplit.engines.caffe_binary import find as find_caffe
    from caffesplit.engines.caffe_binary import train
    from caffesplit.engines.choice import choose as choose_engine
    from caffesplit.engines.job import Job, Outcome
    from caffesplit.engines.job import prepare as prepare_job
    from caffesplit.errors import CaffesplitError, Location, TrainingError
    from caffesplit.experiment import Experiment, load
    from caffesplit.formats.caffemodel import read as read_weights
    from caffesplit.formats.caffemodel import splice as splice_weights
    from caffesplit.formats.caffemodel import write as write_weights
    from caffesplit.formats.prototxt import load as load_prototxt
    from caffesplit.formats.prototxt import parse as parse_prototxt
    from caffesplit.formats.snapshots import find as find_snapshots
    from caffesplit.formats.solverstate import read as read_solverstate
    from caffesplit.formats.trainlog import read as read_log
    from caffesplit.metric.history import History
    from caffesplit.metric.trajectory import norms, scores
    from caffesplit.net.check import check_net, check_weights
    from caffesplit.net.graph import build as build_net
    from caffesplit.split.fold import Scope, fold
    from caffesplit.split.forms import Setting
    from caffesplit.split.plan import LayerPlan, Plan
    from caffesplit.study.decide import decide
    from caffesplit.study.derive import derive
    from caffesplit.study.fold import write_fold

_HOMES = {
    # errors
    "CaffesplitError": "errors",
    "Location": "errors",
    "TrainingError": "errors",
    # files
    "load": "experiment",
    "Experiment": "experiment",
    "load_prototxt": "formats.prototxt:load",
    "parse_prototxt": "formats.prototxt:parse",
    "read_weights": "formats.caffemodel:read",
    "write_weights": "formats.caffemodel:write",
    "splice_weights": "formats.caffemodel:splice",
    "find_snapshots": "formats.snapshots:find",
    "read_solverstate": "formats.solverstate:read",
    "read_log": "formats.trainlog:read",
    # nets
    "build_net": "net.graph:build",
    "check_net": "net.check",
    "check_weights": "net.check",
    # kernels over time
    "History": "metric.history",
    "scores": "metric.trajectory",
    "norms": "metric.trajectory",
    # splits
    "Plan": "split.plan",
    "LayerPlan": "split.plan",
    "Setting": "split.forms",
    "decide": "study.decide",
    "derive": "study.derive",
    "fold": "split.fold",
    "Scope": "split.fold",
    "write_fold": "study.fold",
    # training
    "choose_engine": "engines.choice:choose",
    "Job": "engines.job",
    "Outcome": "engines.job",
    "prepare_job": "engines.job:prepare",
    "find_caffe": "engines.caffe_binary:find",
    "train": "engines.caffe_binary",
}
"""Public name → the module it lives in, and its name there where that is another."""

__all__ = [
    "CaffesplitError",
    "Experiment",
    "History",
    "Job",
    "LayerPlan",
    "Location",
    "Outcome",
    "Plan",
    "Scope",
    "Setting",
    "TrainingError",
    "build_net",
    "check_net",
    "check_weights",
    "choose_engine",
    "decide",
    "derive",
    "find_caffe",
    "find_snapshots",
    "fold",
    "load",
    "load_prototxt",
    "norms",
    "parse_prototxt",
    "prepare_job",
    "read_log",
    "read_solverstate",
    "read_weights",
    "scores",
    "splice_weights",
    "train",
    "write_fold",
    "write_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'caffesplit' has no attribute {name!r}")
    module, _, own_name = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"caffesplit.{module}"), own_name or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
