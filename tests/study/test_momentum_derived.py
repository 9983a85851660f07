"""`derive` with momentum, on small states written here; test_momentum_with_caffe.py trains on."""

import json

import numpy as np
import pytest
from small_experiment import make, weights

from caffesplit.engines import job
from caffesplit.errors import EngineError, OutputError, SplitError, WeightsError
from caffesplit.experiment import load
from caffesplit.formats import solverstate
from caffesplit.formats.solverstate import SolverState
from caffesplit.split.forms import Setting
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive

NAME = "snap_iter_400.solverstate"


def base_with_state(root, name=NAME, rooted=True):
    """The small experiment, with a state whose history is the weights themselves."""
    folder = make(root, rooted)
    history = tuple(blob for layer in weights(400) for blob in layer.blobs)
    solverstate.write(folder / name, SolverState(400, "snap_iter_400.caffemodel", history, 3))
    return folder


def run(folder, out, start=400, **kwargs):
    base = load(folder)
    plan = decide(base, (100, 400), ["conv1"], "extension")
    kwargs = {"momentum": True, **kwargs}
    return derive(base, plan, base.weights_path(start), out, Setting(noise=0), **kwargs)


def test_the_state_goes_on_at_the_bases_iteration_and_step_from_the_derived_weights(tmp_path):
    out = tmp_path / "exp/derived1"
    run(base_with_state(tmp_path), out)
    state = solverstate.read(out / "init.solverstate")
    assert (state.iteration, state.current_step) == (400, 3)
    assert state.learned_net == "exp/derived1/init.caffemodel"
    conv1, conv2 = weights(400)
    assert len(state.history) == 9
    np.testing.assert_array_equal(state.history[0], conv1.blobs[0][[0, 1, 5]])
    np.testing.assert_array_equal(state.history[3], conv1.blobs[1][[2, 3, 4]])
    assert not any(blob.any() for blob in state.history[4:8])
    np.testing.assert_array_equal(state.history[8], conv2.blobs[0])


def test_outside_the_root_the_weights_are_named_from_the_derived_folder(tmp_path):
    out = tmp_path / "other/derived1"
    run(base_with_state(tmp_path / "caffe"), out)
    assert solverstate.read(out / "init.solverstate").learned_net == "init.caffemodel"


def test_hdf5_states_are_read_and_written(tmp_path):
    folder = base_with_state(tmp_path, NAME + ".h5")
    run(folder, tmp_path / "exp/one")
    run(folder, tmp_path / "exp/two", hdf5=True)
    one = solverstate.read(tmp_path / "exp/one/init.solverstate")
    two = solverstate.read(tmp_path / "exp/two/init.solverstate.h5")
    assert two.learned_net == "exp/two/init.caffemodel.h5"
    assert (tmp_path / "exp/two/init.caffemodel.h5").exists()
    assert not (tmp_path / "exp/two/init.caffemodel").exists()
    assert all(map(np.array_equal, one.history, two.history))


def test_the_record_names_the_state_that_was_read(tmp_path):
    run(base_with_state(tmp_path), tmp_path / "exp/derived1")
    record = json.loads((tmp_path / "exp/derived1/split.json").read_text())
    assert record["momentum"] is True
    assert record["inputs"][-1]["path"] == f"../base/{NAME}"


def test_without_a_state_beside_the_start_the_message_says_where_it_was_looked_for(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    with pytest.raises(SplitError) as caught:
        run(folder, out, start=300)
    assert str(caught.value) == (
        f"{folder}/snap_iter_300.caffemodel: no solver state, which has the momentum, beside the "
        f"weights, expected {folder}/snap_iter_300.solverstate or "
        f"{folder}/snap_iter_300.solverstate.h5\n"
        "Start from a snapshot that has one (--weights ITER), or split without --momentum."
    )
    assert not out.exists()


def test_a_file_that_has_a_state_beside_it_is_a_start_too(tmp_path):
    folder = base_with_state(tmp_path, "mine.solverstate")
    (folder / "mine.caffemodel").write_bytes((folder / "snap_iter_400.caffemodel").read_bytes())
    run(folder, tmp_path / "exp/derived1", start=str(folder / "mine.caffemodel"))
    assert (tmp_path / "exp/derived1/init.solverstate").exists()


def test_a_state_of_another_net_or_type_of_solver_is_refused(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    solver = folder / "solver.prototxt"
    solver.write_text(solver.read_text() + "solver_type: ADAM\n")
    with pytest.raises(WeightsError) as caught:
        run(folder, out)
    assert str(caught.value).startswith(
        f"{folder}/{NAME}: a history of 3 blobs, expected 6: 2 for each of the net's 3 learnable "
        "blobs, as solvers of type Adam have it\n"
    )
    assert not out.exists()


def test_the_derived_solver_has_to_be_of_the_same_type(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    with pytest.raises(SplitError) as caught:
        run(folder, out, assignments=["type=Adam"])
    assert str(caught.value) == (
        "a solver of type Adam with the momentum of SGD, expected the same type\n"
        "Leave out --momentum, or the type in --set."
    )
    assert not out.exists()


def test_a_state_of_an_earlier_split_does_not_survive_a_later_one_without(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    run(folder, out)
    with pytest.raises(OutputError, match=r"init\.solverstate is here, of another net"):
        run(folder, out, momentum=False, force=True)
    with pytest.raises(OutputError, match=r"init\.caffemodel is here, of another net"):
        run(folder, out, hdf5=True, force=True)
    run(folder, out, force=True)


def test_a_damaged_state_writes_nothing(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    state = folder / NAME
    state.write_bytes(state.read_bytes()[:-5])
    with pytest.raises(WeightsError):
        run(folder, out)
    assert not out.exists()


def test_layers_of_other_phases_and_stages_have_no_momentum(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    net = folder / "net.prototxt"
    for rule in ("phase: TEST", 'stage: "later"'):
        layer = f'layer {{ name: "x" type: "PReLU" bottom: "conv1" include {{ {rule} }} }}\n'
        net.write_text(net.read_text() + layer)
    run(folder, out)
    assert len(solverstate.read(out / "init.solverstate").history) == 9


def test_a_state_at_the_derived_solvers_end_or_past_it_is_refused_with_a_later_end(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    for end in (400, 300):
        with pytest.raises(SplitError) as caught:
            run(folder, out, assignments=[f"max_iter={end}"])
        assert str(caught.value) == (
            f"{folder}/{NAME}: a state of iteration 400, with the derived solver's max_iter {end} "
            "there is nothing left to train, expected an earlier state, or a later end\n"
            "Set a later end: --set max_iter=N, with N above 400."
        )
        assert not out.exists()


def test_a_solver_that_ends_earlier_later_on_leaves_nothing_to_train(tmp_path):
    folder, out = base_with_state(tmp_path), tmp_path / "exp/derived1"
    run(folder, out)
    solver = out / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 1000", "max_iter: 400"))
    with pytest.raises(EngineError) as caught:
        job.prepare(load(out))
    assert str(caught.value) == (
        f"{out}/init.solverstate: nothing left to train: the snapshot is of iteration 400, "
        "expected an earlier one than the solver's max_iter, 400\n"
        f"Raise max_iter in {out}/solver.prototxt."
    )
    run(folder, out, force=True)
    assert job.prepare(load(out)).snapshot == out / "init.solverstate"


def test_a_start_in_hdf5_is_taken_up_as_well(tmp_path):
    out = tmp_path / "exp/derived1"
    run(base_with_state(tmp_path), out, momentum=False, hdf5=True)
    assert job.prepare(load(out)).weights == out / "init.caffemodel.h5"
