from __future__ import annotations

import json
from pathlib import Path

import cifar_files
import numpy as np
import pytest
from cifar_files import SMALL10, SMALL100
from click.testing import CliRunner
from leveldb_files import leveldb_of

from caffesplit.cli import data
from caffesplit.cli.data_options import bars
from caffesplit.data import cifar
from caffesplit.errors import CaffesplitError
from caffesplit.formats import database


def run(*arguments: object):
    return CliRunner().invoke(data.command, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture
def images(tmp_path) -> Path:
    """An LMDB of a hundred images of 4 × 4, ten of each class."""
    rng = np.random.default_rng(0)
    database.write(
        tmp_path / "set_train_lmdb",
        (
            (database.key(i), database.datum(rng.integers(0, 256, (1, 4, 4), np.uint8), i % 10))
            for i in range(100)
        ),
    )
    return tmp_path / "set_train_lmdb"


def test_digits_are_written_with_their_mean(tmp_path):
    result = run("digits", tmp_path / "sets", "--train", 60, "--seed", 1)

    assert result.stdout == (
        f"{tmp_path}/sets/digits_train_lmdb: 60 images\n"
        f"{tmp_path}/sets/digits_test_lmdb: 1000 images\n"
        f"{tmp_path}/sets/digits_mean.binaryproto: mean of digits_train_lmdb\n"
    )
    assert database.count(tmp_path / "sets/digits_train_lmdb") == 60


def test_what_is_written_of_a_whitened_set_is_named(tmp_path):
    result = run("digits", tmp_path, "--train", 60, "--gcn", "--zca", "--epsilon", 0.5)

    assert result.stdout.endswith(
        f"{tmp_path}/digits_zca.npz: whitening fitted to digits_train_lmdb\n"
    )
    assert np.load(tmp_path / "digits_zca.npz")["epsilon"] == 0.5


@pytest.mark.parametrize(
    ("verb", "kind", "options", "label"),
    [
        ("cifar10", SMALL10, [], -1),
        ("cifar100", SMALL100, [], -1),
        ("cifar100", SMALL100, ["--coarse"], 0),
    ],
)
def test_cifar_is_written_from_an_archive(tmp_path, monkeypatch, verb, kind, options, label):
    monkeypatch.setattr(cifar, verb.upper(), kind)
    files = cifar_files.contents(kind)
    source = cifar_files.in_archive(tmp_path / "a.tar.gz", kind.folder, files)

    result = run(verb, tmp_path / "sets", "--archive", source, *options)

    train = tmp_path / f"sets/{verb}_train_lmdb"
    records = sum(kind.train.values())
    assert result.stdout.startswith(f"{train}: {records} images\n")
    data = b"".join(files[name] for name in kind.train)
    expected = list(data[(len(kind.classes) + label) % len(kind.classes) :: kind.record])
    assert [datum.label for _, datum in database.read(train)] == expected


def test_an_archive_in_the_cache_folder_is_not_downloaded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar, "CIFAR10", SMALL10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "caffesplit/data"
    cache.mkdir(parents=True)
    cifar_files.in_archive(
        cache / "cifar-10-binary.tar.gz", SMALL10.folder, cifar_files.contents(SMALL10)
    )

    result = run("cifar10", tmp_path / "sets", "--pad", 4)

    assert result.exit_code == 0
    assert database.count(tmp_path / "sets/cifar10_test_lmdb") == 30


def test_databases_are_whitened_under_their_names(tmp_path, images):
    result = run("whiten", images, "-o", tmp_path / "out", "--gcn", "--pad", 1)

    assert result.stdout == (
        f"{tmp_path}/out/set_train_lmdb: 100 images\n"
        f"{tmp_path}/out/set_mean.binaryproto: mean of set_train_lmdb\n"
        f"{tmp_path}/out/set_zca.npz: whitening fitted to set_train_lmdb\n"
    )


def test_shuffled_labels_are_reported(tmp_path, images):
    result = run("shuffle-labels", images, tmp_path / "out", "--seed", 0)

    before, after = (
        [datum.label for _, datum in database.read(each)] for each in (images, tmp_path / "out")
    )
    changed = sum(map(int.__ne__, before, after))
    assert result.stdout == (
        f"{tmp_path}/out: 100 images, labels of 100 permuted, "
        f"{changed} ({changed}.0%) are others now\n"
        "10 labels with 10 images each, as before\n"
    )


def test_shuffled_labels_are_reported_as_json(tmp_path, images):
    result = run(
        "shuffle-labels", images, tmp_path / "out", "--seed", 0, "--fraction", 0.5, "--json", "-"
    )

    report = json.loads(result.stdout)
    assert (report["records"], report["chosen"]) == (100, 50)
    assert 0 < report["changed"] <= 50
    assert report["histogram"] == {str(label): 10 for label in range(10)}


def test_an_lmdb_of_a_leveldb_is_written_with_what_to_write_into_the_net(tmp_path, images):
    leveldb_of(tmp_path / "old leveldb", database.read_bytes(images))

    result = run("lmdb", tmp_path / "old leveldb", "-o", tmp_path / "new lmdb")

    assert result.stdout == (
        f"{tmp_path}/new lmdb: 100 records, those of {tmp_path}/old leveldb\n"
        "Write into the data_param of the layers that read it:\n"
        f'    source: "{tmp_path}/new lmdb" backend: LMDB\n'
    )
    assert list(database.read_bytes(tmp_path / "new lmdb")) == list(database.read_bytes(images))


def test_progress_of_what_nobody_knows_the_total_of_is_a_count(monkeypatch, capfd):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with bars() as progress:
        progress("writing lmdb", 12_000, 0)
        progress("fitting", 5, 10)
    shown = capfd.readouterr().err
    assert "writing lmdb: 12,000" in shown
    assert "fitting" in shown
    assert "50%" in shown


def test_a_seed_is_asked_for(tmp_path, images):
    result = run("shuffle-labels", images, tmp_path / "out")
    assert result.exit_code == 2
    assert "Missing option '--seed'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits", "DIR", "--train", "798"], "798 is not in the range 10<=x<=797"),
        (["digits", "DIR", "--epsilon", "1"], "--epsilon is --zca's: give both or neither."),
        (["digits", "DIR", "--zca", "--epsilon", "0"], "0.0 is not in the range x>0"),
        (["digits", "DIR", "--zca", "--epsilon", "inf"], "'inf' is not a finite number"),
        (["digits", "DIR", "--pad", "-1"], "-1 is not in the range 0<=x<=1000"),
        (["cifar10", "DIR", "--archive", "gone"], "Path 'gone' does not exist"),
        (["cifar10", "DIR", "--coarse"], "No such option"),
        (["whiten", "-o", "DIR"], "Missing argument 'TRAIN [OTHER]…'"),
        (["lmdb", "gone", "-o", "DIR"], "Path 'gone' does not exist"),
        (["lmdb", "."], "Missing option '-o'"),
        (["shuffle-labels", ".", "DIR", "--seed", "0", "--fraction", "nan"], "'nan' is not a"),
    ],
)
def test_wrong_usage_is_told_and_writes_nothing(tmp_path, arguments, words):
    result = run(*(str(tmp_path / "out") if word == "DIR" else word for word in arguments))
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_one_message(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b\x08\x00" + bytes(100))
    with pytest.raises(CaffesplitError) as caught:
        run("cifar10", tmp_path / "sets", "--archive", tmp_path / "a.tar.gz")
    assert str(caught.value).startswith(
        f"{tmp_path}/a.tar.gz: no tar archive (zlib error: Error -3 while decompressing data: "
    )
