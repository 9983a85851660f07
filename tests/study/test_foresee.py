"""What of a study is told to fail before anything is trained, and that the packaged ones do not."""

from __future__ import annotations

import numpy as np
import pytest
import small_experiment

from caffesplit import experiment, zoo
from caffesplit.errors import CaffesplitError, PrototxtError, StudyError
from caffesplit.formats import caffemodel
from caffesplit.formats.layers import LayerWeights
from caffesplit.split.partition import partition
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.study import derive
from caffesplit.study.foresee import saved
from caffesplit.study.inputs import train_shapes
from caffesplit.study.run import lay_out
from caffesplit.study.study_file import packaged, parse

BASE = '[bases.net]\nzoo = "digits"\nset = { max_iter = 300, snapshot = 100 }\n'
CHAIN = BASE + "[chains.c]\n"
KERNELS = "conv1, conv2, conv3, ip"

REFUSED = {
    CHAIN + "window = [100, 150]\ntop = 1": "chains.c, generation 1: fewer than two snapshots in "
    "the window [100, 150], expected two or more of 100, 200, 300\n"
    "Correct the window, or the solver's snapshot and max_iter.",
    CHAIN + "window = [400, 900]\ntop = 1": "chains.c, generation 1: fewer than two snapshots in "
    "the window [400, 900], expected two or more of 100, 200, 300\n"
    "Correct the window, or the solver's snapshot and max_iter.",
    CHAIN + "window = [100, 300]\ngenerations = [{ top = 1, set = { snapshot = 250 } }, "
    "{ top = 1, window = [100, 260] }]": "chains.c, generation 2: fewer than two snapshots in the "
    "window [100, 260], expected two or more of 250, 300\n"
    "Correct the window, or the solver's snapshot and max_iter.",
    CHAIN + "window = [100, 300]\ntop = 1\nstart = 150": "chains.c, generation 1: no snapshot of "
    "iteration 150 to start from, expected one of 100, 200, 300\n"
    "Correct `start`, or the solver's snapshot and max_iter.",
    CHAIN + "window = [100, 300]\ntop = 1\nmomentum = true": "chains.c, generation 1: momentum "
    "goes on at iteration 300, where the solver ends, expected something left to train\n"
    "Raise max_iter there, as in set = { max_iter = 600 }, or give an earlier start.",
    CHAIN + "window = [100, 200]\ntop = 1\nmomentum = true\ngenerations = 2": "chains.c, "
    "generation 2: fewer than two snapshots in the window [100, 200], expected two or more of 300\n"
    "Correct the window, or the solver's snapshot and max_iter.",
    BASE + "[measure]\nwindows = [[1, 99]]": "measure.windows, of net: fewer than two snapshots in "
    "the window [1, 99], expected two or more of 100, 200, 300\n"
    "Correct the window, or the solver's snapshot and max_iter.",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_would_fail_hours_later_is_refused_at_once(text, tmp_path):
    with pytest.raises(StudyError) as caught:
        lay_out(parse(text), tmp_path / "out")
    assert str(caught.value) == REFUSED[text]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            CHAIN + 'window = [100, 300]\nlayers = ["conv9"]',
            "chains.c.layers: no layer 'conv9' with kernels, expected one of " + KERNELS,
        ),
        (
            BASE + '[measure]\nlayers = ["pool2"]',
            "measure.layers: no layer 'pool2' with kernels, expected one of " + KERNELS,
        ),
        (
            CHAIN + "window = [100, 300]\ntop = 5",
            "chains.c.top is 5, expected at most 4, the layers with kernels",
        ),
    ],
)
def test_layers_that_the_base_does_not_have_are_refused(text, message, tmp_path):
    with pytest.raises(StudyError) as caught:
        lay_out(parse(text), tmp_path / "out")
    assert str(caught.value).partition(": ")[2] == message


