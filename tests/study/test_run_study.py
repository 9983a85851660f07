"""Studies carried out with the real Caffe: killed, stopped, changed, failed, and gone on with."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time

import pytest
import study_helpers
from small_disk import grown, mounted
from study_helpers import caffesplit, copied, started, wait_for

from caffesplit.formats import trainlog

CHANGED = (
    "made from other inputs, expected seed1/residual1 of this study\n"
    "The study, or what it starts from, has changed: give another output, or --force to make anew "
    "what depends on the change.\n"
)

LONG = """
resume = "{resume}"
[bases.net]
zoo = "digits"
set = {{ max_iter = 4000, snapshot = 500, test_interval = 500, display = 10 }}
"""


@pytest.fixture(scope="module")
def unbroken(caffe, tmp_path_factory):
    """A study's file, and the folder of a run that nothing disturbed. Not to be changed."""
    folder = tmp_path_factory.mktemp("unbroken")
    study = study_helpers.study(folder, seeds=[1, 2])
    done = caffesplit("run", study, "-o", folder / "out", "--caffe", caffe)
    assert (done.returncode, done.stderr) == (0, "")
    return study, folder / "out"


def stages(out):
    return {str(path.parent.relative_to(out)): path for path in out.glob("seed*/*/stage.json")}


def states(out):
    return {name: json.loads(path.read_text()) for name, path in stages(out).items()}


def logs(out):
    return {path: path.stat().st_mtime_ns for path in sorted(out.glob("seed*/*/train.log"))}


