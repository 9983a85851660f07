"""`caffesplit upgrade` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from old_experiment import make

from caffesplit.cli.upgrade import command
from caffesplit.formats.schema import message_class

DATA = Path(__file__).parent.parent / "data" / "upgrade"


def upgrade(*arguments):
    done = CliRunner().invoke(command, list(map(str, arguments)))
    return done.exit_code, done.output


def test_it_says_what_was_upgraded(tmp_path):
    out = tmp_path / "new.prototxt"
    code, output = upgrade(DATA / "v0.before.prototxt", "-o", out)

    assert (code, output) == (
        0,
        f"{out}: net upgraded: V0 → V1: 27 layers, 2 padding layers folded, V1 → V2: 25 layers\n",
    )
    assert out.read_bytes() == (DATA / "v0.after.prototxt").read_bytes()


@pytest.mark.parametrize("name", ["v1.after", "solver.after"])
def test_what_is_of_today_is_copied(name, tmp_path):
    source, out = DATA / f"{name}.prototxt", tmp_path / "new.prototxt"
    kind = "solver" if "solver" in name else "net"
    code, output = upgrade(source, "-o", out)

    assert (code, output) == (
        0,
        f"{out}: {kind} of today, from {source}\n",
    )
    assert out.read_bytes() == source.read_bytes()


def test_a_solver_is_told_from_a_net(tmp_path):
    out = tmp_path / "new.prototxt"
    assert upgrade(DATA / "solver.before.prototxt", "-o", out) == (
        0,
        f"{out}: solver upgraded: solver_type\n",
    )


def test_weights_are_told_from_text(tmp_path):
    net = message_class("NetParameter")(name="net", input=["data"])
    net.layers.add(name="relu", type=18)
    (tmp_path / "old").write_bytes(net.SerializeToString())
    out = tmp_path / "new"
    assert upgrade(tmp_path / "old", "-o", out) == (
        0,
        f"{out}: weights upgraded: V1 → V2: 1 layer, input fields without shapes removed\n",
    )


def test_what_has_no_place_today_is_a_warning(tmp_path):
    source = tmp_path / "old.prototxt"
    source.write_text('layers { layer { name: "a" type: "relu" pad: 1 } }')
    code, output = upgrade(source, "-o", tmp_path / "new.prototxt")

    assert code == 0
    assert output == (
        f"{source}:1:41: warning: `pad` in a V0 layer of type relu: has no place today, left out "
        f"[no-place]\n{tmp_path}/new.prototxt: net upgraded: V0 → V1: 1 layer, V1 → V2: 1 layer\n"
    )
    assert (tmp_path / "new.prototxt").read_text() == 'layer { name: "a" type: "ReLU" }'


@pytest.mark.parametrize("source", ["old", "old/old_solver.prototxt"])
@pytest.mark.parametrize("name", ["new", "new.folder"])
def test_an_experiment_is_upgraded_as_a_whole(source, name, tmp_path):
    make(tmp_path / "old")
    out = tmp_path / name
    if "." in name:
        out.mkdir()

    assert upgrade(tmp_path / source, "-o", out) == (
        0,
        f"{out}/train.prototxt: net upgraded: the transformation of data, V1 → V2: 5 layers\n"
        f"{out}/test.prototxt: net upgraded: the transformation of data, V1 → V2: 5 layers\n"
        f"{out}/solver.prototxt: solver upgraded: solver_type, train_net, test_net\n",
    )


def test_a_root_is_for_experiments_alone(tmp_path):
    make(tmp_path / "old")
    (tmp_path / "old/old_solver.prototxt").rename(tmp_path / "solver.prototxt")
    out = ["-o", tmp_path / "new", "--root", tmp_path / "old"]

    assert upgrade(tmp_path / "solver.prototxt", *out)[0] == 0
    code, output = upgrade(tmp_path / "old/old_train.prototxt", *out)
    assert code == 2
    assert "--root is for the paths of an experiment; leave it out." in output
