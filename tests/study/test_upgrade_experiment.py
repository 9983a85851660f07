"""Upgrades of whole experiments: V0 or V1 nets, their solver, and the snapshots that stay."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from caffe_upgrade import Net, upgraded_text
from click.testing import CliRunner
from old_experiment import SOLVER, TEST_NET, TRAIN_NET, make, to_v1

from caffesplit.cli.main import cli
from caffesplit.errors import NetError, OutputError, SplitError
from caffesplit.experiment import load
from caffesplit.formats import caffemodel, prototxt, schema, snapshots
from caffesplit.formats.layers import LayerWeights
from caffesplit.net.upgrade import upgrade_net
from caffesplit.study.decide import decide
from caffesplit.study.upgrade_experiment import upgrade_experiment

V0_NET = 'layers { top: "d" layer { name: "d" type: "data" source: "data/x" batchsize: 1 } }\n'
DEPLOY = 'input: "data" input_dim: 1 input_dim: 1 input_dim: 8 input_dim: 8\n' + (
    'layers { name: "relu" type: RELU bottom: "data" top: "out" }\n'
)


def today(text: str) -> str:
    return str(upgrade_net(prototxt.parse(text)).result)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def snapshot(folder: Path, iteration: int = 20) -> None:
    caffemodel.write(folder / f"old_iter_{iteration}.caffemodel", [LayerWeights("a", "ReLU", ())])


def test_nets_are_upgraded_and_the_solver_names_them_and_a_place_for_snapshots(tmp_path):
    old = make(tmp_path / "old")
    (old / "deploy.prototxt").write_text(DEPLOY)
    snapshot(old / "snaps")
    before = files(old)
    upgrade_experiment(old, old / "new")

    assert contents(old / "new") == {
        "train.prototxt": today(TRAIN_NET),
        "test.prototxt": today(TEST_NET),
        "deploy.prototxt": today(DEPLOY),
        "solver.prototxt": SOLVER.replace('"old_train', '"new/train')
        .replace('"old_test', '"new/test')
        .replace('"snaps', '"new/snaps')
        .replace("solver_type: NESTEROV", 'type: "Nesterov"'),
    }
    assert before.items() <= files(old).items()
    new = load(old / "new")
    assert not any(each.net.legacy for each in new.nets)
    assert new.snapshots(load(old).snapshot_prefix) == load(old).snapshots()


def test_each_file_is_told_with_what_was_upgraded(tmp_path):
    old, out = make(tmp_path / "old"), tmp_path / "new"
    (old / "deploy.prototxt").write_text('layer { name: "a" type: "Input" top: "a" }')
    (old / "old_test.prototxt").write_text(today(TEST_NET))
    done = upgrade_experiment(old, out)

    assert [(each.path, each.source.name, each.kind, each.steps) for each in done] == [
        (
            out / "train.prototxt",
            "old_train.prototxt",
            "net",
            ("the transformation of data", "V1 → V2: 5 layers"),
        ),
        (out / "test.prototxt", "old_test.prototxt", "net", ()),
        (out / "deploy.prototxt", "deploy.prototxt", "net", ()),
        (
            out / "solver.prototxt",
            "old_solver.prototxt",
            "solver",
            ("solver_type", "train_net", "test_net"),
        ),
    ]


def test_outside_the_root_data_is_where_it_was_and_snapshots_are_not(tmp_path):
    old, out = make(tmp_path / "old"), tmp_path / "new"
    (old / "data/x").mkdir(parents=True)
    (old / "old_train.prototxt").write_text(V0_NET)
    snapshot(old / "snaps")
    upgrade_experiment(old, out)
    new = load(out)

    assert new.root == out
    assert new.net.layers[0].message.data_param.source == str(old / "data/x")
    assert new.snapshot_prefix == str(out / "snaps/old")


PREFIXES = {
    "beside the solver": ("old", "old"),
    "in a folder below": ("snaps/old", "snaps/old"),
    "all files of a folder": ("snaps/", "snaps/"),
    "all files of its own folder": ("./", "./"),
    "absolute": ("{old}/snaps/old", "snaps/old"),
    "elsewhere": ("../elsewhere/old", "old"),
    "elsewhere, absolute": ("{old}-elsewhere/snaps/old", "old"),
    "all files of a folder elsewhere": ("../elsewhere/snaps/", "snaps/"),
    "moved since": ("gone/snaps/old", "snaps/old"),
}
"""The solver's prefix before, and after as one sees it from the new folder."""


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("place", PREFIXES)
def test_new_snapshots_go_into_the_new_folder_to_the_place_they_had(
    place, inside, trained, tmp_path
):
    old = make(tmp_path / "old")
    out = old / "new" if inside else tmp_path / "new"
    before, after = (prefix.format(old=old) for prefix in PREFIXES[place])
    (old / "old_solver.prototxt").write_text(SOLVER.replace("snaps/old", before))
    if trained:
        prefix = str(old / after) if place == "moved since" else load(old, old).snapshot_prefix
        Path(prefix).parent.mkdir(parents=True, exist_ok=True)
        record = LayerWeights("a", "ReLU", ())
        caffemodel.write(Path(f"{prefix}_iter_20.caffemodel"), [record])
    elif place == "moved since":
        after = before  # Nothing tells that it is another folder's.
    kept = files(tmp_path)

    upgrade_experiment(old, out, old)

    written = load(out, old if inside else out)
    assert written.snapshot_prefix == os.path.join(  # noqa: PTH118 - a Path has no last "/"
        written.root, ("new/" + after).replace("new/./", "new/") if inside else after
    )
    assert Path(written.snapshot_folder).resolve().is_relative_to(out)
    assert not snapshots.files(written.snapshot_prefix)
    assert kept.items() <= files(tmp_path).items()


