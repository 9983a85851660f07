"""Writing a derived experiment: solver, nets, initial weights and the record of the split."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caffesplit.errors import Location, OutputError, SplitError
from caffesplit.experiment import Experiment, named_paths
from caffesplit.formats import caffemodel, prototxt, snapshots
from caffesplit.formats.output import replacing
from caffesplit.formats.prototxt import Message, Scalar, quote
from caffesplit.net import check, graph
from caffesplit.net.graph import Net
from caffesplit.split.forms import Setting
from caffesplit.split.plan import Plan
from caffesplit.split.plan_json import as_json
from caffesplit.split.rewrite import Split, rewrite_net, rewrite_weights, split
from caffesplit.split.solver_text import derived_solver

HASH_CHUNK = 1 << 22


def derive(
    experiment: Experiment,
    plan: Plan,
    weights_path: Path,
    out: Path,
    setting: Setting | None = None,
    assignments: Sequence[str] = (),
    force: bool = False,
) -> Split:
    """Write the experiment that `plan` derives, into the folder `out`.

    `out` gets solver.prototxt, train_val.prototxt, init.caffemodel, split.json and, where the
    base has one, deploy.prototxt: all of them or, on any error, none.

    Raises:
        SplitError: if the plan cannot be carried out on this experiment.
        OutputError: if `out` holds these files already and `force` is false, or snapshots of
            another training.
        WeightsError, PrototxtError: if an input is damaged.
    """
    setting = setting or Setting()
    change = split(experiment.net, caffemodel.read(weights_path), plan, setting)
    derived = _checked(experiment.net, rewrite_net(experiment.net, change))
    prefix = Path(experiment.snapshot_prefix).name
    solver_text = derived_solver(
        experiment.solver_tree,
        _path_from_root(experiment, out, "train_val.prototxt"),
        _path_from_root(experiment, out, prefix),
        assignments,
    )
    texts = {
        "solver.prototxt": solver_text,
        "train_val.prototxt": _relocated(experiment, derived, out),
    }
    inputs = [experiment.solver_path, experiment.net_path, weights_path]
    if experiment.deploy_path is not None:
        path = experiment.deploy_path
        deploy = graph.build(prototxt.load(path), str(path))
        texts["deploy.prototxt"] = _checked(deploy, rewrite_net(deploy, change)).tree
        inputs.append(path)

    names = [*texts, "init.caffemodel", "split.json"]
    with replacing(*(out / name for name in names), force=force, inputs=inputs) as staged:
        _refuse_leftovers(out, prefix, names)
        target = dict(zip(names, staged, strict=True))
        with ThreadPoolExecutor(1) as pool:
            hashes = pool.map(_sha256, inputs)
            caffemodel.splice(
                weights_path, target["init.caffemodel"], rewrite_weights(derived, change)
            )
        for name, tree in texts.items():
            target[name].write_bytes(prototxt.encode(tree))
        record = {
            "plan": as_json(plan),
            "setting": asdict(setting),
            "set": list(assignments),
            "inputs": [
                {"path": os.path.relpath(path, out), "sha256": digest}
                for path, digest in zip(inputs, hashes, strict=True)
            ],
            "versions": _versions(),
        }
        target["split.json"].write_text(
            json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    return change


def _checked(base: Net, derived: Net) -> Net:
    """The derived net, held against the rules of a legal net, as far as the base kept them."""
    known = {finding.message for finding in check.check_net(base)}
    for finding in check.check_net(derived):
        if not finding.warning and finding.message not in known:
            raise SplitError(
                f"the derived net would be illegal: {finding.message}",
                "a legal net",
                "`caffesplit check` shows what is wrong with the base net.",
            )
    return derived


def _refuse_leftovers(out: Path, prefix: str, names: Sequence[str]) -> None:
    """Refuse a folder with files of another training or split, which would pass for this one's."""
    leftovers = list(snapshots.files(out / prefix))
    leftovers += [
        out / name
        for name in ("deploy.prototxt", "init.solverstate")
        if name not in names and (out / name).exists()
    ]
    if leftovers:
        raise OutputError(
            f"{leftovers[0].name} is here, of another net",
            "a folder without snapshots and nets of another derivation",
            "Give another output, or remove what is left there.",
            Location(str(out)),
        )


def _path_from_root(experiment: Experiment, out: Path, name: str) -> str:
    """How the derived solver names a file of its own.

    As the base does if `out` lies below the base's root; otherwise from `out`, which is the
    derived experiment's root then and may be moved.
    """
    root = experiment.root.resolve()
    if out.resolve().is_relative_to(root):
        return os.path.relpath(out.resolve() / name, root)
    return name


def _relocated(experiment: Experiment, derived: Net, out: Path) -> Message:
    """The net's text; relative data paths made absolute where `out` is the new root and they
    would not name the same files from there.
    """
    root = experiment.root.resolve()
    if out.resolve().is_relative_to(root):
        return derived.tree
    moved = {}
    for field, path in named_paths(derived):
        source = root / path
        if source.exists() and not ((out / path).exists() and source.samefile(out / path)):
            moved[id(field)] = Scalar(quote(str(source)))
    return derived.tree.transformed(
        lambda field: field.with_value(moved[id(field)]) if id(field) in moved else field
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _versions() -> dict[str, Any]:
    packages = ("caffesplit", "numpy", "protobuf")
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
