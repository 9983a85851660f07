import hashlib
import json
import shutil

import numpy as np
import pytest
from small_experiment import NET, make, weights

from caffesplit.errors import CaffesplitError, OutputError, PrototxtError, SplitError, WeightsError
from caffesplit.experiment import load
from caffesplit.formats import caffemodel
from caffesplit.split.forms import Setting
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive


def run(folder, out, method="extension", layers=("conv1",), noise=0.0, **kwargs):
    base = load(folder)
    plan = decide(base, (100, 400), layers, method)
    return derive(
        base, plan, base.weights_path(plan.window[1]), out, Setting(noise=noise), **kwargs
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_derived_experiment_is_an_make(tmp_path):
    out = tmp_path / "exp/derived1"
    run(make(tmp_path), out)
    assert set(contents(out)) == {
        "solver.prototxt",
        "train_val.prototxt",
        "init.caffemodel",
        "split.json",
    }
    derived = load(out)
    assert derived.net_path == out / "train_val.prototxt"
    assert derived.snapshot_prefix == str(out / "snap")
    written = caffemodel.read(out / "init.caffemodel")
    assert [name for name in written if name.startswith("conv1")] == [
        "conv1_split1",
        "conv1_split2",
        "conv1_split2_extension",
        "conv1_reorder",
    ]


def test_fast_rows_are_the_straight_kernels_of_the_windows_last_snapshot(tmp_path):
    change = run(make(tmp_path), tmp_path / "exp/derived1")
    conv1 = weights(400)[0].blobs[0]
    split1, split2 = change.parts["conv1"][:2]
    np.testing.assert_array_equal(split1.blobs[0], conv1[[0, 1, 5]])
    np.testing.assert_array_equal(split2.blobs[0], conv1[[2, 3, 4]])


def test_untouched_layers_are_copied_bit_for_bit(tmp_path):
    run(make(tmp_path), tmp_path / "exp/derived1")
    written = caffemodel.read(tmp_path / "exp/derived1/init.caffemodel")
    np.testing.assert_array_equal(written["conv2"][0], weights(400)[1].blobs[0])


def test_the_solver_keeps_its_text_but_for_net_prefix_start_and_what_is_set(tmp_path):
    run(
        make(tmp_path),
        tmp_path / "exp/derived1",
        assignments=["base_lr=0.5", "stepvalue=5,6,7", "type=Adam", "display=10"],
    )
    assert (tmp_path / "exp/derived1/solver.prototxt").read_text() == (
        "# Hand-made.\n"
        'net: "exp/derived1/train_val.prototxt"\n'
        'snapshot_prefix: "exp/derived1/snap"  # here\n'
        "base_lr: 0.5\n"
        'lr_policy: "fixed"\n'
        "max_iter: 1000\n"
        "stepvalue: 5\nstepvalue: 6\nstepvalue: 7\n"
        'type: "Adam"\n'
        "display: 10\n"
    )


def test_split_json_tells_the_plan_the_inputs_and_the_versions(tmp_path):
    folder = make(tmp_path)
    run(folder, tmp_path / "exp/derived1", assignments=["base_lr=0.5"])
    record = json.loads((tmp_path / "exp/derived1/split.json").read_text())
    assert record["plan"]["window"] == [100, 400]
    assert record["plan"]["layers"][0]["fast"] == [0, 1, 5]
    assert record["set"] == ["base_lr=0.5"]
    assert set(record["versions"]) == {"python", "caffesplit", "numpy", "protobuf"}
    for entry in record["inputs"]:
        data = (tmp_path / "exp/derived1" / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    folder = make(tmp_path)
    run(folder, tmp_path / "exp/one", method="residual", layers=("conv1", "conv2"), noise=0.01)
    run(folder, tmp_path / "exp/two", method="residual", layers=("conv1", "conv2"), noise=0.01)
    one, two = contents(tmp_path / "exp/one"), contents(tmp_path / "exp/two")
    assert one["init.caffemodel"] == two["init.caffemodel"]
    assert one["train_val.prototxt"] == two["train_val.prototxt"]
    assert one["split.json"] == two["split.json"]


def test_top_chooses_the_layers_of_highest_entropy(tmp_path):
    base = load(make(tmp_path))
    assert [layer.name for layer in decide(base, (100, 400), 1).layers] == ["conv1"]
    assert [layer.name for layer in decide(base, (100, 400), 2).layers] == ["conv1", "conv2"]
    with pytest.raises(SplitError, match=r"net.prototxt: 2 layers that can be split, expected 3"):
        decide(base, (100, 400), 3)


def test_a_deploy_net_beside_the_net_is_derived_too(tmp_path):
    folder = make(tmp_path)
    deploy = NET.replace('type: "Data"', 'type: "Input"').replace("# The base.", "# To deploy.")
    (folder / "deploy.prototxt").write_text(deploy)
    run(folder, tmp_path / "exp/derived1")
    written = (tmp_path / "exp/derived1/deploy.prototxt").read_text()
    assert written.startswith("# To deploy.")
    assert '"conv1_split2_extension"' in written


def test_where_solvers_name_their_own_folder_data_is_still_found(tmp_path, monkeypatch):
    folder = make(tmp_path, rooted=False)
    out = tmp_path / "elsewhere/deeper/derived1"
    run(folder, out)
    for place in (folder, tmp_path, out):
        monkeypatch.chdir(place)
        derived = load(out)
        assert derived.net_path.samefile(out / "train_val.prototxt")
        assert (derived.root / derived.net.layers[0].message.data_param.source).samefile(
            folder / "data/lmdb"
        )


def test_outside_the_root_paths_start_at_the_derived_folder_and_data_paths_are_absolute(tmp_path):
    folder = make(tmp_path / "caffe")
    out = tmp_path / "other/derived1"
    run(folder, out)
    derived = load(out)
    assert derived.solver.net == "train_val.prototxt"
    assert derived.root == out
    assert derived.net.layers[0].message.data_param.source == str(tmp_path / "caffe/data/lmdb")


def test_an_existing_derived_experiment_needs_force(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    run(folder, out)
    before = contents(out)
    with pytest.raises(OutputError, match="the output exists already"):
        run(folder, out, method="residual")
    assert contents(out) == before
    run(folder, out, method="residual", force=True)
    assert contents(out) != before


def test_an_experiment_is_never_derived_over_itself(tmp_path):
    folder = make(tmp_path)
    before = contents(folder)
    with pytest.raises(OutputError, match="the output is also an input"):
        run(folder, folder, force=True)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: (folder / "snap_iter_400.caffemodel").write_bytes(b"\x00"), WeightsError),
        (lambda folder: (folder / "deploy.prototxt").write_text("layer {"), PrototxtError),
        (
            lambda folder: (folder / "deploy.prototxt").write_text(
                'layer { name: "conv1_reorder" type: "ReLU" }'
            ),
            SplitError,
        ),
    ],
)
def test_a_failed_split_writes_nothing(tmp_path, damage, error):
    folder = make(tmp_path)
    base = load(folder)
    plan = decide(base, (100, 400), ["conv1"])
    damage(folder)
    with pytest.raises(error):
        derive(load(folder), plan, base.weights_path(400), tmp_path / "exp/derived1")
    assert {path.name for path in (tmp_path / "exp").iterdir()} == {"base"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("base_lr", "--set base_lr, expected field=value\nWrite it as in --set base_lr=0.01."),
        ("base_rl=1", "--set base_rl=1: no solver field 'base_rl', expected a solver field of BVLC "
         "Caffe's SolverParameter\nDid you mean base_lr?"),
    ],
)  # fmt: skip
def test_a_wrong_assignment_says_what_would_be_right(tmp_path, assignment, message):
    with pytest.raises(CaffesplitError) as caught:
        run(make(tmp_path), tmp_path / "exp/derived1", assignments=[assignment])
    assert str(caught.value) == message
    assert not (tmp_path / "exp/derived1").exists()