def test_nets_inside_the_solver_are_upgraded_in_place(tmp_path):
    old, out = make(tmp_path / "old"), tmp_path / "new"
    (old / "data/x").mkdir(parents=True)
    inside = SOLVER.replace('train_net: "old_train.prototxt"', f"train_net_param {{\n{V0_NET}}}")
    (old / "old_solver.prototxt").write_text(inside)
    *_, solver = upgrade_experiment(old, out)

    assert solver.steps == (
        *("solver_type", "V0 → V1: 1 layer of train_net_param"),
        *("V1 → V2: 1 layer of train_net_param", "test_net"),
    )
    moved = today(V0_NET).replace("data/x", str(old / "data/x"))
    assert (
        f"train_net_param {{\n{moved}}}  # Both lie beside.\n" in contents(out)["solver.prototxt"]
    )


def test_what_has_no_place_today_is_told_of_nets_in_files_and_inside(tmp_path):
    old = make(tmp_path / "old")
    odd = 'layers { layer { name: "a" type: "relu" pad: 1 } }'
    (old / "old_train.prototxt").write_text(odd)
    solver = SOLVER.replace('test_net: "old_test.prototxt"', f"test_net_param {{ {odd} }}")
    (old / "old_solver.prototxt").write_text(solver)
    done = upgrade_experiment(old, tmp_path / "new")

    found = {each.path.name: [finding.message for finding in each.findings] for each in done}
    message = "`pad` in a V0 layer of type relu: has no place today, left out"
    assert found == {"train.prototxt": [message], "solver.prototxt": [message]}


def test_all_is_written_or_nothing(tmp_path):
    old, out = make(tmp_path / "old"), tmp_path / "new"
    (old / "old_test.prototxt").write_text("layers { type: 99 }")
    with pytest.raises(NetError, match=r"old_test\.prototxt:1:10: "):
        upgrade_experiment(old, out)
    assert not out.exists()
    make(tmp_path / "other")
    upgrade_experiment(tmp_path / "other", out)
    with pytest.raises(OutputError, match="exists already"):
        upgrade_experiment(tmp_path / "other", out)
    upgrade_experiment(tmp_path / "other", out, force=True)


