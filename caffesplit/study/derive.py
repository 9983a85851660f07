"""Writing a derived experiment: solver, nets, initial weights and the record of the split."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from caffesplit.errors import Location, OutputError, SplitError
from caffesplit.experiment import Experiment
from caffesplit.formats import caffemodel, prototxt, schema, snapshots, solverstate
from caffesplit.formats.output import replacing
from caffesplit.formats.prototxt import Message
from caffesplit.net import check
from caffesplit.net.findings import within
from caffesplit.net.graph import Net
from caffesplit.net.solver import phases
from caffesplit.net.solver_rules import check_solver
from caffesplit.split.forms import Setting
from caffesplit.split.plan import Plan
from caffesplit.split.plan_json import as_json
from caffesplit.split.rewrite import Split, rewrite_net, rewrite_weights, split
from caffesplit.study.files import (
    deploy_net,
    experiment_texts,
    path_from_root,
    sha256,
    versions,
)
from caffesplit.study.inputs import train_shapes
from caffesplit.study.momentum import derived_state, state_beside

STARTS = ("init.caffemodel", "init.caffemodel.h5", "init.solverstate", "init.solverstate.h5")
LEFTOVERS = ("deploy.prototxt", *STARTS)
"""Files of an earlier split that would pass for this one's, unless this one writes them too."""


def derive(
    experiment: Experiment,
    plan: Plan,
    weights_path: Path,
    out: Path,
    setting: Setting | None = None,
    assignments: Sequence[str] = (),
    force: bool = False,
    momentum: bool = False,
    hdf5: bool = False,
) -> Split:
    """Write the experiment that `plan` derives, into the folder `out`.

    `out` gets solver.prototxt, train_val.prototxt (train.prototxt and test.prototxt for a solver
    that keeps them apart), init.caffemodel, split.json and, where the base has one,
    deploy.prototxt: all of them or, on any error, none. With `momentum` there is also
    init.solverstate, to go on at the base's iteration. With `hdf5` these are
    init.caffemodel.h5 and init.solverstate.h5, which may be larger than 2 GB.

    Raises:
        SplitError: if the plan cannot be carried out on this experiment.
            With `momentum`, also if there is no solver state beside the weights.
        OutputError: if `out` holds these files already and `force` is false, or snapshots of
            another training.
        WeightsError, PrototxtError: if an input is damaged.
    """
    setting = setting or Setting()
    weights = caffemodel.read(weights_path)
    change = split(experiment.net, weights, plan, setting, train_shapes(experiment).blobs)
    derived = [
        _checked(each.net, rewrite_net(each.net, change), phases(each.field))
        for each in experiment.nets
    ]
    inputs, deploy = [*experiment.paths, weights_path], deploy_net(experiment)
    if deploy is not None and experiment.deploy_path is not None:
        deploy = _checked(deploy, rewrite_net(deploy, change), ["TEST"])
        inputs.append(experiment.deploy_path)
    texts = experiment_texts(experiment, derived, deploy, out, assignments)
    _check_solver(experiment.solver_tree, texts["solver.prototxt"])

    ending = ".h5" if hdf5 else ""
    init, init_state = f"init.caffemodel{ending}", f"init.solverstate{ending}"
    names = [*texts, init, "split.json"]
    if momentum:
        state_path = state_beside(weights_path)
        solver = schema.read(texts["solver.prototxt"], "SolverParameter").message
        state = derived_state(state_path, experiment, weights, plan, change, derived[0], solver)
        state = replace(state, learned_net=path_from_root(experiment, out, init))
        inputs.append(state_path)
        names.append(init_state)

    with replacing(*(out / name for name in names), force=force, inputs=inputs) as staged:
        _refuse_leftovers(out, Path(experiment.snapshot_prefix).name, names)
        target = dict(zip(names, staged, strict=True))
        with ThreadPoolExecutor(1) as pool:
            hashes = pool.map(sha256, inputs)
            caffemodel.splice(weights_path, target[init], rewrite_weights(derived[0], change))
        if momentum:
            solverstate.write(target[init_state], state)
        for name, tree in texts.items():
            target[name].write_bytes(prototxt.encode(tree))
        record = {
            "plan": as_json(plan),
            "setting": asdict(setting),
            "set": list(assignments),
            "momentum": momentum,
            "inputs": [
                {"path": os.path.relpath(path, out), "sha256": digest}
                for path, digest in zip(inputs, hashes, strict=True)
            ],
            "versions": versions(),
        }
        target["split.json"].write_text(
            json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    return change


def _checked(base: Net, derived: Net, phases: Collection[str]) -> Net:
    """The derived net, held against the rules of a legal net in the phases in which it is used,
    as far as the base kept them."""
    known = {finding.message for finding in check.check_net(base)}
    for finding in within(check.check_net(derived), phases):
        if not finding.warning and finding.message not in known:
            raise SplitError(
                f"the derived net would be illegal: {finding.message}",
                "a legal net",
                "`caffesplit check` shows what is wrong with the base net.",
            )
    return derived


def _check_solver(base: Message, derived: Message) -> None:
    """Hold the derived solver against the rules of a solver, as far as the base kept them."""
    known = {finding.message for finding in check_solver(base)}
    for finding in check_solver(derived):
        if not finding.warning and finding.message not in known:
            raise SplitError(
                f"Caffe would not take the derived solver: {finding.message}",
                remedy=f"Did you mean {finding.suggestion}?"
                if finding.suggestion
                else "Correct what --set gives it.",
            )


def _refuse_leftovers(out: Path, prefix: str, names: Sequence[str]) -> None:
    """Refuse a folder with files of another training or split, which would pass for this one's."""
    leftovers = list(snapshots.files(out / prefix))
    leftovers += [out / name for name in LEFTOVERS if name not in names and (out / name).exists()]
    if leftovers:
        raise OutputError(
            f"{leftovers[0].name} is here, of another net",
            "a folder without snapshots and nets of another derivation",
            "Give another output, or remove what is left there.",
            Location(str(out)),
        )
