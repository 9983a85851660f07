from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from caffesplit import experiment, zoo
from caffesplit.cli import zoo as verb
from caffesplit.errors import NetError, OutputError
from caffesplit.net.sources import named_paths


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(verb.command, arguments, catch_exceptions=False)


@pytest.mark.parametrize("arguments", [[], ["--list"]])
def test_it_lists_the_nets_and_what_the_notebooks_did_with_them(arguments):
    lines = run(*arguments).stdout.splitlines()

    assert lines[0].split() == ["Name", "Data", "set", "Parameters", "Source", "Notebooks"]
    assert [line.split()[0] for line in lines[1:]] == list(zoo.NAMES)
    assert "1369738" in lines[3]
    assert lines[3].endswith("003: the layers of highest TPM entropy split, twice")


def test_it_writes_an_experiment_and_says_what_to_do_next():
    result = run("fitnet4", "-o", "exp/baseline")

    assert result.stdout == (
        "exp/baseline/solver.prototxt: fitnet4 for CIFAR-100, 1,321,896 parameters\n"
        "next:\n"
        "  caffesplit data cifar100 data/cifar100-gcn-pad4 --gcn --pad 4\n"
        "  caffesplit lsuv exp/baseline\n"
        "  caffesplit train exp/baseline\n"
    )
    loaded = experiment.load("exp/baseline")
    assert loaded.root == Path.cwd()
    sources = [path for _, path in named_paths(loaded.net.layers)]
    assert sources[1] == "data/cifar100-gcn-pad4/cifar100_train_lmdb"


def test_data_that_is_there_need_not_be_written():
    Path("sets/digits_train_lmdb").mkdir(parents=True)

    result = run("digits", "-o", "exp", "--data", "sets")

    assert result.stdout.endswith("next:\n  caffesplit train exp\n")


def test_paths_start_from_the_root_and_the_commands_say_so():
    Path("work").mkdir()

    result = run("resnet20", "-o", "work/base line", "--root", "work")

    assert result.stdout.splitlines()[2:] == [
        "  caffesplit data cifar100 work/data/cifar100-pad4 --pad 4",
        "  caffesplit train 'work/base line' --root work",
    ]
    loaded = experiment.load("work/base line", "work")
    assert loaded.snapshot_prefix == "work/base line/resnet20"
    assert [path for _, path in named_paths(loaded.net.layers)] == [
        "data/cifar100-pad4/cifar100_mean.binaryproto",
        "data/cifar100-pad4/cifar100_train_lmdb",
        "data/cifar100-pad4/cifar100_mean.binaryproto",
        "data/cifar100-pad4/cifar100_test_lmdb",
    ]


def test_an_unknown_net_is_answered_with_the_known_ones():
    with pytest.raises(NetError, match="one of fitnet4, resnet20, allcnn, inception_small, digits"):
        run("vgg", "-o", "exp")
    assert not Path("exp").exists()


def test_it_asks_where_to_write():
    result = run("allcnn")
    assert result.exit_code == 2
    assert "Say where to write it: -o EXP." in result.stderr


def test_files_that_exist_are_replaced_only_by_force():
    run("allcnn", "-o", "exp")
    with pytest.raises(OutputError):
        run("allcnn", "-o", "exp")
    assert run("allcnn", "-o", "exp", "--force").exit_code == 0