def test_an_experiment_is_upgraded_in_its_own_folder_where_the_names_are_free(tmp_path):
    old = make(tmp_path / "old")
    upgrade_experiment(old, old)
    assert not load(old).net.legacy
    with pytest.raises(OutputError, match="also an input"):
        upgrade_experiment(old, old, force=True)


def test_a_split_of_the_highest_entropy_asks_for_the_upgrade_once(tmp_path):
    old = make(tmp_path / "old")
    for iteration in (20, 40):
        blobs = tuple(np.full(shape, iteration, np.float32) for shape in [(8, 1, 3, 3), (8,)])
        conv1 = LayerWeights("conv1", "Convolution", blobs)
        caffemodel.write(old / f"snaps/old_iter_{iteration}.caffemodel", [conv1])
    with pytest.raises(SplitError) as caught:
        decide(load(old), (20, 40), 2)
    assert str(caught.value) == (
        f"{old}/old_train.prototxt: 0 layers that can be split: all are in the V1 "
        "format (`layers { … }`), expected 2, as asked for\n"
        "Upgrade the experiment first: `caffesplit upgrade EXP -o OUT`; "
        "a net alone: `caffesplit upgrade NET -o OUT`."
    )


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_from_an_old_experiment_to_a_trained_derived_one(caffe, digits_root):
    old = make(digits_root / "old")
    shutil.move(digits_root / "data", old / "data")
    new, derived = digits_root / "new", digits_root / "derived"
    run("train", old, "--caffe", caffe)
    for path in (old / "snaps").glob("*.caffemodel"):
        to_v1(path)
    kept = files(old / "snaps")
    with pytest.raises(SplitError, match="`caffesplit upgrade EXP -o OUT`"):
        run("split", old, "--window", "20:40", "--top", 1, "-o", derived)

    run("upgrade", old, "-o", new)
    for name in ("train", "test"):
        written = schema.read(prototxt.load(new / f"{name}.prototxt"), "NetParameter").message
        expected = upgraded_text(caffe, old / f"old_{name}.prototxt")
        expected.layer[0].data_param.source = f"{old}/{expected.layer[0].data_param.source}"
        assert Net.FromString(written.SerializeToString()) == expected

    run("check", new, "--weights", old / "snaps/old_iter_40.caffemodel")
    prefix = ("--snapshots", old / "snaps/old")
    assert "conv1" in run("tpm", new, "--window", "20:40", *prefix)
    run("split", new, "--window", "20:40", "--top", 1, "-o", derived, *prefix)
    run("train", new, "--caffe", caffe)
    assert [each.path.parent for each in load(new).snapshots()] == [new / "snaps"] * 2
    run("check", derived, "--weights", derived / "init.caffemodel")
    assert "40 iterations" in run("train", derived, "--caffe", caffe)
    assert len(load(derived).snapshots()) == 2
    assert files(old / "snaps") == kept


def test_a_root_folder_keeps_what_the_names_of_images_begin_with(tmp_path):
    """Caffe appends the names to it as they are."""
    old = tmp_path / "old"
    (old / "png").mkdir(parents=True)
    (old / "list.txt").touch()
    (old / "solver.prototxt").write_text('net: "net.prototxt" snapshot_prefix: "s"\n')
    for folder in ("png/", "png/p_"):
        data = f'source: "list.txt" batch_size: 1 root_folder: "{folder}"'
        layer = 'name: "data" type: "ImageData" top: "data" top: "label"'
        text = f"layer {{ {layer} image_data_param {{ {data} }} }}\n"
        (old / "net.prototxt").write_text(text)
        upgrade_experiment(old, tmp_path / "new", force=True)
        found = (tmp_path / "new/train_val.prototxt").read_text()
        assert f'root_folder: "{old}/{folder}"' in found