def test_a_study_ends_in_a_table_curves_and_a_report(unbroken):
    _, out = unbroken
    table = (out / "table.md").read_text()
    assert table.startswith("Does it work?\n\nNet | Accuracy | Seeds | Difference | 95 % interval")
    assert [line.split(" | ")[0] for line in table.splitlines()[4:]] == [
        *("baseline", "residual1", "longer1"),
    ]
    values = json.loads((out / "table.json").read_text())["nets"]
    last = {}
    for name in stages(out):
        row = trainlog.read(out / name / "train.log").test[-1]
        last[name] = row.outputs["accuracy"]
    assert {
        f"seed{seed}/{net['name']}": value
        for net in values
        for seed, value in net["values"].items()
    } == last
    for name in ("curves.png", "generations.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "seed1" not in re.sub(r"\s", "", (out / "table.md").read_text())
    assert "longer1" in (out / "report.html").read_text()


def test_a_finished_study_is_left_alone_and_needs_no_caffe(unbroken):
    study, out = unbroken
    before = logs(out)
    begin = time.monotonic()
    done = caffesplit("run", study, "-o", out, "--caffe", "gone")
    assert done.stdout.startswith("6 stages, 0 of them to do\n\nNet")
    assert logs(out) == before
    assert time.monotonic() - begin < 20


def test_killed_at_three_random_moments_it_ends_with_the_same_table(unbroken, caffe, tmp_path):
    study, unharmed = unbroken
    out, seed = tmp_path / "out", random.randrange(10**6)
    moments = random.Random(seed)
    for kill in range(3):
        process = started("run", study, "-o", out, "--caffe", caffe)
        wait_for(out / f"seed1/{('baseline', 'baseline', 'residual1')[kill]}/stage.json")
        time.sleep(moments.uniform(0, 1))
        study_helpers.kill_all(process, out)
    done = caffesplit("run", study, "-o", out, "--caffe", caffe)
    assert done.returncode == 0, (seed, done.stderr)
    assert (out / "table.md").read_text() == (unharmed / "table.md").read_text(), seed


def test_it_goes_on_from_the_last_whole_snapshot(caffe, tmp_path):
    study, out = tmp_path / "long.toml", tmp_path / "out"
    study.write_text(LONG.format(resume="snapshot"))
    process = started("run", study, "-o", out, "--caffe", caffe)
    net = out / "seed1/net"
    wait_for(net / "digits_iter_1000.solverstate")
    study_helpers.kill_all(process, out)
    found = {int(re.search(r"\d+", path.name)[0]): path for path in net.glob("*.solverstate")}
    last = max(found)
    os.truncate(found[last], found[last].stat().st_size // 2)

    done = caffesplit("run", study, "-o", out, "--caffe", caffe)

    assert done.returncode == 0, done.stderr
    assert states(out)["seed1/net"]["resumed"] == [last - 500]
    assert (
        f"gone on with from a snapshot: seed1/net (from {last - 500})."
        in (out / "table.md").read_text()
    )
    assert not (net / "train.log.1").exists()
    kinds = [event.kind for event in trainlog.read(net / "train.log").events]
    assert "resume" in kinds
    assert kinds[-1] == "done"


def test_ctrl_c_takes_a_snapshot_and_the_same_command_goes_on(caffe, tmp_path):
    study, out = tmp_path / "long.toml", tmp_path / "out"
    study.write_text(LONG.format(resume="snapshot"))
    process = started("run", study, "-o", out, "--caffe", caffe)
    wait_for(out / "seed1/net/digits_iter_500.solverstate")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert errors.decode().endswith(
        "stopped; the same command goes on here\ncaffesplit: interrupted\n"
    )
    state = states(out)["seed1/net"]
    assert not state["finished"]
    done = caffesplit("run", study, "-o", out, "--caffe", caffe, "--resume")
    assert done.returncode == 0, done.stderr
    (begun,) = states(out)["seed1/net"]["resumed"]
    assert 500 <= begun < 4000
    assert states(out)["seed1/net"]["finished"]


def test_a_stage_that_was_finished_but_not_noted_is_not_trained_again(unbroken, tmp_path):
    study, unharmed = unbroken
    out = copied(unharmed, tmp_path / "out")
    path = out / "seed1/longer1/stage.json"
    path.write_text(path.read_text().replace('"finished": true', '"finished": false'))
    before = logs(out)
    done = caffesplit("run", study, "-o", out)
    assert "6 stages, 1 of them to do" in done.stdout
    assert logs(out) == before
    assert states(out)["seed1/longer1"]["finished"]


def test_a_damaged_state_is_told(unbroken, tmp_path):
    study, unharmed = unbroken
    out = copied(unharmed, tmp_path / "out")
    (out / "seed1/longer1/stage.json").write_text("{")
    done = caffesplit("run", study, "-o", out)
    assert (done.returncode, done.stderr) == (
        2,
        f"caffesplit: {out}/seed1/longer1/stage.json: no state of a stage, expected what "
        "`caffesplit run` wrote there\nRemove the folder; it will be made and trained anew.\n",
    )


def test_a_changed_study_is_refused_and_with_force_made_anew_where_it_changed(
    unbroken, caffe, tmp_path
):
    study, unharmed = unbroken
    out, other = copied(unharmed, tmp_path / "out"), tmp_path / "other.toml"
    other.write_text(study.read_text().replace("top = 1", 'top = 1\nmethod = "extension"'))
    before, text = logs(out), (out / "study.toml").read_text()

    refused = caffesplit("run", other, "-o", out, "--caffe", caffe)
    assert (refused.returncode, refused.stderr) == (
        2,
        f"caffesplit: {out}/seed1/residual1: {CHANGED}",
    )
    assert (logs(out), (out / "study.toml").read_text()) == (before, text)
    shown = caffesplit("run", other, "-o", out, "--dry-run").stdout
    assert re.findall(r"^(\S+) +changed ", shown, re.MULTILINE) == [
        "seed1/residual1",
        "seed2/residual1",
    ]

    forced = caffesplit("run", other, "-o", out, "--caffe", caffe, "--force")
    assert forced.returncode == 0, forced.stderr
    after = logs(out)
    assert {path.parent.name for path in after if after[path] != before[path]} == {"residual1"}
    record = json.loads((out / "seed1/residual1/split.json").read_text())
    assert record["plan"]["layers"][0]["method"] == "extension"


def test_a_study_may_grow(unbroken, caffe, tmp_path):
    _, unharmed = unbroken
    out = copied(unharmed, tmp_path / "out")
    before = logs(out)
    more = study_helpers.study(tmp_path, seeds=[1, 2], controls=["longer", "random"])
    done = caffesplit("run", more, "-o", out, "--caffe", caffe)
    assert "8 stages, 2 of them to do" in done.stdout
    assert {path: logs(out)[path] for path in before} == before


def test_a_folder_that_was_moved_goes_on(unbroken, caffe, tmp_path):
    study, unharmed = unbroken
    out = copied(unharmed, tmp_path / "moved/out")
    done = caffesplit("run", study, "-o", out, "--caffe", caffe)
    assert "6 stages, 0 of them to do" in done.stdout
    assert (out / "table.md").read_text() == (unharmed / "table.md").read_text()


def test_a_diverging_training_fails_alone(unbroken, caffe, tmp_path):
    _, unharmed = unbroken
    out, study = copied(unharmed, tmp_path / "out"), tmp_path / "bad.toml"
    bad = "\n[chains.bad]\nwindow = [50, 150]\ntop = 1\ngenerations = 2\ncontrols = []\n"
    text = study_helpers.study(tmp_path).read_text()
    study.write_text(f"{text}{bad}set = {{ base_lr = 1e9 }}\n")

    done = caffesplit("run", study, "-o", out, "--caffe", caffe)

    assert done.returncode == 1
    assert "training diverged" in done.stderr
    assert done.stderr.endswith("missing: 2 of 5 stages; the same command tries again\n")
    table = (out / "table.md").read_text()
    assert "\nbad1 | - | 0 | " in table
    assert re.search(r"\nFailed: seed1/bad1: training diverged: the loss is .*\n", table)
    assert "\nFailed: seed1/bad2: left out, since it needs one that failed\n" in table
    rows = {row.split(" | ")[0]: row.split(" | ")[1] for row in table.splitlines() if " | " in row}
    assert all(float(rows[name]) > 0.5 for name in ("baseline", "residual1", "longer1"))


def test_a_metric_that_no_test_has_is_told_with_those_there_are(unbroken, tmp_path):
    study, unharmed = unbroken
    out, other = copied(unharmed, tmp_path / "out"), tmp_path / "other.toml"
    other.write_text(f'metric = "acuracy"\n{study.read_text()}')
    done = caffesplit("run", other, "-o", out)
    assert (done.returncode, done.stderr) == (
        2,
        'caffesplit: no test output is named "acuracy", of test net 0, expected one of accuracy, '
        "loss\nCorrect `metric` and `test_net` in the study file; nothing is trained again for "
        "that.\n",
    )


def test_of_losses_less_is_better(unbroken, tmp_path):
    study, unharmed = unbroken
    out, other = copied(unharmed, tmp_path / "out"), tmp_path / "other.toml"
    other.write_text(f'metric = "Loss"\n{study.read_text()}')
    done = caffesplit("run", other, "-o", out)
    assert done.returncode == 0, done.stderr
    assert (out / "table.md").read_text().splitlines()[2].startswith("Net | Loss | ")


def contents(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock.mdb"  # Which LMDB writes for every reader.
    }


def test_a_base_that_is_trained_already_is_read_where_it_is_and_never_written_to(caffe, tmp_path):
    folder = tmp_path / "elsewhere"
    base = study_helpers.trained_base(folder, caffe)
    before = contents(folder)
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(
        'seeds = [1, 2]\n[bases.net]\nexperiment = "elsewhere/baseline"\ntrained = true\n'
        "[chains.split]\nwindow = [50, 150]\ntop = 1\nset = { max_iter = 60 }\n"
        "[measure]\nwindows = [[50, 150]]\n"
    )
    done = caffesplit("run", study, "-o", out, "--caffe", caffe)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == before
    assert sorted(states(out)) == [
        *("seed1/longer1", "seed1/split1", "seed2/longer1", "seed2/split1"),
    ]
    nets = json.loads((out / "table.json").read_text())["nets"]
    assert [len(net["values"]) for net in nets] == [1, 2, 2]
    assert "net | conv1 | 50:150 | " in (out / "tpm.md").read_text()
    assert (out / "tpm.png").read_bytes().startswith(b"\x89PNG")

    (base / "digits_iter_150.caffemodel").write_bytes(
        (base / "digits_iter_100.caffemodel").read_bytes()
    )
    again = caffesplit("run", study, "-o", out, "--caffe", caffe)
    assert again.returncode == 2
    assert "made from other inputs" in again.stderr


def test_shuffled_labels_and_lsuv_are_what_a_base_learns_and_starts_from(
    python_caffe, caffe, tmp_path
):
    study, out = tmp_path / "study.toml", tmp_path / "out"
    study.write_text(
        '[bases.true]\nzoo = "digits"\nset = { max_iter = 300, snapshot = 100 }\n'
        '[bases.shuffled]\nzoo = "digits"\nlsuv = true\nshuffle_labels = 1.0\n'
        "set = { max_iter = 300, snapshot = 100 }\n"
    )
    done = caffesplit("run", study, "-o", out, "--caffe", caffe)
    assert done.returncode == 0, done.stderr
    values = {
        net["name"]: net["values"]["1"]
        for net in json.loads((out / "table.json").read_text())["nets"]
    }
    assert values["shuffled"] < 0.3 < values["true"]
    assert (out / "seed1/shuffled/init.caffemodel").exists()
    net = (out / "seed1/shuffled/train_val.prototxt").read_text()
    assert re.search('source: "data/shuffled-1-[0-9a-f]{8}/digits_train_lmdb"', net)
    assert 'source: "data/digits/digits_test_lmdb"' in net


def test_on_a_full_disk_it_fails_and_with_room_goes_on(caffe, tmp_path):
    study = study_helpers.study(tmp_path)
    with mounted(tmp_path / "disk", "2M") as disk:
        done = caffesplit("run", study, "-o", disk / "out", "--caffe", caffe)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        grown(disk, "40M")
        again = caffesplit("run", study, "-o", disk / "out", "--caffe", caffe)
        assert again.returncode == 0, again.stderr
