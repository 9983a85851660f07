from pathlib import Path

import numpy as np
import pytest

from caffesplit.errors import CaffesplitError, NetError, PrototxtError, SnapshotError
from caffesplit.experiment import find_solver, load
from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights

NET = """layer { name: "data" type: "Data" top: "data" data_param { source: "data/lmdb" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 1 } }
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def experiment(folder: Path, net: str = "exp/base/net.prototxt", prefix: str = "exp/base/snap"):
    """An experiment in folder/exp/base, with paths from `folder`, as people call Caffe."""
    write(folder / "exp/base/net.prototxt", NET)
    write(folder / "exp/base/solver.prototxt", f'net: "{net}"\nsnapshot_prefix: "{prefix}"\n')
    return folder / "exp/base"


def snapshot(path: Path, value: float) -> None:
    weight = np.full((2, 1, 1, 1), value, np.float32)
    caffemodel.write(path, [LayerWeights("conv", "Convolution", (weight,))])


def shown(error: CaffesplitError) -> str:
    return str(error)


def test_paths_are_taken_from_the_working_directory_first(tmp_path, monkeypatch):
    experiment(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = load("exp/base")
    assert found.root == tmp_path
    assert found.net_path == tmp_path / "exp/base/net.prototxt"
    assert found.name == "base"


def test_paths_are_taken_from_the_solvers_folder_and_its_parents(tmp_path, monkeypatch):
    folder = experiment(tmp_path)
    monkeypatch.chdir("/")
    assert load(folder).root == tmp_path
    write(folder / "solver.prototxt", 'net: "net.prototxt"')
    assert load(folder).root == folder


def test_root_overrides_the_search(tmp_path):
    folder = experiment(tmp_path, net="net.prototxt")
    write(tmp_path / "other/net.prototxt", NET)
    assert load(folder, root=tmp_path / "other").net_path == tmp_path / "other/net.prototxt"


def test_a_moved_folder_is_still_found_by_the_end_of_its_recorded_path(tmp_path, monkeypatch):
    folder = experiment(tmp_path, net="/home/gone/caffe/exp/base/net.prototxt")
    monkeypatch.chdir("/")
    assert load(folder).net_path == folder / "net.prototxt"


def test_two_nets_that_could_be_meant_are_not_chosen_between(tmp_path, monkeypatch):
    folder = experiment(tmp_path, net="net.prototxt")
    write(tmp_path / "net.prototxt", NET)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NetError) as caught:
        load(folder)
    message = shown(caught.value)
    assert message.startswith(f"{folder}/solver.prototxt:1:6: two nets could be meant: ")
    assert message.endswith(f"--root {tmp_path} or --root {folder}.")


def test_a_missing_net_says_where_it_was_looked_for(tmp_path, monkeypatch):
    folder = experiment(tmp_path, net="nowhere/net2.prototxt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NetError) as caught:
        load(folder)
    first, *_, last = shown(caught.value).splitlines()
    assert first.startswith(
        f'{folder}/solver.prototxt:1:6: net "nowhere/net2.prototxt" does not exist, '
        f"expected a file below one of {tmp_path}, {folder}, "
    )
    assert last == "Give the folder its path starts from: --root DIR."


def test_a_solver_without_a_net_is_refused(tmp_path):
    solver = write(tmp_path / "solver.prototxt", "base_lr: 0.1")
    with pytest.raises(NetError) as caught:
        load(solver)
    assert shown(caught.value) == (
        f"{solver}: a solver without a net to train, expected one of net, net_param, train_net, "
        'train_net_param\nName the net, as in net: "train_val.prototxt".'
    )


def test_a_net_or_a_log_in_a_solvers_place_is_told_to_be_one(tmp_path):
    net = write(tmp_path / "net.prototxt", 'layer { name: "a" type: "Silence" }\n')
    with pytest.raises(NetError) as refused:
        load(net)
    assert shown(refused.value) == (
        f"{net}: this is a net, expected an experiment's folder, or its solver\n"
        "Give the folder, or the solver that names this net."
    )
    log = write(
        tmp_path / "train.log",
        "+ caffe train\nI1121 10:00:00.123456   123 caffe.cpp:204] Using GPUs 0\n",
    )
    with pytest.raises(PrototxtError) as caught:
        load(log)
    assert shown(caught.value) == (
        f"{log}: found what looks like Caffe's log, expected a net or solver in text format\n"
        "`caffesplit log` and `caffesplit plot` read logs."
    )


def test_train_and_test_nets_are_all_found_the_trained_one_first(tmp_path):
    write(tmp_path / "exp/train.prototxt", NET)
    write(tmp_path / "exp/test.prototxt", NET.replace("conv", "other"))
    solver = write(
        tmp_path / "exp/solver.prototxt",
        'test_net: "exp/test.prototxt" test_net: "exp/train.prototxt" '
        'train_net: "exp/train.prototxt" test_iter: [1, 2]',
    )
    found = load(solver)
    assert [(each.field, each.path.name) for each in found.nets] == [
        ("train_net", "train.prototxt"),
        ("test_net", "test.prototxt"),
        ("test_net", "train.prototxt"),
    ]
    assert found.net_path == tmp_path / "exp/train.prototxt"
    assert found.net is found.nets[0].net is found.nets[2].net
    assert found.paths == (
        solver,
        *(tmp_path / f"exp/{name}.prototxt" for name in ("train", "test")),
    )
    assert [state.phase for _, state in found.uses] == ["TRAIN", "TEST", "TEST"]


def test_a_net_inside_the_solver_stands_at_the_solvers_path(tmp_path):
    solver = write(tmp_path / "exp/solver.prototxt", f"net_param {{\n{NET}}}\ntest_iter: 1")
    found = load(solver)
    assert found.net_path == solver
    assert found.paths == (solver,)
    assert found.kernel_layers == ("conv",)
    assert found.nets[0].path is None
    assert str(found.net.layers[1].location) == f"{solver}:3:1"


def test_without_a_nets_path_the_root_is_where_data_is_or_snapshots_stay_in_the_folder(
    tmp_path, monkeypatch
):
    solver = write(tmp_path / "exp/base/solver.prototxt", f"net_param {{ {NET} }}")
    assert load(solver).root == solver.parent
    monkeypatch.chdir(tmp_path)
    solver.write_text(f'net_param {{ {NET} }} snapshot_prefix: "snap"')
    assert load(solver).root == solver.parent
    solver.write_text(f'net_param {{ {NET} }} snapshot_prefix: "base/snap"')
    assert load(solver).root == tmp_path / "exp"
    (tmp_path / "data/lmdb").mkdir(parents=True)
    assert load(solver).root == tmp_path


def test_all_paths_of_a_solver_start_from_one_folder(tmp_path):
    write(tmp_path / "exp/train.prototxt", NET)
    write(tmp_path / "exp/base/test.prototxt", NET)
    solver = write(
        tmp_path / "exp/base/solver.prototxt",
        'train_net: "exp/train.prototxt"\ntest_net: "nowhere/test.prototxt"',
    )
    with pytest.raises(NetError) as caught:
        load(solver)
    assert shown(caught.value).splitlines()[0] == (
        f'{solver}:2:11: test_net "nowhere/test.prototxt" does not exist, '
        f"expected a file below {tmp_path}"
    )


def test_the_layers_that_are_trained_are_those_of_the_solvers_state(tmp_path):
    folder = experiment(tmp_path)
    net = folder / "net.prototxt"
    staged = NET.replace("conv", "staged").replace(
        'top: "staged"', 'top: "s" include { stage: "b" }'
    )
    net.write_text(NET + staged[staged.index("layer {", 1) :])
    assert load(folder).kernel_layers == ("conv",)
    solver = folder / "solver.prototxt"
    solver.write_text(solver.read_text() + 'train_state { stage: "b" }')
    assert load(folder).kernel_layers == ("conv", "staged")


def test_the_solver_is_found_by_its_name(tmp_path):
    write(tmp_path / "net.prototxt", NET)
    with pytest.raises(NetError, match=r"0 solvers \(net.prototxt\), expected one, named"):
        find_solver(tmp_path)
    named = write(tmp_path / "lenet_solver.prototxt", "")
    assert find_solver(tmp_path) == named
    write(tmp_path / "quick_solver.prototxt", "")
    with pytest.raises(NetError, match=r"2 solvers \(lenet_solver.prototxt, quick_solver"):
        find_solver(tmp_path)
    plain = write(tmp_path / "solver.prototxt", "")
    assert find_solver(tmp_path) == plain
    with pytest.raises(NetError, match="no such file or folder"):
        find_solver(tmp_path / "missing")


def test_snapshots_are_found_at_the_prefix_beside_the_solver_or_where_one_says(tmp_path):
    folder = experiment(tmp_path)
    for iteration in (200, 100):
        snapshot(folder / f"snap_iter_{iteration}.caffemodel", iteration)
    found = load(folder)
    assert [each.iteration for each in found.snapshots()] == [100, 200]

    write(folder / "solver.prototxt", 'net: "net.prototxt" snapshot_prefix: "/gone/snap"')
    assert [each.iteration for each in load(folder).snapshots()] == [100, 200]
    assert len(load(folder).snapshots(str(folder / "snap"))) == 2


def test_without_snapshots_the_message_names_the_files_expected(tmp_path):
    folder = experiment(tmp_path, prefix="snaps/s")
    with pytest.raises(SnapshotError) as caught:
        load(folder).snapshots()
    assert shown(caught.value) == (
        f"{folder}/solver.prototxt: no snapshots, expected files named "
        f"{tmp_path}/snaps/s_iter_<N>.caffemodel or {folder}/s_iter_<N>.caffemodel\n"
        "Train first, or give their prefix: --snapshots PREFIX."
    )


def test_weights_are_chosen_by_iteration_or_path(tmp_path):
    folder = experiment(tmp_path)
    snapshot(folder / "snap_iter_100.caffemodel", 1)
    found = load(folder)
    assert found.weights_path("100") == folder / "snap_iter_100.caffemodel"
    assert found.weights_path(100) == found.weights_path("100")
    path = str(folder / "snap_iter_100.caffemodel")
    assert found.weights_path(path) == Path(path)
    with pytest.raises(SnapshotError, match=r"no snapshot of iteration 50.*\nThere are snapshots"):
        found.weights_path(50)
    with pytest.raises(SnapshotError, match="no such file, expected a weight file"):
        found.weights_path("missing.caffemodel")


def test_the_history_maps_each_layers_kernels_at_each_snapshot(tmp_path):
    folder = experiment(tmp_path)
    for iteration in (100, 200):
        snapshot(folder / f"snap_iter_{iteration}.caffemodel", iteration)
    history = load(folder).history()
    assert history.iterations == (100, 200)
    assert history.load(200)["conv"].tolist() == [[[[200.0]]], [[[200.0]]]]


def test_another_project_in_the_working_directory_is_not_taken_for_this_one(tmp_path, monkeypatch):
    other, folder = experiment(tmp_path / "a"), experiment(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "a")
    assert load(folder).net_path == folder / "net.prototxt"
    assert load(other).net_path == other / "net.prototxt"


def test_snapshots_of_a_moved_folder_are_found_by_the_end_of_their_prefix(tmp_path):
    folder = experiment(tmp_path, prefix="/home/gone/base/snaps/quick")
    (folder / "snaps").mkdir()
    snapshot(folder / "snaps/quick_iter_100.caffemodel", 1)
    assert [each.iteration for each in load(folder).snapshots()] == [100]


def test_a_prefix_that_ends_in_a_slash_is_a_folder(tmp_path):
    folder = experiment(tmp_path, prefix="exp/base/snaps/")
    (folder / "snaps").mkdir()
    snapshot(folder / "snaps/_iter_100.caffemodel", 1)
    assert [each.iteration for each in load(folder).snapshots()] == [100]
    assert load(folder).snapshot_folder == folder / "snaps"


def test_snapshots_are_named_by_prefix_or_folder_from_here_the_root_or_the_solver(tmp_path):
    folder = experiment(tmp_path, prefix="exp/base/snap")
    (folder / "old").mkdir()
    snapshot(folder / "old/snap_iter_100.caffemodel", 1)
    for given in ("old", "old/snap", "exp/base/old/snap", str(folder / "old")):
        assert [each.iteration for each in load(folder).snapshots(given)] == [100]


def test_snapshots_of_another_net_are_refused(tmp_path):
    folder = experiment(tmp_path)
    weight = np.zeros((5, 1, 1, 1), np.float32)
    path = folder / "snap_iter_100.caffemodel"
    caffemodel.write(path, [LayerWeights("conv", "Convolution", (weight,))])
    with pytest.raises(SnapshotError) as caught:
        load(folder).history().load(100)
    assert shown(caught.value) == (
        f"{path}: 5 kernels of layer 'conv', expected the 2 that {folder}/net.prototxt gives it\n"
        "Are these snapshots of another net? --snapshots PREFIX names others."
    )
    caffemodel.write(path, [LayerWeights("other", "Convolution", (weight,))], force=True)
    with pytest.raises(SnapshotError, match="no weights of layer 'conv', expected the 2"):
        load(folder).history().load(100)
