"""What a training starts from, and what it would replace, is looked at before Caffe starts."""

from __future__ import annotations

import fcntl
import re
from pathlib import Path

import numpy as np
import pytest

from caffesplit import experiment
from caffesplit.engines import caffe_binary, job, start
from caffesplit.engines.job import Job
from caffesplit.errors import CaffesplitError, EngineError, TrainingError, WeightsError
from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.net.solver import State


@pytest.fixture
def base(digits_root) -> Path:
    return digits_root / "baseline"


def prepared(base: Path, **options: Path | bool) -> Job:
    return job.prepare(experiment.load(base, base.parent), **options)


def refusal(base: Path, **options: Path | bool) -> CaffesplitError:
    with pytest.raises(CaffesplitError) as caught:
        prepared(base, **options)
    return caught.value


def weights_of(path: Path, *names: str) -> Path:
    blob = np.zeros((1, 1), np.float32)
    caffemodel.write(path, [LayerWeights(name, "InnerProduct", (blob,)) for name in names])
    return path


def state_of(path: Path, learned_net: str, iteration: int = 50) -> Path:
    """A solver state: iter is field 1, learned_net field 2."""
    name = learned_net.encode()
    path.write_bytes(bytes([0x08, iteration, 0x12, len(name)]) + name)
    return path


def program(folder: Path, *lines: str) -> Path:
    script = folder / "caffe"
    script.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    script.chmod(0o755)
    return script


LOSS = "echo 'I1231 23:59:59.000001 7 solver.cpp:239] Iteration 0, loss = 2.3'"


# Snapshots of an earlier run


@pytest.fixture
def earlier(base) -> list[Path]:
    """What an earlier run has left, with files around it that are none of its own."""
    for name in ("digits2_iter_50.caffemodel", "digits_iter_50.caffemodel.png", "digits_iter_x"):
        (base / name).write_text("not a snapshot of this prefix")
    found = [weights_of(base / f"digits_iter_{k}.caffemodel", "ip") for k in (50, 80)]
    found += [
        state_of(base / f"digits_iter_{k}.solverstate", f"baseline/digits_iter_{k}.caffemodel")
        for k in (50, 80)
    ]
    return found


def test_a_new_run_over_an_earlier_ones_snapshots_is_refused_with_both_remedies(base, earlier):
    assert str(refusal(base)) == (
        f"{base}/digits: snapshots of an earlier run are here (50, 80), expected none, so that "
        "the snapshots of two runs do not mix\n"
        f"Go on from the last: --snapshot {base}/digits_iter_80.solverstate, or give --force to "
        "replace them, or the solver another snapshot_prefix."
    )


def test_without_a_solver_state_to_go_on_from_force_is_the_only_remedy(base, earlier):
    for path in earlier[2:]:
        path.unlink()
    assert str(refusal(base)).splitlines()[1] == (
        "Give --force to replace them, or the solver another snapshot_prefix."
    )


def test_a_run_that_has_ended_leaves_nothing_to_go_on_from(base, earlier):
    state_of(base / "digits_iter_100.solverstate", "baseline/digits_iter_80.caffemodel")
    assert str(refusal(base)).splitlines()[1].startswith("Give --force to replace them")


def test_with_force_the_earlier_runs_files_go_when_caffe_starts_and_no_others(
    base, earlier, tmp_path
):
    others = set(base.iterdir()) - set(earlier)

    planned = prepared(base, force=True)
    assert all(path.exists() for path in earlier)
    caffe_binary.train(planned, program(tmp_path, LOSS))

    assert set(base.iterdir()) == others | {base / "train.log"}


def test_a_run_that_goes_on_from_the_last_snapshot_keeps_them(base, earlier, tmp_path):
    state_of(earlier[3], "baseline/digits_iter_80.caffemodel", iteration=80)
    planned = prepared(base, snapshot=earlier[3])
    caffe_binary.train(planned, program(tmp_path, LOSS))
    assert all(path.exists() for path in earlier)


def test_a_run_that_goes_on_from_an_earlier_snapshot_replaces_the_later_ones_with_force_alone(
    base, earlier, tmp_path
):
    weights_of(base / "digits_iter_100.caffemodel.h5", "ip")
    assert str(refusal(base, snapshot=earlier[2])) == (
        f"{base}/digits: snapshots later than its start are here (80, 100), expected none, so "
        "that the snapshots of two runs do not mix\n"
        f"Go on from the last: --snapshot {base}/digits_iter_80.solverstate, or give --force to "
        "replace them, or the solver another snapshot_prefix."
    )
    planned = prepared(base, snapshot=earlier[2], force=True)
    assert all(path.exists() for path in earlier)
    caffe_binary.train(planned, program(tmp_path, LOSS))
    left = sorted(path.name for path in base.glob("digits_iter_*[lem5]"))
    assert left == ["digits_iter_50.caffemodel", "digits_iter_50.solverstate"]


