"""plan, split and check as a user types them."""

import json
import subprocess
import sys

import pytest
from small_experiment import make, weights

from caffesplit.cli.split import command as split_command
from caffesplit.formats import caffemodel, solverstate
from caffesplit.formats.solverstate import SolverState
from caffesplit.split.forms import ACTIVATIONS
from caffesplit.split.plan import METHODS
from caffesplit.split.skip import STRIDES


def caffesplit(*arguments, cwd=None):
    """Run the command line; no run of it may ever show a traceback."""
    program = "from caffesplit.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def test_split_writes_an_experiment_and_says_what_it_did(tmp_path):
    base, out = make(tmp_path), tmp_path / "exp/derived1"
    done = caffesplit("split", base, "-o", out, "--window", "100:400", "--layer", "conv1")
    assert done.returncode == 0
    assert done.stdout == (
        "scored over 4 snapshots, 100 to 400\n"
        "conv1: residual split, 3 fast and 3 slow of 6 kernels → 7 layers\n"
        f"{out}: starts from {base}/snap_iter_400.caffemodel. "
        f"Train it with: caffesplit train {out}\n"
    )
    assert (out / "init.caffemodel").exists()


def test_the_options_of_a_split_are_its_setting(tmp_path):
    base, out = make(tmp_path), tmp_path / "exp/derived1"
    options = ["--noise", "0", "--skip-stride", "average", "--preserve", "--new-lr-mult", "3"]
    what = ["--window", "100:400", "--layer", "conv1", "--method", "skip"]
    done = caffesplit("split", base, "-o", out, *what, *options)
    assert "conv1: skip split, 3 fast and 3 slow of 6 kernels → 6 layers\n" in done.stdout
    assert json.loads((out / "split.json").read_text())["setting"] == {
        "noise": 0.0, "edge": [-0.2, 2.0], "new_lr_mult": 3.0, "new_decay_mult": 1.0,
        "skip_stride": "average", "activation": "none", "preserve": True,
    }  # fmt: skip


def test_methods_and_settings_to_choose_from_are_those_of_the_package():
    choices = {option.name: option.type for option in split_command.params}
    assert tuple(choices["method"].choices) == METHODS
    assert tuple(choices["skip_stride"].choices) == STRIDES
    assert tuple(choices["activation"].choices) == ACTIVATIONS


def test_momentum_and_hdf5_say_what_to_write(tmp_path):
    base, out = make(tmp_path), tmp_path / "exp/derived1"
    history = tuple(blob for layer in weights(400) for blob in layer.blobs)
    state = SolverState(400, "snap_iter_400.caffemodel", history, 0)
    solverstate.write(base / "snap_iter_400.solverstate", state)
    what = ["--window", "100:400", "--layer", "conv1", "--momentum", "--hdf5"]
    done = caffesplit("split", base, "-o", out, *what)
    assert done.stdout.endswith(
        f"{out}: goes on with the momentum of {base}/snap_iter_400.caffemodel. "
        f"Train it with: caffesplit train {out}\n"
    )
    starts = sorted(path.name for path in out.iterdir() if path.name.startswith("init"))
    assert starts == ["init.caffemodel.h5", "init.solverstate.h5"]


def test_split_carries_out_a_plan_made_before_and_edited(tmp_path):
    base, plan_path = make(tmp_path), tmp_path / "plan.json"
    done = caffesplit("plan", base, "-o", plan_path, "--window", "100:400", "--top", "1")
    assert (done.returncode, done.stdout) == (
        0,
        "scored over 4 snapshots, 100 to 400\n"
        "conv1: residual, 3 fast, 3 slow kernels\n"
        f"{plan_path}: edit it if you like, then: "
        f"caffesplit split {base} --plan {plan_path} -o OUT\n",
    )

    plan = json.loads(plan_path.read_text())
    plan["layers"][0].update(fast=[2], slow=[0, 1, 3, 4, 5], method="extension")
    plan_path.write_text(json.dumps(plan))
    out = tmp_path / "exp/derived1"
    done = caffesplit("split", base, "-o", out, "--plan", plan_path)
    assert done.returncode == 0
    assert caffemodel.read(out / "init.caffemodel")["conv1_split1"][0].shape == (1, 2, 3, 3)


