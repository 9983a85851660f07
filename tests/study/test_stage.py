"""Stages as they are made: splits, and what makes each control a fair one. Nothing is trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small_experiment

from caffesplit.engines.job import Outcome
from caffesplit.errors import OutputError
from caffesplit.experiment import load
from caffesplit.formats import caffemodel
from caffesplit.study.records import read_split
from caffesplit.study.run import in_turn, lay_out, tasks
from caffesplit.study.stage import Means
from caffesplit.study.stage_make import Place, Start, inverted
from caffesplit.study.study_file import parse

STUDY = """
seeds = [{seed}]
[bases.base]
experiment = "exp/base"
trained = true
[chains.split]
window = [100, 400]
layers = ["conv1"]
partition = "{partition}"
start = {start}
set = {{ base_lr = 0.5 }}
controls = ["longer", "random", "inverse", "scratch"]
"""


class Nothing:
    """Trains nothing, and notes what it was to train, from which weights."""

    def __init__(self):
        self.jobs = {}

    def __call__(self, experiment, job):
        self.jobs[experiment.name] = job
        for iteration in small_experiment.ITERATIONS:
            text = f"{experiment.snapshot_prefix}_iter_{iteration}.caffemodel"
            caffemodel.write(text, small_experiment.weights(iteration))
        return Outcome(1000, None, None, 1.0, False, ())


def carried_out(root, partition="mean", start=300, seed=1, group=1):
    """The layout of a study in root/out, its stages made, and what was to be trained."""
    base = small_experiment.make(root) if not (root / "exp").exists() else root / "exp/base"
    if group > 1:
        net = base / "net.prototxt"
        net.write_text(net.read_text().replace("num_output: 6", f"num_output: 6 group: {group}"))
        for path in base.glob("*.caffemodel"):
            records = small_experiment.weights(int(path.stem.rpartition("_")[2]))
            weight, bias = records[0].blobs
            first = type(records[0])("conv1", "Convolution", (weight[:, :1], bias))
            caffemodel.write(path, [first, records[1]], force=True)
    layout = lay_out(
        parse(STUDY.format(partition=partition, start=start, seed=seed), folder=root), root / "out"
    )
    train, experiment = Nothing(), load(base)
    starts = {"base": Start(Place(experiment.solver_path, experiment.root), {})}
    for task, result in in_turn(Means(train, None, "start"))(tasks(layout, starts)):
        assert isinstance(result, Place), (task.name, result)
    return layout, train


def planned(root, name, seed=1):
    return read_split(root / f"out/seed{seed}/{name}/split.json").plan


def layer(root, name, seed=1):
    (found,) = planned(root, name, seed).layers
    return found


def test_random_parts_are_as_large_as_the_splits_and_others(tmp_path):
    carried_out(tmp_path)
    split, random = layer(tmp_path, "split1"), layer(tmp_path, "random1")
    assert (len(random.fast), len(random.slow)) == (len(split.fast), len(split.slow))
    assert (random.name, random.method) == (split.name, split.method)
    assert random.partition == f"random:{len(split.fast)}"
    draws = set()
    for seed in range(2, 12):
        carried_out(tmp_path, seed=seed)
        draws.add(layer(tmp_path, "random1", seed).fast)
    assert len(draws) > 3


def test_random_parts_of_a_grouped_layer_have_as_many_kernels_of_each_group(tmp_path):
    carried_out(tmp_path, partition="count:2", group=2)
    random = layer(tmp_path, "random1")
    assert [sum(kernel // 3 == group for kernel in random.fast) for group in (0, 1)] == [1, 1]


@pytest.mark.parametrize("partition", ["mean", "half", "inverse:count:2", "threshold:0.5"])
def test_the_inverse_split_swaps_fast_and_slow(tmp_path, partition):
    carried_out(tmp_path, partition=partition)
    split, inverse = layer(tmp_path, "split1"), layer(tmp_path, "inverse1")
    assert (inverse.fast, inverse.slow) == (split.slow, split.fast)
    assert inverse.partition == inverted(split.partition)


def test_what_is_trained_longer_starts_where_the_split_does_with_its_solver(tmp_path):
    _, train = carried_out(tmp_path)
    longer, split = (tmp_path / "out/seed1" / name for name in ("longer1", "split1"))
    own = load(tmp_path / "exp/base").net_path.read_text()
    data = tmp_path / "data/lmdb"
    assert (longer / "train_val.prototxt").read_text() in (own, own.replace("data/lmdb", str(data)))
    assert caffemodel.read(longer / "init.caffemodel")["conv1"][0].tobytes() == (
        small_experiment.weights(300)[0].blobs[0].tobytes()
    )
    assert train.jobs["longer1"].weights == longer / "init.caffemodel"
    solvers = [load(folder).solver for folder in (longer, split)]
    for solver in solvers:
        solver.ClearField("net")
    assert str(solvers[0]).replace("longer1", "") == str(solvers[1]).replace("split1", "")
    assert solvers[0].base_lr == np.float32(0.5)


def test_the_split_starts_at_the_snapshot_asked_for(tmp_path):
    carried_out(tmp_path, start=200)
    record = json.loads((tmp_path / "out/seed1/split1/split.json").read_text())
    assert any(each["path"].endswith("snap_iter_200.caffemodel") for each in record["inputs"])
    assert planned(tmp_path, "split1").iterations == (100, 200, 300, 400)


def test_the_net_from_scratch_has_the_splits_shape_and_no_weights(tmp_path):
    _, train = carried_out(tmp_path)
    scratch, split = (tmp_path / "out/seed1" / name for name in ("scratch", "split1"))
    assert (scratch / "train_val.prototxt").read_text() == (
        split / "train_val.prototxt"
    ).read_text()
    assert not (scratch / "init.caffemodel").exists()
    assert train.jobs["scratch"].weights is None
    first, base = load(scratch).solver, load(tmp_path / "exp/base").solver
    assert (first.base_lr, first.max_iter) == (base.base_lr, base.max_iter)


def test_every_solver_has_the_seed(tmp_path):
    carried_out(tmp_path, seed=7)
    folders = sorted((tmp_path / "out/seed7").iterdir())
    assert [folder.name for folder in folders] == [
        *("inverse1", "longer1", "random1", "scratch", "scratch1", "split1"),
    ]
    assert {load(folder).solver.random_seed for folder in folders} == {7}


def test_a_folder_that_is_no_stage_is_never_removed(tmp_path):
    layout, _ = carried_out(tmp_path)
    state = tmp_path / "out/seed1/split1/stage.json"
    state.unlink()
    for force in (False, True):
        with pytest.raises(OutputError) as caught:
            layout.check(force)
        assert str(caught.value) == (
            f"{state.parent}: no stage of a study, expected nothing, or seed1/split1 of this one\n"
            "Give another output, or remove it."
        )


def test_a_split_that_cannot_be_made_fails_with_what_needs_it_and_no_other(tmp_path):
    base = small_experiment.make(tmp_path)
    text = STUDY.format(partition="count:99", start=300, seed=1)
    layout = lay_out(parse(text, folder=tmp_path), tmp_path / "out")
    experiment = load(base)
    starts = {"base": Start(Place(experiment.solver_path, experiment.root), {})}
    work = in_turn(Means(Nothing(), None, "start"))
    results = {task.name: result for task, result in work(tasks(layout, starts))}
    assert "at most 5" in str(results["seed1/split1"])
    assert isinstance(results["seed1/longer1"], Place)
    assert [name for name, result in results.items() if result is None] == [
        *("seed1/random1", "seed1/inverse1", "seed1/scratch", "seed1/scratch1"),
    ]