def test_a_start_that_the_run_would_replace_is_refused_even_with_force(base, earlier):
    error = refusal(base, weights=earlier[0], force=True)
    assert str(error) == (
        f"{base}/digits: the run starts from digits_iter_50.caffemodel, a snapshot that it "
        "replaces, expected a start that stays\n"
        "Copy it to another name first, or give the solver another snapshot_prefix."
    )


def test_the_weights_of_an_initial_solver_state_are_a_start_too(base, earlier):
    earlier[2].rename(base / "init.solverstate")
    error = refusal(base, force=True)
    assert error.found.startswith("the run starts from digits_iter_50.caffemodel")


def test_a_second_training_with_the_same_solver_is_refused_while_one_runs(base, tmp_path):
    planned = prepared(base)
    with (base / "solver.prototxt").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(EngineError, match="this solver is being trained with already"):
            caffe_binary.train(planned, program(tmp_path, LOSS))
    assert not (base / "train.log").exists()
    caffe_binary.train(planned, program(tmp_path, LOSS))


# Weights and solver states


@pytest.mark.parametrize("content", [b"", b"some text\n", b"\x0a\x05dig"])
def test_weights_that_caffe_would_silently_take_for_none_are_refused(base, tmp_path, content):
    path = tmp_path / "start.caffemodel"
    path.write_bytes(content)
    assert isinstance(refusal(base, weights=path), WeightsError)


def test_weights_of_another_net_are_refused(base, tmp_path):
    path = weights_of(tmp_path / "other.caffemodel", "fc6", "fc7")
    assert str(refusal(base, weights=path)) == (
        f"{path}: the weights have no layer of the net, expected those of a net with layers as "
        f"in {base}/train_val.prototxt\nWeights and net must belong together."
    )


def test_initial_weights_in_the_folder_are_looked_into_as_well(base):
    (base / "init.caffemodel").write_bytes(b"nothing")
    assert isinstance(refusal(base), WeightsError)


def test_weights_that_share_a_layer_with_the_net_are_taken(base, tmp_path):
    path = weights_of(tmp_path / "start.caffemodel", "ip", "another")
    assert prepared(base, weights=path).weights == path


def test_layers_without_weights_in_the_file_are_named_unless_others_share_theirs(tmp_path):
    shared = 'param { name: "w" } param { name: "b" }'
    net = tmp_path / "net.prototxt"
    net.write_text(
        'layer { name: "data" type: "Input" top: "data" }\n'
        + "".join(
            f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}" {param}\n'
            "  inner_product_param { num_output: 1 } }\n"
            for name, param in [("a", shared), ("b", shared), ("c", ""), ("d", ""), ("e", "")]
        )
        + 'layer { name: "f" type: "ReLU" bottom: "e" top: "e" }\n'
        + 'layer { name: "g" type: "PReLU" bottom: "e" top: "e" include { phase: TRAIN } }\n'
    )
    weights = weights_of(tmp_path / "w.caffemodel", "a", "d", "another")
    for phase, names in (("TEST", ("c", "e")), ("TRAIN", ("c", "e", "g"))):
        layers = start.layers_of(net, State(phase))
        assert start.unfilled(layers, net, weights) == names


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (1, "no weights for: a0, which keeps its initial values"),
        (2, "no weights for: a0, a1, which keep their initial values"),
        (
            13,
            "no weights for: a0, a1, a2, a3, a4, a5, a6, a7, a8, a9 and 3 more, which keep their "
            "initial values",
        ),
    ],
)
def test_layers_that_keep_their_initial_values_are_told_in_a_line(count, line):
    assert start.unfilled_line([f"a{number}" for number in range(count)]) == line


def test_a_caffemodel_is_no_snapshot_to_go_on_from(base, earlier):
    assert str(refusal(base, snapshot=earlier[0])) == (
        f"{earlier[0]}: weights in place of a snapshot, expected a .solverstate\n"
        "Give the .solverstate of the same iteration to go on from it, or --weights to start "
        "from iteration 0."
    )


def test_a_snapshot_that_is_no_solver_state_is_refused(base, tmp_path):
    path = tmp_path / "a.solverstate"
    path.write_text("text")
    assert isinstance(refusal(base, snapshot=path), WeightsError)