def test_split_starts_from_the_snapshot_asked_for(tmp_path):
    base, out = make(tmp_path), tmp_path / "exp/derived1"
    caffesplit(
        "split", base, "-o", out, "--window", "100:400", "--layer", "conv1", "--weights", "200"
    )
    assert caffemodel.read(out / "init.caffemodel")["conv1_split1"][1].tolist() == [200.0] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv1"], "Error: 0 windows; give one --window A:B (or --plan FILE).\n"),
        (
            ["--window", "100:400"],
            "Error: Say what to split: --layer L (may be repeated), or --top K, or --plan FILE.\n",
        ),
        (
            ["--window", "100:400", "--top", "1", "--layer", "conv1"],
            "Error: Say what to split: --layer L (may be repeated), or --top K, not both.\n",
        ),
        (
            ["--window", "100:400", "--window", "1:2", "--top", "1"],
            "Error: 2 windows; give one --window A:B (or --plan FILE).\n",
        ),
        (["--window", "100:" + "9" * 5000, "--top", "1"], "is not a window; write A:B"),
        (
            ["--plan", "x", "--seed", "3", "--method", "extension"],
            "Error: --plan has decided: leave out --method, --seed.\n",
        ),
        (
            ["--window", "400:100", "--top", "1"],
            "'400:100' ends before it starts; write the smaller iteration first\n",
        ),
        (["--window", "late", "--top", "1"], "'late' is not a window; write A:B in iterations"),
        (
            ["--window", "350:400", "--top", "1"],
            "1 of 4 snapshots in window 350:400, expected at least two\n",
        ),
        (
            ["--window", "100:400", "--layer", "conv3"],
            "no layer 'conv3', expected a layer of the net\nDid you mean 'conv2'?\n",
        ),
        (
            ["--window", "100:400", "--layer", "conv1", "--partition", "thirds"],
            "layer 'conv1': partition 'thirds', expected one of half, mean, threshold:T",
        ),
        (["--window", "100:400", "--top", "1", "--edge", "2"], "'2' is not a pair of numbers"),
        (
            ["--plan", "missing.json"],
            "missing.json: no such file, expected a plan.json, or another split's split.json\n",
        ),
        (["--window", "100:400", "--top", "1", "-o", ""], "the path is empty"),
        (["--plan", "/dev/zero"], "/dev/zero: this is no plan, expected a plan.json"),
        (["--plan", "x", "--top", "1"], "--plan has decided: leave out --top."),
        (
            ["--window", "100:400", "--layer", "conv1", "--momentum"],
            "snap_iter_400.caffemodel: no solver state, which has the momentum, beside the weights",
        ),
        (
            ["--window", "100:400", "--top", "1", "--activation", "relu", "--method", "skip"],
            "activation relu without a residual split",
        ),
        (
            ["--window", "100:400", "--top", "1", "--activation", "relu", "--preserve"],
            "preserve with activation relu, expected a branch that is linear",
        ),
    ],
)
def test_wrong_usage_exits_2_with_one_message_and_writes_nothing(tmp_path, arguments, message):
    base, out = make(tmp_path), tmp_path / "exp/derived1"
    done = caffesplit("split", base, "-o", out, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not out.exists()


def test_a_window_with_too_few_snapshots_lists_those_there_are(tmp_path):
    base = make(tmp_path)
    done = caffesplit("split", base, "-o", tmp_path / "o", "--window", "1:50", "--top", "1")
    assert done.returncode == 2
    assert done.stderr == (
        "caffesplit: 0 of 4 snapshots in window 1:50, expected at least two\n"
        "Choose another window; there are snapshots at 100, 200, 300, 400.\n"
    )


def test_a_window_may_end_between_snapshots_and_the_last_in_it_is_named(tmp_path):
    base, out = make(tmp_path), tmp_path / "exp/derived1"
    done = caffesplit("split", base, "-o", out, "--window", "50:350", "--layer", "conv1")
    lines = done.stdout.splitlines()
    assert lines[0] == "scored over 3 snapshots, 100 to 300, the last one in the window 50:350"
    assert lines[-1].startswith(f"{out}: starts from {base}/snap_iter_300.caffemodel. ")


def test_a_split_by_two_snapshots_is_told_that_they_tell_little(tmp_path):
    base, out = make(tmp_path), tmp_path / "exp/derived1"
    done = caffesplit("split", base, "-o", out, "--window", "100:200", "--layer", "conv1")
    assert done.stdout.startswith(
        "scored over 2 snapshots, 100 to 200\n"
        "with two snapshots every path is straight; take a wider window\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["tpm", "--csv", "snap_iter_100.caffemodel"],
        ["tpm", "--plot", "net.prototxt"],
        ["norms", "--json", "solver.prototxt"],
        ["plan", "--layer", "conv1", "-o", "snap_iter_400.caffemodel"],
    ],
)
def test_no_verb_writes_over_an_input_not_even_with_force(tmp_path, arguments):
    base = make(tmp_path)
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    verb, *rest, name = arguments
    done = caffesplit(verb, base, "--window", "100:400", *rest, base / name, "--force")
    assert done.returncode == 2
    assert "the output is also an input" in done.stderr
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before