def test_a_repeated_field_takes_every_value_that_is_given(tmp_path):
    assignments = ["stepvalue=5", "stepvalue=6,7", 'lr_policy="multistep"']
    run(make(tmp_path), tmp_path / "exp/derived1", assignments=assignments)
    solver = load(tmp_path / "exp/derived1").solver
    assert list(solver.stepvalue) == [5, 6, 7]
    assert solver.lr_policy == "multistep"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "net=other.prototxt",
            "--set net=other.prototxt, expected a field that the split does not",
        ),
        ("solver_mode=GPUX", "--set solver_mode=GPUX: no value 'GPUX', expected a value of BVLC"),
    ],
)
def test_fields_of_the_split_itself_and_unknown_values_are_refused(tmp_path, assignment, message):
    with pytest.raises(PrototxtError) as caught:
        run(make(tmp_path), tmp_path / "exp/derived1", assignments=[assignment])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("type=Adan", "type 'Adan', expected one of SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, "
         "Adam\nDid you mean Adam?"),
        ("lr_policy=fixd", "lr_policy 'fixd', expected one of fixed, step, exp, inv, multistep, "
         "poly, sigmoid\nDid you mean fixed?"),
        ("lr_policy=step", "no stepsize with lr_policy 'step', expected 1 or more\n"
         "Correct what --set gives it."),
    ],
)  # fmt: skip
def test_a_solver_that_caffe_would_not_take_is_refused_before_anything_is_written(
    tmp_path, assignment, message
):
    with pytest.raises(SplitError) as caught:
        run(make(tmp_path), tmp_path / "exp/derived1", assignments=[assignment])
    assert str(caught.value) == f"Caffe would not take the derived solver: {message}"
    assert not (tmp_path / "exp/derived1").exists()


def test_what_caffe_refuses_of_the_base_solver_already_does_not_stop_a_split(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    solver = folder / "solver.prototxt"
    solver.write_text(solver.read_text() + 'type: "OfAFork"\n')
    run(folder, out)
    assert load(out).solver.type == "OfAFork"


def test_a_type_that_is_set_takes_the_place_of_the_old_solver_type(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    solver = folder / "solver.prototxt"
    solver.write_text(solver.read_text() + "solver_type: ADAGRAD\n")
    run(folder, out, assignments=["type=Adam"])
    assert "solver_type" not in (out / "solver.prototxt").read_text()
    assert load(out).solver.type == "Adam"


def test_a_folder_with_snapshots_of_another_training_is_refused_even_with_force(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    run(folder, out)
    (out / "snap_iter_100.caffemodel").write_bytes((out / "init.caffemodel").read_bytes())
    before = contents(out)
    with pytest.raises(OutputError, match=r"snap_iter_100\.caffemodel is here, of another net"):
        run(folder, out, force=True)
    assert contents(out) == before


def test_a_derived_folder_that_is_copied_trains_into_the_copy(tmp_path):
    out = tmp_path / "other/derived1"
    run(make(tmp_path / "caffe"), out)
    shutil.copytree(out, tmp_path / "copy/derived1")
    assert load(tmp_path / "copy/derived1").snapshot_prefix.startswith(str(tmp_path / "copy"))


def test_an_assignment_of_the_wrong_type_is_refused(tmp_path):
    with pytest.raises(PrototxtError, match=r"^--set display=often:1:10: found"):
        run(make(tmp_path), tmp_path / "exp/derived1", assignments=["display=often"])
