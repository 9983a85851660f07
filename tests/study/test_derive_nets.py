"""Deriving experiments whose solvers keep several nets, or have them inside."""

import pytest
from small_experiment import NET, SOLVER, make

from caffesplit.errors import SplitError
from caffesplit.experiment import load
from caffesplit.net.check import check_net
from caffesplit.split.forms import Setting
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive

HEAD = SOLVER.partition('net: "{net}"\n')[2].format(prefix="exp/base/snap")
TEST_NET = NET[: NET.index('layer {\n  name: "conv2"')].replace("# The base.", "# To test.")


def solver(folder, text):
    (folder / "solver.prototxt").write_text(text + HEAD)


def apart(folder):
    """A net to train and another to test, which ends with conv1."""
    (folder / "training.prototxt").write_text(NET)
    (folder / "testing.prototxt").write_text(TEST_NET)
    solver(
        folder,
        'train_net: "exp/base/training.prototxt"  # all of it\n'
        'test_net: "exp/base/testing.prototxt"\ntest_iter: 1\n',
    )


def run(folder, out, layers=("conv1",)):
    base = load(folder)
    plan = decide(base, (100, 400), layers, "extension")
    return derive(base, plan, base.weights_path(400), out, Setting(noise=0))


def names(net):
    return [layer.name for layer in net.layers]


SPLIT = ["conv1_split1", "conv1_split2", "conv1_split2_extension", "conv1_concat", "conv1_reorder"]


def test_train_and_test_nets_are_derived_each_into_its_file(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    apart(folder)
    run(folder, out)
    assert {path.name for path in out.iterdir()} == {
        "solver.prototxt", "train.prototxt", "test.prototxt", "init.caffemodel", "split.json",
    }  # fmt: skip
    assert (
        (out / "solver.prototxt")
        .read_text()
        .startswith(
            'train_net: "exp/derived1/train.prototxt"  # all of it\n'
            'test_net: "exp/derived1/test.prototxt"\ntest_iter: 1\n'
        )
    )
    trained, tested = load(out).nets
    assert names(trained.net) == ["data", *SPLIT, "conv2"]
    assert names(tested.net) == ["data", *SPLIT]
    assert (out / "test.prototxt").read_text().startswith("# To test.")


def test_a_layer_that_a_test_net_lacks_is_passed_over(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    apart(folder)
    run(folder, out, ["conv2"])
    assert (out / "test.prototxt").read_text() == TEST_NET
    assert "conv2_reorder" in (out / "train.prototxt").read_text()


def test_further_test_nets_are_numbered_and_one_file_is_written_once(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    (folder / "testing.prototxt").write_text(TEST_NET)
    nets = ("net.prototxt", "testing.prototxt", "net.prototxt")
    listed = ", ".join(f'"exp/base/{name}"' for name in nets)
    solver(folder, f'train_net: "exp/base/net.prototxt"\ntest_net: [{listed}]\n')
    (folder / "other.prototxt").write_text(NET)
    text = (folder / "solver.prototxt").read_text()
    (folder / "solver.prototxt").write_text(text + 'test_net: "exp/base/other.prototxt"\n')
    run(folder, out)
    derived = (out / "solver.prototxt").read_text()
    assert 'train_net: "exp/derived1/train.prototxt"\n' in derived
    assert (
        'test_net: ["exp/derived1/train.prototxt", "exp/derived1/test.prototxt", '
        '"exp/derived1/train.prototxt"]\n' in derived
    )
    assert 'test_net: "exp/derived1/test2.prototxt"\n' in derived


def inside(net):
    return "".join(f"  {line}\n" if line else "\n" for line in net.rstrip("\n").split("\n"))


def test_nets_inside_the_solver_are_rewritten_in_their_place(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    solver(folder, f"# Own.\nnet_param {{\n{inside(NET)}}}\ntest_iter: 1  # once\n")
    run(folder, out)
    assert {path.name for path in out.iterdir()} == {
        "solver.prototxt", "init.caffemodel", "split.json",
    }  # fmt: skip
    text = (out / "solver.prototxt").read_text()
    assert text.startswith('# Own.\nnet_param {\n  # The base.\n  layer {\n    name: "data"\n')
    assert '\n  layer {\n    name: "conv1_split1"\n    type: "Convolution"\n' in text
    assert "}\ntest_iter: 1  # once\n" in text
    derived = load(out)
    assert names(derived.net) == ["data", *SPLIT, "conv2"]
    assert not [finding for finding in check_net(derived.net) if not finding.warning]


def test_train_net_param_and_test_net_param_go_with_files(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    (folder / "testing.prototxt").write_text(TEST_NET)
    solver(
        folder,
        f'test_net: "exp/base/testing.prototxt"\ntrain_net_param {{\n{inside(NET)}}}\n'
        f"test_net_param {{\n{inside(TEST_NET)}}}\ntest_iter: [1, 1]\n",
    )
    run(folder, out)
    assert [(each.field, names(each.net)[-1]) for each in load(out).nets] == [
        ("train_net_param", "conv2"),
        ("test_net_param", "conv1_reorder"),
        ("test_net", "conv1_reorder"),
    ]


@pytest.mark.parametrize("form", ["files", "inside"])
def test_outside_the_root_the_data_paths_of_every_net_are_absolute(tmp_path, form, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, out = make(tmp_path / "caffe"), tmp_path / "other/derived1"
    if form == "files":
        apart(folder)
    else:
        nets = f"net_param {{\n{NET}}}\ntest_net_param {{\n{TEST_NET}}}\n"
        solver(folder, nets + "test_iter: 1\n")
    run(folder, out)
    derived = load(out)
    assert derived.root == out
    assert derived.snapshot_prefix == str(out / "snap")
    for each in derived.nets:
        assert each.net.layers[0].message.data_param.source == str(tmp_path / "caffe/data/lmdb")


def test_a_test_net_with_another_layer_of_that_name_is_refused(tmp_path):
    folder = make(tmp_path)
    apart(folder)
    other = TEST_NET.replace("num_output: 6", "num_output: 8")
    (folder / "testing.prototxt").write_text(other)
    with pytest.raises(SplitError, match=r"testing\.prototxt:8:1: layer 'conv1' with num_output 8"):
        run(folder, tmp_path / "exp/derived1")
    assert not (tmp_path / "exp/derived1").exists()


def test_an_old_net_inside_the_solver_asks_for_its_upgrade(tmp_path):
    folder = make(tmp_path)
    old = 'layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" }'
    solver(folder, f"net_param {{ {old} }}\n")
    message = (
        r"solver\.prototxt:1:13: layer 'conv1' in the V1 format.*\n.*\n.*\n.*caffesplit upgrade"
    )
    with pytest.raises(SplitError, match=message):
        run(folder, tmp_path / "exp/derived1")


def test_nets_that_serve_one_phase_need_be_legal_in_that_one_alone(tmp_path):
    folder, out = make(tmp_path), tmp_path / "exp/derived1"
    apart(folder)
    for name, phase in (("training", "TRAIN"), ("testing", "TEST")):
        path = folder / f"{name}.prototxt"
        text = path.read_text().replace(
            '  top: "data"\n', f'  top: "data"\n  include {{ phase: {phase} }}\n', 1
        )
        path.write_text(text)
    run(folder, out)
    assert names(load(out).net) == ["data", *SPLIT, "conv2"]