def test_outputs_are_checked_before_any_is_written(tmp_path):
    base, old, new = make(tmp_path), tmp_path / "old.json", tmp_path / "new.csv"
    old.write_text("old")
    done = caffesplit("tpm", base, "--window", "100:400", "--csv", new, "--json", old)
    assert done.returncode == 2
    assert not new.exists()
    done = caffesplit("tpm", base, "--window", "100:400", "--csv", new, "--json", new)
    assert "two outputs of one name" in done.stderr


def test_check_passes_a_legal_pair_and_exits_1_for_a_broken_one(tmp_path):
    base = make(tmp_path)
    snapshot, net = base / "snap_iter_400.caffemodel", base / "net.prototxt"
    loss = 'layer { name: "loss" type: "Reduction" bottom: "data" top: "loss" loss_weight: 1 }\n'
    net.write_text(net.read_text() + loss)
    done = caffesplit("check", base, "--weights", snapshot)
    assert (done.returncode, done.stdout) == (0, f"{base}: 4 layers, 0 errors, 0 warnings\n")

    net.write_text(net.read_text().replace("num_output: 6", "num_output: 5 kernal: 1"))
    done = caffesplit("check", net, "--weights", snapshot)
    assert done.returncode == 1
    assert done.stdout == (
        f"{net}:13:37: warning: ConvolutionParameter has no 'kernal' in BVLC Caffe; "
        "did you mean kernel_w? [unknown-field]\n"
        f"{net}:8:1: error: layer 'conv1': blob 0 in the weight file is (6, 2, 3, 3), "
        "expected (5, any, 3, 3) [fitting-shapes]\n"
        f"{net}:8:1: error: layer 'conv1': blob 1 in the weight file is (6,), "
        "expected (5,) [fitting-shapes]\n"
        f"{net}: 4 layers, 2 errors, 1 warning\n"
    )


def test_a_misspelled_verb_gets_the_closest_one():
    done = caffesplit("spilt")
    assert done.returncode == 2
    assert "Did you mean 'split'?" in done.stderr


def test_help_names_every_verb_in_the_order_of_the_work():
    done = caffesplit("--help")
    verbs = [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()]
    assert " ".join(verbs) == (
        "tpm norms plan split check train test time fold log plot draw kernels report tensorboard "
        "upgrade convert data zoo lsuv run demo"
    )
