"""Experiments written anew: the same but for what is asked for, and untrained."""

from __future__ import annotations

import pytest
from small_experiment import make

from caffesplit.errors import OutputError, PrototxtError
from caffesplit.experiment import load
from caffesplit.study.clone import clone
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive


@pytest.fixture
def base(tmp_path):
    return load(make(tmp_path))


def texts(folder):
    return {path.name: path.read_text() for path in folder.glob("*.prototxt")}


def test_a_clone_has_the_bases_own_text_and_no_weights(base, tmp_path):
    out = tmp_path / "exp/clone"
    clone(base, out)
    assert {path.name for path in out.iterdir()} == {"solver.prototxt", "train_val.prototxt"}
    assert texts(out)["train_val.prototxt"] == base.net_path.read_text()
    expected = (
        base.solver_path.read_text()
        .replace("exp/base/net.prototxt", "exp/clone/train_val.prototxt")
        .replace("exp/base/snap", "exp/clone/snap")
        .replace('weights: "older.caffemodel"\n', "")
    )
    assert texts(out)["solver.prototxt"] == expected
    assert load(out).root == base.root


def test_solver_fields_are_set(base, tmp_path):
    clone(base, tmp_path / "exp/clone", ("max_iter=7", "stepvalue=1,2", "random_seed=3"))
    solver = load(tmp_path / "exp/clone").solver
    assert (solver.max_iter, list(solver.stepvalue), solver.random_seed) == (7, [1, 2], 3)


def test_an_unknown_solver_field_is_refused_and_nothing_written(base, tmp_path):
    with pytest.raises(PrototxtError, match="no solver field 'max_itre'"):
        clone(base, tmp_path / "exp/clone", ("max_itre=7",))
    assert not (tmp_path / "exp/clone").exists()


def test_other_data_are_named_from_the_root_or_if_they_lie_elsewhere_in_full(base, tmp_path):
    for place, name in (("data/other", "data/other"), ("../other", str(tmp_path.parent / "other"))):
        clone(base, tmp_path / "exp/clone", sources={"data/lmdb": tmp_path / place}, force=True)
        expected = base.net_path.read_text().replace('"data/lmdb"', f'"{name}"')
        assert texts(tmp_path / "exp/clone")["train_val.prototxt"] == expected


def test_a_clone_in_the_shape_of_a_split_has_its_net_and_the_bases_solver(base, tmp_path):
    plan = decide(base, (100, 400), ["conv1"])
    derive(base, plan, base.weights_path(400), tmp_path / "exp/split", assignments=["max_iter=5"])
    split = load(tmp_path / "exp/split")
    clone(base, tmp_path / "exp/clone", shape=split)
    made = load(tmp_path / "exp/clone")
    assert made.net_path.read_text() == split.net_path.read_text()
    assert made.solver.max_iter == base.solver.max_iter
    assert not list((tmp_path / "exp/clone").glob("init.*"))


def test_a_deploy_net_comes_along(base, tmp_path):
    deploy = '# For use.\nlayer { name: "conv1" }\n'
    base.net_path.with_name("deploy.prototxt").write_text(deploy)
    clone(base, tmp_path / "exp/clone")
    assert texts(tmp_path / "exp/clone")["deploy.prototxt"] == deploy


def test_what_exists_is_replaced_with_force_alone(base, tmp_path):
    clone(base, tmp_path / "exp/clone")
    with pytest.raises(OutputError, match="the output exists already"):
        clone(base, tmp_path / "exp/clone")
    clone(base, tmp_path / "exp/clone", ("max_iter=7",), force=True)
    assert load(tmp_path / "exp/clone").solver.max_iter == 7


def test_the_base_itself_is_never_overwritten(base):
    before = texts(base.folder)
    with pytest.raises(OutputError, match="the output is also an input"):
        clone(base, base.folder, force=True)
    assert texts(base.folder) == before
