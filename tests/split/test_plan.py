import json

import numpy as np
import pytest

from caffesplit.errors import SplitError
from caffesplit.metric.trajectory import LayerScores, WindowScores
from caffesplit.split.plan import LayerPlan, Plan, decide, layer_rng
from caffesplit.split.plan_json import as_json, parse_plan

NAN = float("nan")


def scores(**layers):
    return WindowScores(
        (100, 300),
        (100, 200, 300),
        tuple(
            LayerScores(name, (len(kernels), 3, 3, 3), np.array(kernels))
            for name, kernels in layers.items()
        ),
    )


def plan():
    return decide(
        scores(conv1=[0.2, 0.8, NAN, 0.4], conv2=[0.3, 0.1]), ["conv1", "conv2"], {},
        "residual", "half", seed=3,
    )  # fmt: skip


def test_a_plan_keeps_the_window_the_scores_and_the_decision():
    assert plan() == Plan(
        (
            LayerPlan("conv1", "residual", "half", (1, 3), (0, 2), (0.2, 0.8, None, 0.4)),
            LayerPlan("conv2", "residual", "half", (0,), (1,), (0.3, 0.1)),
        ),
        (100, 300),
        (100, 200, 300),
        3,
    )


def test_grouped_layers_are_partitioned_by_group():
    made = decide(scores(conv1=[0.9, 0.8, 0.1, 0.2]), ["conv1"], {"conv1": 2}, "extension", "half")
    assert made.layers[0].fast == (0, 3)


def test_a_random_partition_does_not_depend_on_the_other_layers():
    kernels = list(np.linspace(0, 1, 16))
    both = decide(scores(a=kernels, b=kernels), ["a", "b"], {}, "residual", "random")
    alone = decide(scores(b=kernels), ["b"], {}, "residual", "random")
    assert both.layers[1] == alone.layers[0]
    assert both.layers[0].fast != both.layers[1].fast


def test_streams_differ_by_seed_layer_and_purpose():
    draws = {
        layer_rng(seed, layer, purpose).integers(1 << 62)
        for seed in (0, 1)
        for layer in ("conv1", "conv2")
        for purpose in ("noise", "partition")
    }
    assert len(draws) == 8


def test_a_refused_partition_names_the_layer():
    with pytest.raises(SplitError, match=r"^layer 'conv1': partition 'threshold:2' makes 0 of 2"):
        decide(scores(conv1=[0.1, 0.2]), ["conv1"], {}, "residual", "threshold:2")


def test_a_plan_survives_its_json():
    assert parse_plan(json.dumps(as_json(plan()))) == plan()


def test_each_layer_of_a_plan_has_its_own_method():
    content = as_json(plan())
    content["layers"][1]["method"] = "skip"
    parsed = parse_plan(json.dumps(content))
    assert [layer.method for layer in parsed.layers] == ["residual", "skip"]
    assert as_json(parsed) == content


def test_a_split_json_holds_a_plan_too():
    assert parse_plan(json.dumps({"plan": as_json(plan()), "versions": {}})) == plan()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda p: p.pop("layers"),
            "plan.json: no 'layers', expected a list\nWrite the plan anew with `caffesplit plan`, "
            "or mend it by hand.",
        ),
        (
            lambda p: p.update(seed="3"),
            'plan.json: seed is "3", expected a whole number\nWrite the plan anew with '
            "`caffesplit plan`, or mend it by hand.",
        ),
        (
            lambda p: p.update(window=[1]),
            "plan.json: window with 1 values, expected two iterations",
        ),
        (
            lambda p: p["layers"][0].update(method="resdiual"),
            "plan.json: method 'resdiual' for layer 'conv1', expected one of residual, extension, "
            "skip",
        ),
        (
            lambda p: p["layers"][0].update(slow=[]),
            "plan.json: layer 'conv1' with 2 fast and 0 slow kernels, "
            "expected at least one of each",
        ),
        (
            lambda p: p["layers"][0].update(slow=[0, 1]),
            "plan.json: layer 'conv1' with kernel 1 twice, expected every kernel of the layer "
            "once, fast or slow",
        ),
        (
            lambda p: p.update(windows=[]),
            'plan.json: the plan has a key "windows", expected one of window, iterations, seed, '
            "layers\nA key that nothing reads would change nothing: remove or correct it.",
        ),
        (
            lambda p: p["layers"][1].update(metod="skip"),
            'plan.json: layers[1] has a key "metod", expected one of name, method, partition, '
            "fast, slow, tpm\nA key that nothing reads would change nothing: remove or correct it.",
        ),
        (lambda p: p.update(seed=-1), "plan.json: seed -1, expected 0 or more"),
        (
            lambda p: p.update(window=[300, 100]),
            "plan.json: window 300:100, expected its start before its end",
        ),
        (
            lambda p: p.update(iterations=[1, 2]),
            "plan.json: iterations 1, 2, expected two or more within the window 100:300",
        ),
        (
            lambda p: p["layers"][1].update(tpm=[0.5]),
            "plan.json: a plan with kernel 1 for layer 'conv2', with TPM for 1 kernels, expected "
            "each from 0 to 0 once, fast or slow\n"
            "Correct the plan, with the numbers of `caffesplit tpm --per-kernel`; if it is of "
            "another net, write one for this net with `caffesplit plan`.",
        ),
        (
            lambda p: p["layers"][1].update(tpm=[10**400, 0]),
            "plan.json: layers[1].tpm is 1" + "0" * 59 + ", expected a TPM from 0 to 1",
        ),
        (
            lambda p: p["layers"][1].update(tpm=[NAN, 0]),
            "plan.json: layers[1].tpm is nan, expected a TPM from 0 to 1",
        ),
        (
            lambda p: p["layers"][0].update(fast=[1, True]),
            "plan.json: layers[0].fast is true, expected a whole number\nWrite the plan anew with "
            "`caffesplit plan`, or mend it by hand.",
        ),
        (
            lambda p: p["layers"].append(p["layers"][0]),
            "plan.json: layer 'conv1' planned twice, expected each layer once",
        ),
    ],
)
def test_a_plan_edited_wrongly_says_where_and_what(edit, message):
    content = as_json(plan())
    edit(content)
    with pytest.raises(SplitError) as caught:
        parse_plan(json.dumps(content), "plan.json")
    assert str(caught.value) == message


def test_what_tells_the_reader_alone_may_be_left_out():
    content = as_json(plan())
    for layer in content["layers"]:
        del layer["tpm"], layer["partition"]
    parsed = parse_plan(json.dumps(content))
    assert [(layer.fast, layer.slow) for layer in parsed.layers] == [((1, 3), (0, 2)), ((0,), (1,))]
    assert {(layer.partition, layer.tpm) for layer in parsed.layers} == {("", ())}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nul", "9" * 5000])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(SplitError, match="text that is not JSON"):
        parse_plan(text)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"plan"', '{"plan": 3}'])
def test_json_that_is_no_plan_is_refused(text):
    with pytest.raises(SplitError, match=r"expected (an object|a list)"):
        parse_plan(text)
