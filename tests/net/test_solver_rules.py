"""What Caffe refuses of a solver, or trains nothing with, is an error before it runs."""

import subprocess

import pytest

from caffesplit.formats import prototxt
from caffesplit.net.solver_rules import POLICIES, check_solver

SOUND = {"net": '"net.prototxt"', "base_lr": "0.1", "lr_policy": '"fixed"', "max_iter": "1"}


def text(**changes):
    """A sound solver with fields changed, added or (None) left out."""
    fields = {**SOUND, **changes}
    return "\n".join(f"{name}: {value}" for name, value in fields.items() if value is not None)


def findings(source):
    return [str(finding) for finding in check_solver(prototxt.parse(source, "s"), "s")]


REFUSED = {
    "an unknown type": (
        text(type='"Adan"'),
        "s:5:1: error: type 'Adan', expected one of SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, "
        "Adam; did you mean Adam? [solver-type]",
    ),
    "a type in both forms": (
        text(type='"Adam"', solver_type="ADAM"),
        "s:6:1: error: `type` beside `solver_type`, its old form, expected one of the two "
        "[solver-type]",
    ),
    "an unknown policy": (
        text(lr_policy='"fixd"'),
        "s:3:1: error: lr_policy 'fixd', expected one of fixed, step, exp, inv, multistep, poly, "
        "sigmoid; did you mean fixed? [lr-policy]",
    ),
    "no policy": (
        text(lr_policy=None),
        "s: error: no lr_policy, expected one of fixed, step, exp, inv, multistep, poly, sigmoid "
        "[lr-policy]",
    ),
    "step without stepsize": (
        text(lr_policy='"step"', gamma="0.1"),
        "s: error: no stepsize with lr_policy 'step', expected 1 or more [policy-fields]",
    ),
    "sigmoid with stepsize 0": (
        text(lr_policy='"sigmoid"', gamma="0.1", stepsize="0"),
        "s:6:1: error: stepsize 0 with lr_policy 'sigmoid', expected 1 or more [policy-fields]",
    ),
    "a negative gamma": (
        text(lr_policy='"exp"', gamma="-0.5"),
        "s:5:1: error: gamma -0.5 with lr_policy 'exp', expected 0 or more [policy-fields]",
    ),
    "momentum with AdaGrad": (
        text(type='"AdaGrad"', momentum="0.9"),
        "s:6:1: error: momentum 0.9 with type 'AdaGrad', expected 0: it has none [momentum]",
    ),
    "momentum with RMSProp in its old form": (
        text(solver_type="RMSPROP", momentum="0.9"),
        "s:6:1: error: momentum 0.9 with type 'RMSProp', expected 0: it has none [momentum]",
    ),
    "rms_decay 1": (
        text(type='"RMSProp"', rms_decay="1"),
        "s:6:1: error: rms_decay 1, expected 0 to below 1 [momentum]",
    ),
    "an unknown regularization": (
        text(weight_decay="0.1", regularization_type='"L3"'),
        "s:6:1: error: regularization_type 'L3', expected L1 or L2 [regularization]",
    ),
    "average_loss 0": (
        text(average_loss="0"),
        "s:5:1: error: average_loss 0, expected 1 or more [positive-counts]",
    ),
    "tests without an interval": (
        text(test_iter="1"),
        "s: error: no test_interval with test_iter, expected 1 or more [test-interval]",
    ),
}
USELESS = {
    "no rate": (
        text(base_lr=None),
        "s: error: no base_lr, expected above 0; Caffe trains nothing [base-lr]",
    ),
    "no end": (
        text(max_iter=None),
        "s: error: no max_iter, expected above 0; Caffe trains nothing [max-iter]",
    ),
    "iter_size 0": (
        text(iter_size="0"),
        "s:5:1: error: iter_size 0, expected 1 or more [positive-counts]",
    ),
}
DOUBTFUL = {
    "a rate of 0": (
        text(base_lr="0"),
        "s:2:1: warning: base_lr 0, expected above 0; Caffe trains nothing [base-lr]",
    ),
    "step without gamma": (
        text(lr_policy='"step"', stepsize="5"),
        "s: warning: no gamma, expected it with lr_policy 'step'; Caffe takes 0 [policy-fields]",
    ),
    "poly without power": (
        text(lr_policy='"poly"'),
        "s: warning: no power, expected it with lr_policy 'poly'; Caffe takes 0 [policy-fields]",
    ),
    "multistep without a step": (
        text(lr_policy='"multistep"', gamma="0.1"),
        "s: warning: no stepvalue, expected it with lr_policy 'multistep'; the rate stays as it is "
        "[policy-fields]",
    ),
    "AdaDelta without momentum": (
        text(type='"AdaDelta"'),
        "s: warning: no momentum with type 'AdaDelta', which averages over iterations with it "
        "[momentum]",
    ),
    "momentum 1": (
        text(momentum="1"),
        "s:5:1: warning: momentum 1, expected 0 to below 1 [momentum]",
    ),
    "an unknown regularization of nothing": (
        text(regularization_type='"L3"'),
        "s:5:1: warning: regularization_type 'L3', expected L1 or L2 [regularization]",
    ),
    "an interval without tests": (
        text(test_interval="5"),
        "s:5:1: warning: test_interval without test_iter, expected both or none; nothing is "
        "tested [test-interval]",
    ),
    "tests of no batches": (
        text(test_iter="0", test_interval="5"),
        "s:5:1: warning: test_iter 0, expected 1 or more; Caffe tests nothing, and says nothing "
        "[test-iter]",
    ),
    "stepvalue that do not ascend": (
        text(lr_policy='"multistep"', gamma="0.1", stepvalue="[20, 10]"),
        "s:6:1: warning: stepvalue that do not ascend, expected each above the one before "
        "[policy-fields]",
    ),
    "snapshots without a prefix": (
        text(snapshot="1"),
        "s:5:1: warning: snapshot without snapshot_prefix, which the first Caffe 1.0 refuses "
        "[snapshot-prefix]",
    ),
    "a field that Caffe has not": (
        text(basee_lr="0.1"),
        "s:5:1: warning: SolverParameter has no 'basee_lr' in BVLC Caffe; did you mean base_lr? "
        "[unknown-field]",
    ),
}