def test_a_snapshot_whose_weights_are_gone_names_where_caffe_looks_for_them(base, tmp_path):
    path = state_of(tmp_path / "a.solverstate", "old/a_iter_50.caffemodel")
    assert str(refusal(base, snapshot=path)) == (
        f'{path}: its weights "old/a_iter_50.caffemodel" do not exist, expected a file at '
        f"{base.parent}/old/a_iter_50.caffemodel\n"
        "Bring them there, or start from weights that you have: --weights FILE."
    )


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ('lr_policy: "fixd"', "lr_policy 'fixd', expected one of fixed, step, exp, inv, multistep, "
         "poly, sigmoid"),
        ("# no policy", "no lr_policy, expected one of fixed, step, exp, inv, multistep, poly, "
         "sigmoid"),
    ],
)  # fmt: skip
def test_a_solver_that_caffe_would_not_take_is_refused_before_it_runs(base, written, found):
    solver = base / "solver.prototxt"
    solver.write_text(solver.read_text().replace('lr_policy: "fixed"', written))
    assert refusal(base).found == found
    assert refusal(base).remedy.endswith("`caffesplit check` shows all that is wrong.")


# What is no training


def test_a_program_that_trains_nothing_is_no_success(base, tmp_path):
    script = program(tmp_path, "exit 0")
    with pytest.raises(TrainingError) as caught:
        caffe_binary.train(prepared(base), script)
    assert str(caught.value) == (
        f"{base}/train.log: Caffe ended before any training (exit status 0); its last words:\n"
        f"    (it said nothing; this is {script})"
    )


def test_a_run_that_displays_no_loss_is_a_training(base, tmp_path):
    done = "echo 'I1231 23:59:59.000001 7 caffe.cpp:259] Optimization Done.'"
    assert caffe_binary.train(prepared(base), program(tmp_path, done)).loss is None


def test_an_absolute_source_that_is_missing_starts_from_no_root(base):
    net = base / "train_val.prototxt"
    net.write_text(re.sub('"data/digits_train', '"/nowhere/digits_train', net.read_text()))
    assert str(refusal(base)).splitlines()[-1] == "Bring it there, or correct the path."


def test_a_source_that_was_moved_with_its_folder_is_pointed_out(base):
    net = base / "train_val.prototxt"
    net.write_text(re.sub('"data/digits_train', '"/home/old/data/digits_train', net.read_text()))
    moved = base.parent / "data/digits_train_lmdb"
    assert str(refusal(base)).splitlines()[-1] == (
        f"There is {moved}, though: if that is it, correct the path."
    )


def test_a_snapshot_that_was_copied_with_its_weights_is_not_taken_with_other_ones(base, tmp_path):
    """Its own word leads to another run's, of the same name."""
    copied = tmp_path / "copied"
    copied.mkdir()
    weights_of(base / "digits_iter_50.caffemodel", "ip")
    beside = weights_of(copied / "digits_iter_50.caffemodel", "ip", "conv1")
    state = state_of(copied / "digits_iter_50.solverstate", "baseline/digits_iter_50.caffemodel")
    recorded = base.resolve() / "digits_iter_50.caffemodel"
    assert str(refusal(base, snapshot=state)) == (
        f"{state}: its weights are {recorded} by its own word, and others of that name lie beside "
        "it, expected one and the same file\n"
        f"If those beside it are meant, put them there; else give {beside} another name."
    )
    recorded.unlink()
    assert str(refusal(base, snapshot=state)).endswith(
        f"\nThey may be those beside it: cp {beside} {recorded}"
    )


def test_weights_that_the_solver_names_are_looked_at_as_any_start(base, earlier):
    solver = base / "solver.prototxt"
    text = solver.read_text()
    solver.write_text(f'{text}weights: "baseline/digits_iter_50.caffemodel"\n')
    assert "the run starts from digits_iter_50.caffemodel, a snapshot that it replaces" in str(
        refusal(base, force=True)
    )
    solver.write_text(f'{text}weights: "nope.caffemodel"\n')
    assert str(refusal(base, force=True)) == (
        f"{base.parent.resolve()}/nope.caffemodel: no such file, expected the weights that the "
        f"solver starts from\nBring them there, or correct `weights` in {solver}."
    )


def test_a_way_on_is_no_half_written_solver_state(base, earlier, tmp_path):
    *_, first, last = earlier
    last.write_bytes(last.read_bytes()[:-1])
    said = "".join(
        f"echo 'I0101 00:00:00.000001 7 solver.cpp:464] Snapshotting to binary proto file "
        f"baseline/digits_iter_{k}.caffemodel'\n"
        for k in (50, 80)
    )
    script = program(tmp_path, f"{said}exit 1")
    with pytest.raises(TrainingError) as caught:
        caffe_binary.train(prepared(base, force=True), script)
    assert str(caught.value).endswith(f"goes on from its last snapshot with --snapshot {first}")