@pytest.mark.parametrize("where", ["bases.net.set.", "chains.c.set."])
def test_a_field_that_no_solver_has_is_refused(where, tmp_path):
    text = 'bases.net.zoo = "digits"\nchains.c = { window = [600, 2000], top = 1 }\n'
    text = f"{where}base_rate = 1\n{text}" if "bases" in where else text.replace(
        "top = 1", "top = 1, set = { base_rate = 1 }"
    )  # fmt: skip
    with pytest.raises(PrototxtError, match="no solver field 'base_rate'"):
        lay_out(parse(text), tmp_path / "out")


def test_an_unknown_net_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(CaffesplitError) as caught:
        lay_out(parse('bases.net.zoo = "alexnet"'), tmp_path / "out")
    assert str(caught.value) == (
        f'no net "alexnet" in the zoo, expected one of {", ".join(zoo.NAMES)}'
    )


def test_a_trained_base_without_snapshots_is_refused(tmp_path):
    folder = small_experiment.make(tmp_path)
    for path in folder.glob("*.caffemodel"):
        path.unlink()
    text = 'bases.net = { experiment = "exp/base", trained = true }'
    with pytest.raises(StudyError) as caught:
        lay_out(parse(text, folder=tmp_path), tmp_path / "out")
    assert str(caught.value).startswith(
        f"{folder}/solver.prototxt: a base that is trained already, without snapshots, expected "
    )
    assert str(caught.value).endswith("\nLeave out `trained`, and it is trained first.")


def test_an_experiment_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CaffesplitError) as caught:
        lay_out(parse('bases.net.experiment = "gone"', folder=tmp_path), tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path}/gone: no such file or folder, expected an experiment's folder or its solver"
    )


class Solver:
    def __init__(self, max_iter, snapshot, after=True):
        self.max_iter, self.snapshot, self.snapshot_after_train = max_iter, snapshot, after


def test_a_training_saves_every_so_often_and_at_its_end():
    assert saved(Solver(300, 100)) == (100, 200, 300)
    assert saved(Solver(250, 100)) == (100, 200, 250)
    assert saved(Solver(250, 100, after=False)) == (100, 200)
    assert saved(Solver(250, 0)) == (250,)
    assert saved(Solver(300, 100), begin=150) == (200, 300)
    assert saved(Solver(300, 100), begin=300) == ()


@pytest.mark.parametrize("name", packaged())
def test_a_packaged_study_lays_out_and_writes_nothing(name, tmp_path):
    layout = lay_out(parse(packaged()[name], name), tmp_path / "out")
    assert len(layout.courses) == len(layout.study.seeds)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", packaged())
def test_the_layers_that_a_packaged_study_names_can_be_split_generation_by_generation(
    name, tmp_path
):
    study = parse(packaged()[name], name)
    for chain in study.chains:
        zoo_name = study.base(chain.base).zoo
        folder = tmp_path / chain.name
        base = experiment.load(
            zoo.write(zoo_name, folder / zoo_name, folder, folder / "data"), folder
        )
        for number, generation in enumerate(chain.generations, start=1):
            layers = generation.layers
            if isinstance(layers, int):
                break  # Which these are, the training tells.
            weights = folder / f"{number}.caffemodel"
            blobs = blobs_of(base)
            caffemodel.write(weights, records(base, blobs))
            plan = Plan(
                tuple(halved(layer, len(blobs[layer][0]), generation) for layer in layers),
                generation.window,
                generation.window,
            )
            derive.derive(base, plan, weights, folder / f"{chain.name}{number}")
            base = experiment.load(folder / f"{chain.name}{number}", folder)


def blobs_of(base):
    """Zeros for every layer with weights whose shapes the net tells."""
    shapes = train_shapes(base)
    return {
        layer.name: [np.zeros(shape, np.float32) for shape in learned]
        for index, layer in enumerate(base.net.layers)
        if (learned := shapes.learned(index))
    }


def records(base, blobs):
    types = {layer.name: layer.type for layer in base.net.layers}
    return [LayerWeights(name, types[name], tuple(own)) for name, own in blobs.items()]


def halved(name, kernels, generation):
    rng = np.random.default_rng(0)
    fast, slow = partition("half", np.arange(kernels, dtype=np.float64), rng)
    return LayerPlan(name, generation.method, "half", fast, slow)
