from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from caffesplit.cli import lsuv
from caffesplit.errors import OutputError
from caffesplit.formats import caffemodel


@pytest.fixture(autouse=True)
def _here(digits_root, monkeypatch):
    monkeypatch.chdir(digits_root)


def run(*arguments: str | Path) -> Result:
    given = [str(each) for each in arguments]
    return CliRunner().invoke(lsuv.command, given, catch_exceptions=False)


def test_it_reports_every_layer_and_writes_where_train_looks(python_caffe):
    result = run("baseline", "--pycaffe", python_caffe)

    assert result.exit_code == 0
    header, *rows, last = result.stdout.splitlines()
    assert re.split("  +", header) == ["Layer", "Variance before", "after", "Trials", "Scale"]
    assert [row.split()[0] for row in rows] == ["conv1", "conv2", "conv3", "ip"]
    for row in rows:
        _, before, after, trials, scale = row.split()
        assert abs(float(after) - 1) <= 0.1
        if trials == "1":
            assert float(scale) == pytest.approx(float(before) ** -0.5, rel=1e-3)
    assert last == "baseline/init.caffemodel: 4 of 4 layers at unit variance"
    assert list(caffemodel.read("baseline/init.caffemodel")) == ["conv1", "conv2", "conv3", "ip"]
    with pytest.raises(OutputError):
        run("baseline", "--pycaffe", python_caffe)


def test_a_dead_layer_is_a_warning(python_caffe):
    net = Path("baseline/train_val.prototxt")
    dead = 'name: "relu2"\n  type: "Power"\n  power_param { scale: 0 }'
    net.write_text(net.read_text().replace('name: "relu2"\n  type: "ReLU"', dead))

    result = run("baseline", "--pycaffe", python_caffe, "-o", "out.caffemodel")

    assert result.exit_code == 0
    assert result.stdout.endswith("out.caffemodel: 2 of 4 layers at unit variance\n")
    why = "its weights make no difference to the variance of its output, 0; left as it was"
    assert result.stderr == f"conv3: {why}\nip: {why}\n"


def test_layers_left_alone_are_named_and_given_weights_scaled(python_caffe):
    net = Path("baseline/train_val.prototxt")
    net.write_text(
        net.read_text().replace(
            'top: "conv2"\n  param { lr_mult: 1 }', 'top: "conv2"\n  param { lr_mult: 0 }'
        )
    )
    run("baseline", "--pycaffe", python_caffe, "-o", "a.caffemodel")

    options = ["--weights", "a.caffemodel", "--tolerance", "0.5", "--max-iterations", "1"]
    result = run("baseline", "--pycaffe", python_caffe, "-o", "b.caffemodel", *options)

    assert result.stdout.endswith(
        "b.caffemodel: 3 of 3 layers at unit variance; left alone: conv2 (lr_mult is 0)\n"
    )
    assert all(row.split()[3] == "0" for row in result.stdout.splitlines()[1:-1])
