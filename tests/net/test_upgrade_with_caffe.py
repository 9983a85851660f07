"""Upgrades of texts and messages give what Caffe's own tools give."""

from __future__ import annotations

from pathlib import Path

import pytest
from caffe_upgrade import Net, Solver, upgraded_text, v0_nets, v1_nets
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffesplit import zoo
from caffesplit.formats import schema
from caffesplit.formats.prototxt import load, parse
from caffesplit.net.upgrade import upgrade_net, upgrade_solver
from caffesplit.net.upgrade_message import upgrade_message

DATA = Path(__file__).parent.parent / "data" / "upgrade"
NETS = sorted(path for path in DATA.glob("*.prototxt") if "solver" not in path.name)
NETS += sorted(Path(zoo.__file__).parent.glob("*/*t*.prototxt"))

patient = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=30)


def read(tree, name: str = "NetParameter"):
    """The message of a tree's text, which is read anew."""
    return schema.read(parse(str(tree)), name).message


@pytest.mark.parametrize("path", [p for p in NETS if "solver" not in p.name], ids=lambda p: p.name)
def test_a_net_s_upgrade_is_caffe_s(caffe, path, tmp_path):
    (tmp_path / "net").write_bytes(path.read_bytes())

    assert read(upgrade_net(load(path)).result) == upgraded_text(caffe, tmp_path / "net")


@pytest.mark.parametrize(
    "solver_type", ["SGD", "NESTEROV", "ADAGRAD", "RMSPROP", "ADADELTA", "ADAM", "4"]
)
def test_a_solver_s_upgrade_is_caffe_s(caffe, solver_type, tmp_path):
    path = tmp_path / "solver"
    path.write_text(f"base_lr: 0.1 # rate\nsolver_type: {solver_type}\nmomentum: 0.9\n")
    made = upgrade_solver(load(path))

    assert read(made.result, "SolverParameter") == upgraded_text(caffe, path, Solver)


def test_the_nets_inside_a_solver_are_upgraded_as_nets(caffe, tmp_path):
    tree = load(DATA / "inside_solver.before.prototxt")
    upgraded = read(upgrade_solver(tree).result, "SolverParameter")
    for name in ("train_net_param", "test_net_param"):
        path = tmp_path / name
        path.write_text(str(tree.get(name).value).strip("{}"))
        made = getattr(upgraded, name)
        assert (made[0] if name == "test_net_param" else made) == upgraded_text(caffe, path)


def check(caffe, net, path: Path, one_line: bool) -> None:
    """On one line; or on many, each with a comment."""
    text = text_format.MessageToString(net, as_one_line=one_line)
    lines = [] if one_line else text.splitlines()
    path.write_text(text if one_line else "".join(map(commented, range(len(lines)), lines)))
    expected = upgraded_text(caffe, path)
    tree = upgrade_net(parse(path.read_text())).result

    assert read(tree) == expected
    assert upgrade_message(net, "net").result == expected
    assert upgrade_net(tree).result is tree
    for number in range(len(lines)):
        assert commented(number) in str(tree)


def commented(number: int, line: str = "") -> str:
    return f"{line}# comment {number}\n"


@patient
@given(net=v1_nets(), one_line=st.booleans())
def test_any_v1_net_s_upgrade_is_caffe_s(caffe, tmp_path, net, one_line):
    check(caffe, net, tmp_path / "net", one_line)


@patient
@given(net=v0_nets(), one_line=st.booleans())
def test_any_v0_net_s_upgrade_is_caffe_s(caffe, tmp_path, net, one_line):
    check(caffe, net, tmp_path / "net", one_line)


def test_a_net_of_today_is_the_same_message():
    net = Net(name="a")
    made = upgrade_message(net, "net")
    assert made.result is net
    assert not made.steps
