"""Fold an experiment: its trained nets and weights, with linear blocks become single layers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffesplit.errors import FoldError, Location, WeightsError
from caffesplit.experiment import Experiment
from caffesplit.formats import caffemodel, prototxt
from caffesplit.formats.blobs import Array
from caffesplit.formats.caffemodel import LayerWeights, Weights
from caffesplit.formats.output import replacing
from caffesplit.formats.prototxt import Message
from caffesplit.net import graph
from caffesplit.net.check import check_weights
from caffesplit.net.graph import Net
from caffesplit.split.fold import Fold, FoldedLayer, Obstacle, Scope, blobs, deviation, fold
from caffesplit.study.files import deploy_net, experiment_texts, net_files, versions

MAX_DEVIATION = 1e-4
"""Relative; float32's rounding alone makes some 1e-7."""


@dataclass(frozen=True)
class Measured:
    """A folded layer with its blobs, and how far it is from the block it stands for."""

    name: str
    type: str
    members: tuple[str, ...]
    """The names of the layers that it replaces, in file order."""
    before: int
    """Values in their blobs."""
    blobs: tuple[Array, ...]
    definition: Any
    """LayerParameter."""
    deviation: float
    """Relative; see `split.fold.deviation`. The largest, where several nets have the block."""
    differs: bool = False
    """Whether it is exact for one net or phase, but not for all."""

    @property
    def after(self) -> int:
        return sum(blob.size for blob in self.blobs)


@dataclass(frozen=True)
class Result:
    """What a fold of an experiment did, and what it left alone and why."""

    folded: tuple[Measured, ...]
    left: tuple[Obstacle, ...]

    @property
    def deviation(self) -> float:
        """The largest one."""
        return max((each.deviation for each in self.folded), default=0.0)


def write_fold(
    experiment: Experiment,
    weights_path: Path,
    out: Path,
    scope: Scope | None = None,
    force: bool = False,
) -> Result:
    """Write the experiment folded into the folder `out`.

    `out` gets the solver and the nets under the names that `derive` gives them (train_val.prototxt
    and, where there is one, deploy.prototxt), folded.caffemodel with the weights for all of them,
    and fold.json, a record: all or, on any error, none.

    Raises:
        FoldError: if a folded layer computes something else than its block (it is more than
            `MAX_DEVIATION` away).
        OutputError: if `out` holds these files already and `force` is false.
        WeightsError, PrototxtError: if an input is damaged, or the weights are not of the net.
    """
    nets = [each.net for each in experiment.nets]
    inputs, files = list(experiment.paths), ["solver.prototxt", *net_files(experiment).values()]
    deploy = deploy_net(experiment)
    if deploy is not None and experiment.deploy_path is not None:
        nets.append(deploy)
        inputs.append(experiment.deploy_path)
        files.append("deploy.prototxt")

    def texts(folds: Sequence[Fold]) -> dict[str, Message]:
        folded = [each.net for each in folds]
        own, rest = folded[: len(experiment.nets)], folded[len(experiment.nets) :]
        return experiment_texts(experiment, own, rest[0] if rest else None, out)

    return _write(nets, files, texts, inputs, weights_path, out, scope or Scope(), force)


def write_net_fold(
    net_path: Path,
    weights_path: Path,
    out: Path,
    scope: Scope | None = None,
    force: bool = False,
) -> Result:
    """Write a single net folded into the folder `out`, as `write_fold` does an experiment."""
    net = graph.build(prototxt.load(net_path), str(net_path))
    return _write(
        [net],
        [net_path.name],
        lambda folds: {net_path.name: folds[0].net.tree},
        [net_path],
        weights_path,
        out,
        scope or Scope(),
        force,
    )


