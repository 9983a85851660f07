"""Studies on Ray: on this machine, and on two nodes of which one dies."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import study_helpers
from study_helpers import caffesplit, processes, started, wait_for, wait_for_no

RAY = "ray/core/src/ray"  # In the paths of all that Ray starts.


@pytest.fixture(autouse=True)
def _nothing_stays():
    """What Ray starts ends with the study, and with the test."""
    yield
    wait_for_no(RAY, seconds=30)


@pytest.fixture(scope="module")
def unbroken(caffe, tmp_path_factory):
    """A study's file, and the table of a run of one stage after the other."""
    folder = tmp_path_factory.mktemp("unbroken")
    study = study_helpers.study(folder, seeds=[1, 2], max_iter=1200)
    study.write_text(study.read_text().replace("top = 1", "top = 1\nset = { max_iter = 150 }"))
    done = caffesplit("run", study, "-o", folder / "out", "--caffe", caffe)
    assert done.returncode == 0, done.stderr
    return study, (folder / "out/table.md").read_text()


def test_it_ends_with_the_table_of_one_stage_after_the_other(unbroken, caffe, tmp_path):
    study, table = unbroken
    done = caffesplit(
        *("run", study, "-o", "out", "--caffe", caffe, "--cluster", "local"), cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out/table.md").read_text() == table


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 2})
    yield made
    made.shutdown()


def children(word):
    """The Caffe processes that train below a folder, and the processes above each."""
    found = {}
    for pid in processes(word):
        above, parent = [], pid
        while parent > 1:
            stat = Path(f"/proc/{parent}/stat").read_text()
            parent = int(stat.rpartition(")")[2].split()[1])
            above.append(parent)
        found[pid] = above
    return found


def test_when_a_node_dies_its_stages_begin_again_on_another(unbroken, caffe, tmp_path, cluster):
    study, table = unbroken
    out = tmp_path / "out"
    node = cluster.add_node(num_cpus=1)
    command = ("run", study, "-o", out, "--caffe", caffe, "--cluster", cluster.address)
    process = started(*command)
    raylet = node.all_processes["raylet"][0].process.pid
    for seed in (1, 2):
        wait_for(out / f"seed{seed}/baseline/digits_iter_100.caffemodel")
    there = [pid for pid, above in children(f"{out}/seed").items() if raylet in above]
    assert there, "no stage is on the second node"

    cluster.remove_node(node, allow_graceful=False)

    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, b"")
    assert (out / "table.md").read_text() == table
    logs = sorted(path.name for path in out.glob("seed*/baseline/train.log*"))
    assert logs == ["train.log", "train.log", "train.log.1"]


def test_a_caffe_whose_worker_is_killed_writes_no_further_snapshot(caffe, tmp_path):
    study, out = tmp_path / "long.toml", tmp_path / "out"
    study.write_text(
        '[bases.net]\nzoo = "digits"\nset = { max_iter = 100000, snapshot = 100, display = 20 }\n'
    )
    process = started("run", study, "-o", out, "--caffe", caffe)
    wait_for(out / "seed1/net/digits_iter_300.solverstate")
    assert len(processes(f"{out}/seed")) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    # It announces each snapshot before it writes it, and there is nobody left who listens.
    wait_for_no(f"{out}/seed", seconds=5)
    announced = (out / "seed1/net/train.log").read_text().count("Snapshotting solver state")
    assert len(list((out / "seed1/net").glob("*.solverstate"))) <= announced + 1


def test_ctrl_c_takes_snapshots_and_the_same_command_goes_on(caffe, tmp_path):
    study, out = tmp_path / "long.toml", tmp_path / "out"
    study.write_text(
        'resume = "snapshot"\n[bases.net]\nzoo = "digits"\n'
        "set = { max_iter = 3000, snapshot = 500, test_interval = 1000, display = 20 }\n"
    )
    command = ("run", study, "-o", out, "--caffe", caffe, "--cluster", "local")
    process = started(*command)
    wait_for(out / "seed1/net/digits_iter_500.solverstate")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.decode()) == (
        130,
        "stopped; the same command goes on here\ncaffesplit: interrupted\n",
    )
    assert "Optimization stopped early" in (out / "seed1/net/train.log").read_text()

    done = caffesplit(*command)
    assert (done.returncode, done.stderr) == (0, "")
    (begun,) = json.loads((out / "seed1/net/stage.json").read_text())["resumed"]
    assert 500 <= begun < 3000


FAKE = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES $*" >> {record}
sleep 1
exit 1
"""


GIVEN = {"1": ("--gpu=0", 1), "2": ("--gpu=0,1", 2), "0": (None, 0)}
"""What --gpus asks for → what Caffe is told, and how many GPUs it sees."""


def test_caffe_trains_on_the_gpus_that_ray_has_given_its_stage(cluster, tmp_path):
    record, fake, study = (tmp_path / name for name in ("record", "caffe", "study.toml"))
    fake.write_text(FAKE.format(record=record))
    fake.chmod(0o755)
    study.write_text('seeds = [1, 2]\n[bases.net]\nzoo = "digits"\n')
    command = ("run", study, "-o", tmp_path / "out", "--caffe", fake, "--cpus", "0.5")
    refused = caffesplit(*command, "--cluster", cluster.address, "--gpus", "3")
    assert (refused.returncode, refused.stderr) == (
        2,
        "caffesplit: no node of the cluster has 0.5 CPUs and 3 GPUs, expected one that has as much "
        "as a stage takes\nThere are: 1 CPUs, 2 GPUs. Correct --cpus and --gpus, or add a node.\n",
    )
    for gpus, (expected, number) in GIVEN.items():
        done = caffesplit(*command, "--cluster", cluster.address, "--gpus", gpus)
        assert done.returncode == 1
        assert "missing: 2 of 2 stages" in done.stderr
        lines = record.read_text().splitlines()
        record.unlink()
        assert len(lines) == 2
        seen = [line.partition(" ")[0] for line in lines]
        assert [len([each for each in one.split(",") if each]) for one in seen] == [number] * 2
        if gpus == "1":
            assert set(seen) == {"0", "1"}
        for line in lines:
            told = re.search(r"--gpu\S*", line)
            assert (told and told[0]) == expected


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto", "nonsense"])
def test_without_a_cluster_it_says_so_at_once(caffe, tmp_path, address):
    study, begin = study_helpers.study(tmp_path), time.monotonic()
    done = caffesplit("run", study, "-o", tmp_path / "out", "--cluster", address)
    assert done.returncode == 2
    assert done.stderr.startswith(f"caffesplit: no Ray cluster at {address} (")
    assert done.stderr.endswith(
        "), expected its address, as `ray start --head` prints it, or `local`\n"
        "Start one with `ray start --head`.\n"
    )
    assert time.monotonic() - begin < 15
