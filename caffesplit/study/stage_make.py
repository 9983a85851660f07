"""Writing the experiment of a stage, ready to train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from caffesplit.experiment import Experiment, load
from caffesplit.net.graph import Net
from caffesplit.split.partition import partition
from caffesplit.split.plan import LayerPlan, Plan, layer_rng
from caffesplit.study.clone import clone
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive
from caffesplit.study.files import root_of
from caffesplit.study.records import SPLIT, read_split
from caffesplit.study.stages import Stage
from caffesplit.study.study import Generation

Initialise = Callable[[Experiment, Path], None]
"""Writes layer-sequential unit-variance weights for an experiment into a file."""


@dataclass(frozen=True)
class Place:
    """An experiment's folder (or solver), and where the paths in it start from."""

    path: Path
    root: Path | None = None

    def load(self) -> Experiment:
        return load(self.path, self.root)


@dataclass(frozen=True)
class Start:
    """What a base starts from: an experiment, and the data in place of some that it names."""

    place: Place
    sources: Mapping[str, Path]


def make(
    stage: Stage,
    out: Path,
    start: Start,
    parents: Mapping[str, Place],
    initialise: Initialise,
) -> Path:
    """Write the stage's experiment into `out`; return the folder that its paths start from.

    `start` is that of its base, `parents` are the stages that it needs, by their names.

    Raises:
        CaffesplitError: if it cannot be made of them, as `clone`, `decide` and `derive` say.
    """
    seed = (f"random_seed={stage.seed}",)
    if stage.kind == "base":
        experiment = start.place.load()
        clone(experiment, out, (*seed, *stage.base.assignments), None, start.sources, force=True)
        root = root_of(experiment, out)
        if stage.base.lsuv:
            initialise(load(out, root), out / "init.caffemodel")
        return root
    places = [parents[name] for name in stage.parents]
    experiment = places[0].load()
    if stage.generation is None:
        clone(experiment, out, seed, shape=places[1].load(), force=True)
    else:
        plan = _plan(stage, stage.generation, experiment, places)
        _derive(experiment, plan, stage.generation, out, seed)
    return root_of(experiment, out)


def _derive(
    experiment: Experiment, plan: Plan, generation: Generation, out: Path, seed: tuple[str, ...]
) -> None:
    begin = plan.iterations[-1] if generation.start is None else generation.start
    derive(
        experiment,
        plan,
        experiment.weights_path(begin),
        out,
        generation.setting,
        (*seed, *generation.assignments),
        force=True,
        momentum=generation.momentum,
    )


def _plan(
    stage: Stage, generation: Generation, experiment: Experiment, places: list[Place]
) -> Plan:
    window, method = generation.window, generation.method
    if stage.kind == "longer":
        return Plan((), window, experiment.history().within(window), stage.seed)
    if stage.kind == "split":
        layers, how = generation.layers, generation.partition
        return decide(experiment, window, layers, method, how, stage.seed)
    copied = read_split(places[1].path / SPLIT).plan
    if stage.kind == "random":
        return random_plan(copied, experiment.net, stage.seed)
    names = [layer.name for layer in copied.layers]
    return decide(experiment, window, names, method, inverted(generation.partition), stage.seed)


def inverted(specification: str) -> str:
    """The partition with fast and slow swapped."""
    inner = specification.removeprefix("inverse:")
    return inner if inner != specification else f"inverse:{specification}"


def random_plan(plan: Plan, net: Net, seed: int) -> Plan:
    """The plan with the kernels of each layer drawn at random, as many fast ones as it has."""
    layers = tuple(_random_layer(layer, _group(net, layer.name), seed) for layer in plan.layers)
    return replace(plan, layers=layers, seed=seed)


def _random_layer(layer: LayerPlan, group: int, seed: int) -> LayerPlan:
    rng, how = layer_rng(seed, layer.name, purpose="control"), f"random:{len(layer.fast)}"
    fast, slow = partition(how, np.zeros(layer.num_output), rng, group)
    return replace(layer, partition=how, fast=fast, slow=slow)


def _group(net: Net, name: str) -> int:
    layer = net.named(name)[0]
    return 1 if layer.type == "InnerProduct" else layer.group