def _write(
    nets: Sequence[Net],
    files: Sequence[str],
    texts: Callable[[Sequence[Fold]], Mapping[str, Message]],
    inputs: Sequence[Path],
    weights_path: Path,
    out: Path,
    scope: Scope,
    force: bool,
) -> Result:
    """Fold `nets`, the one that was trained first, and write `files`, `texts` of the folds."""
    weights = caffemodel.read(weights_path)
    _refuse_unfit(nets, weights, weights_path)
    inputs = [*inputs, weights_path]
    written = [*files, "folded.caffemodel", "fold.json"]
    with replacing(*(out / name for name in written), force=force, inputs=inputs) as staged:
        target = dict(zip(written, staged, strict=True))
        folds, layers = consistent_folds(nets, weights, scope)
        result = Result(layers, folds[0].left)
        _refuse_deviation(result, weights_path)
        caffemodel.splice(
            weights_path, target["folded.caffemodel"], replacements(result.folded, weights)
        )
        for name, tree in texts(folds).items():
            target[name].write_bytes(prototxt.encode(tree))
        record = {
            **as_json(result),
            "inputs": [os.path.relpath(path, out) for path in inputs],
            "versions": versions(),
        }
        target["fold.json"].write_text(
            json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
    return result


def consistent_folds(
    nets: Sequence[Net], weights: Weights, scope: Scope
) -> tuple[tuple[Fold, ...], tuple[Measured, ...]]:
    """The folds of nets that share weights, and their folded layers, each once.

    What one net or phase has to keep, or computes otherwise than the others, all keep.
    """
    names = [layer.name for net in nets for layer in net.layers]
    kept: frozenset[str] = frozenset()
    while True:
        folds = tuple(fold(net, weights, scope, kept, names) for net in nets)
        blocks: dict[tuple[str, ...], list[FoldedLayer]] = {}
        for each in (each for one in folds for each in one.folded):
            blocks.setdefault(tuple(sorted(each.members)), []).append(each)
        apart = [
            members
            for members, found in blocks.items()
            if len({(each.layer.name, each.has_bias) for each in found}) > 1
            or _is_elsewhere(members, nets, folds)
        ]
        if not apart:
            layers = [_measured(found, weights) for found in blocks.values()]
            apart = [each.members for each in layers if each.differs]
            if not apart:
                return folds, tuple(layers)
        kept |= {member for members in apart for member in members if weights.get(member)}


def _is_elsewhere(members: Sequence[str], nets: Sequence[Net], folds: Sequence[Fold]) -> bool:
    """Whether a net has one of the layers, with weights or without, but not this block."""
    return any(
        net.named(member) and members not in {tuple(sorted(each.members)) for each in one.folded}
        for net, one in zip(nets, folds, strict=True)
        for member in members
    )


def _measured(found: Sequence[FoldedLayer], weights: Weights) -> Measured:
    """A block that is the same one in several nets or phases, with the blobs of the first."""
    first = found[0]
    own = blobs(first)
    deviations = [deviation(each, own, weights) for each in found]
    return Measured(
        first.layer.name,
        first.layer.type,
        first.members,
        sum(blob.size for name in first.members for blob in weights.get(name, ())),
        own,
        first.layer.message,
        max(deviations),
        deviations[0] <= MAX_DEVIATION and not all(each <= MAX_DEVIATION for each in deviations),
    )


def replacements(
    folded: Sequence[Measured], weights: Weights
) -> Mapping[str, tuple[LayerWeights, ...]]:
    """What takes the place of each folded layer's record in the weight file.

    Nothing that of the Split layers, which Caffe inserts into every net anew.
    """
    stored = {layer.name for layer in weights.index.layers}
    inserted = (layer for layer in weights.index.layers if layer.type == "Split")
    records: dict[str, tuple[LayerWeights, ...]] = {layer.name: () for layer in inserted}
    for each in folded:
        members = [name for name in each.members if name in stored]
        first = next(name for name in members if weights.get(name))
        record = LayerWeights(each.name, each.type, each.blobs, each.definition)
        for name in members:
            records.setdefault(name, (record,) if name == first else ())
    return records


def as_json(result: Result) -> dict[str, Any]:
    """What was folded, as plain JSON values."""
    return {
        "folded": [
            {
                "name": block.name,
                "type": block.type,
                "layers": list(block.members),
                "parameters_before": block.before,
                "parameters": block.after,
                "deviation": block.deviation,
            }
            for block in result.folded
        ],
        "left_alone": [{"name": each.layer.name, "reason": each.reason} for each in result.left],
    }


def _refuse_unfit(nets: Sequence[Net], weights: Weights, weights_path: Path) -> None:
    """Refuse weights that do not fit, or lack a layer of the net that was trained."""
    for net in nets:
        for finding in check_weights(net, weights):
            is_missing = finding.rule == "present-weights" and net is nets[0]
            if is_missing or not finding.warning:
                raise WeightsError(
                    finding.message,
                    remedy=f"Are the weights of this net ({weights_path})? --weights names others.",
                    at=finding.at,
                )


def _refuse_deviation(result: Result, weights_path: Path) -> None:
    for each in result.folded:
        # Not a number counts as too far: weights of a training that diverged.
        if not each.deviation <= MAX_DEVIATION:
            raise FoldError(
                f"folded, layer {each.name!r} computes something else "
                f"(relative deviation {each.deviation:.2g})",
                f"at most {MAX_DEVIATION:g}",
                "Nothing was written. Are its weights finite numbers, and of this net?",
                Location(str(weights_path), layer=each.members[0]),
            )
