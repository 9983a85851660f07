"""Reading experiments for a report: every part on its own, every gap with its reason."""

from __future__ import annotations

import json
import shutil

import pytest
import report_tree
import small_experiment

from caffesplit.errors import LogError, NetError
from caffesplit.formats import caffemodel
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.report.page_settings import settings
from caffesplit.report.page_summary import lineages, summary
from caffesplit.report.page_warnings import warnings
from caffesplit.study.report import read


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return report_tree.make(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def tree(untouched, tmp_path):
    return shutil.copytree(untouched, tmp_path / "exp")


def by_name(report):
    return {subject.name: subject for subject in report.subjects}


def test_a_folder_of_experiments_is_read_in_generation_order(untouched):
    names = [subject.name for subject in read([untouched]).subjects]
    assert names == ["base", "longer1", "random1", "split1", "folded"]


def test_records_tell_what_each_net_is(untouched):
    found = lineages(read([untouched]).subjects)
    assert {name: (one.kind, one.generation) for name, one in found.items()} == {
        "base": ("baseline", 0),
        "split1": ("split", 1),
        "longer1": ("trained on", 1),
        "random1": ("random split", 1),
        "folded": ("folded", 0),
    }


def test_records_that_name_each_other_are_read(tree):
    for name, base in (("split1", "random1"), ("random1", "split1")):
        path = tree / name / "split.json"
        record = json.loads(path.read_text())
        record["inputs"][0]["path"] = f"../{base}/solver.prototxt"
        path.write_text(json.dumps(record))
    assert len(summary(read([tree]))) == 4


def test_windows_are_those_of_the_splits_or_those_asked_for(untouched):
    base = by_name(read([untouched]))["base"]
    assert [scored.window for scored in base.scores] == [report_tree.WINDOW]
    base = by_name(read([untouched], windows=[(200, 300), (5000, 6000)]))["base"]
    assert [scored.window for scored in base.scores] == [(200, 300)]


def test_without_splits_the_window_is_all_of_the_training(untouched):
    (base,) = read([untouched / "base"]).subjects
    assert [scored.window for scored in base.scores] == [(100, 400)]


def test_a_log_alone_is_an_experiment(untouched):
    (subject,) = read([untouched / "base/train.log"]).subjects
    assert (subject.name, subject.net, len(subject.log.train)) == ("base", None, 21)


@pytest.mark.parametrize(
    ("file", "part", "reason"),
    [
        ("split1/solver.prototxt", "net", "solver.prototxt:1"),
        ("split1/train.log", "log", "no line of training or testing"),
        ("split1/split.json", "split", "text that is not JSON"),
        ("folded/fold.json", "fold", "no record of a fold"),
        ("base/snap_iter_400.caffemodel", "snapshots", "snap_iter_400.caffemodel"),
    ],
)
def test_a_damaged_part_is_left_out_with_its_reason_and_a_warning(tree, file, part, reason):
    (tree / file).write_text("{{ nothing")
    name = file.partition("/")[0]
    report = read([tree])
    subject = by_name(report)[name]
    assert reason in subject.gaps[part]
    assert part in subject.damaged
    assert (name, "unreadable") in {(w.subject.name, w.kind) for w in warnings(report.subjects)}


@pytest.mark.parametrize(
    "record", ["[]", '{"plan": 3}', '{"folded": [3]}', '{"folded": [], "left_alone": 1}', "1e999"]
)
def test_records_of_any_json_are_no_crash(tree, record):
    (tree / "split1/split.json").write_text(record)
    (tree / "folded/fold.json").write_text(record)
    assert len(read([tree]).subjects) == 5


def test_a_log_beside_experiments_does_not_hide_them(tree):
    shutil.copy(tree / "base/train.log", tree / "all.log")
    assert len(read([tree]).subjects) == 5


def test_an_experiment_that_is_named_twice_is_read_once(untouched):
    twice = [untouched / "base", untouched / "base/../base", untouched]
    assert len(read(twice).subjects) == 5


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(NetError, match="no such file or folder"):
        read([tmp_path / "none"])
    with pytest.raises(NetError, match="no experiment in this folder or below it"):
        read([tmp_path])


def test_a_metric_that_was_asked_for_must_exist(untouched):
    with pytest.raises(LogError, match='no test output is named "top5", expected one of accuracy'):
        read([untouched], metric="top5")
    rows = summary(read([untouched], metric="LOSS"))
    assert {row.result.metric for row in rows} == {"loss"}


def kinds(subjects):
    return [(warning.subject.name, warning.kind) for warning in warnings(subjects)]


def test_a_log_without_a_last_word_is_unfinished(tree):
    (tree / "longer1/train.log").write_text(report_tree.log_text(0.7, end=""))
    assert ("longer1", "unfinished") in kinds(read([tree]).subjects)


def test_a_layer_that_is_frozen_on_purpose_has_no_warning(tree):
    assert ("base", "dead kernels") in kinds(read([tree]).subjects)
    net = tree / "base/net.prototxt"
    net.write_text(
        net.read_text().replace("convolution_param {", "param { lr_mult: 0 } convolution_param {")
    )
    assert kinds(read([tree / "base"]).subjects) == []


def test_kernels_of_zeros_have_a_warning(tree):
    zeros = [
        LayerWeights(layer.name, layer.type, tuple(0 * blob for blob in layer.blobs))
        for layer in small_experiment.weights(400)
    ]
    (tree / "base/snap_iter_400.caffemodel").unlink()
    caffemodel.write(tree / "base/snap_iter_400.caffemodel", zeros)
    texts = [each.text for each in warnings(read([tree / "base"]).subjects)]
    assert "conv1: 6 all zero in the last snapshot" in texts


@pytest.mark.parametrize(
    ("end", "kind", "text"),
    [
        ("Optimization stopped early.", "unfinished", "it was stopped at iteration 400 of 1,000"),
        ("Check failed: error == cudaSuccess", "unfinished", "the log ends at iteration 400 of"),
    ],
)
def test_how_a_run_ended_is_told(tree, end, kind, text):
    (tree / "base/train.log").write_text(report_tree.log_text(0.5, end=end))
    found = [each for each in warnings(read([tree / "base"]).subjects) if each.kind == kind]
    assert [each.text.startswith(text) for each in found] == [True]


def test_a_run_that_diverged_or_was_resumed_has_a_warning(tree):
    once = report_tree.log_text(0.7, end="")
    (tree / "longer1/train.log").write_text(once + report_tree.log_text(0.7))
    (tree / "random1/train.log").write_text(report_tree.log_text(0.7, loss=float("nan")))
    assert {("longer1", "resumed"), ("random1", "diverged")} <= set(kinds(read([tree]).subjects))


@pytest.mark.parametrize(
    "end", ["Optimization stopped early.", "Check failed: error == cudaSuccess"]
)
def test_how_a_run_ended_that_was_resumed_is_of_no_interest(tree, end):
    text = report_tree.log_text(0.7, end="")
    last = text.splitlines()[-1].partition(" 7 ")[0]
    ended = f"{text}F{last[1:]} 7 solver.cpp:1] {end}\n{report_tree.log_text(0.7)}"
    (tree / "longer1/train.log").write_text(ended)
    assert ("longer1", "resumed") in (found := kinds(read([tree]).subjects))
    assert not {("longer1", "unfinished"), ("longer1", "crashed")} & set(found)


def test_a_snapshot_that_is_missing_among_others_has_a_warning(tree):
    solver = tree / "base/solver.prototxt"
    solver.write_text(solver.read_text() + "snapshot: 100\n")
    (tree / "base/snap_iter_300.caffemodel").unlink()
    found = [each for each in warnings(read([tree]).subjects) if each.kind == "snapshots missing"]
    texts = {each.subject.name: each.text for each in found}
    assert texts["base"] == "none at 300; TPM skips them"
    assert texts["longer1"] == (
        f"there are no {tree}/longer1/snap_iter_N.caffemodel: no TPM, no norms"
    )


def test_settings_are_sorted_by_whether_all_agree(tree):
    solver = tree / "split1/solver.prototxt"
    solver.write_text(solver.read_text().replace("base_lr: 0.01", "base_lr: 1e-3\nmomentum: 0.9"))
    found = settings(read([tree]).subjects)
    assert found.fields == ("base_lr", "momentum")
    assert ("stepvalue", "10, 20") in found.shared
    values = {subject.name: row for subject, row in found.rows}
    assert [(value.text, value.default, value.differs) for value in values["split1"]] == [
        ("0.001", False, True),
        ("0.9", False, True),
    ]
    assert [(value.text, value.default) for value in values["base"]] == [
        ("0.01", False),
        ("0.0", True),
    ]


def test_of_several_controls_the_mean_counts(tree):
    shutil.copytree(tree / "random1", tree / "random1b")
    (tree / "random1b/train.log").write_text(report_tree.log_text(0.65))
    (row,) = [row for row in summary(read([tree])) if row.subject.name == "split1"]
    assert row.over_random == pytest.approx(0.8 - 0.7)
    assert row.leads