def case(cases):
    return pytest.mark.parametrize(
        ("source", "message"), list(cases.values()), ids=list(cases.keys())
    )


@case(REFUSED)
def test_what_caffe_refuses_of_a_solver_is_an_error(source, message):
    assert findings(source) == [message]


@case(USELESS)
def test_what_trains_nothing_is_an_error(source, message):
    assert findings(source) == [message]


@case(DOUBTFUL)
def test_what_caffe_takes_but_hardly_as_it_is_meant_is_a_warning(source, message):
    assert findings(source) == [message]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_with_all_that_it_needs_is_sound(policy):
    needed = dict.fromkeys(POLICIES[policy], "1")
    assert findings(text(lr_policy=f'"{policy}"', **needed)) == []


def test_the_nets_inside_a_solver_have_rules_of_their_own():
    source = text(net=None) + "\nnet_param { layer { unknown_here: 1 } }"
    assert findings(source) == []


def test_a_net_of_its_own_to_test_is_tested_too():
    source = text(net=None, train_net='"a"', test_net='"b"', test_iter="1")
    assert [line.split("[")[-1] for line in findings(source)] == ["test-interval]"]


NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.mark.parametrize(("cases", "status"), [(REFUSED, 1), (DOUBTFUL, 0)])
def test_the_real_caffe_refuses_the_same(caffe, tmp_path, cases, status):
    (tmp_path / "net.prototxt").write_text(NET)
    for name, (source, _) in cases.items():
        if "basee_lr" in source:
            continue  # Caffe refuses every fork's field; this program does not.
        solver = tmp_path / "solver.prototxt"
        solver.write_text(source + "\nsolver_mode: CPU\n")
        done = subprocess.run(
            [caffe, "train", f"-solver={solver}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) == bool(status), (name, done.stderr[-500:])
