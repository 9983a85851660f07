"""Solvers with several nets, or nets inside, in the real Caffe: derived, they train and test."""

import re

import pytest

from caffesplit.engines import caffe_binary, job
from caffesplit.experiment import load
from caffesplit.formats import prototxt, trainlog
from caffesplit.split.forms import Setting
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive


def apart(net):
    """train.prototxt and test.prototxt: the layers of one phase each, without their rules."""
    texts = []
    for phase, other in (("TRAIN", "TEST"), ("TEST", "TRAIN")):
        tree = prototxt.parse(net)
        for layer in tree.all("layer"):
            if f"phase: {other}" in str(layer):
                tree = tree.replaced(layer)
        texts.append(str(tree).replace(f"  include {{ phase: {phase} }}\n", ""))
    return texts


def forms(net):
    train, test = apart(net)
    return {
        "files": ('train_net: "baseline/train.prototxt"\ntest_net: "baseline/test.prototxt"', 1),
        "generic": ('net: "baseline/train_val.prototxt"\ntest_net: "baseline/test.prototxt"', 2),
        "inside": (f"net_param {{\n{net}\n}}", 1),
        "inside_apart": (f"train_net_param {{\n{train}\n}}\ntest_net_param {{\n{test}\n}}", 1),
        "mixed": (f'test_net: "baseline/test.prototxt"\ntrain_net_param {{\n{train}\n}}', 1),
    }


@pytest.mark.parametrize("form", ["files", "generic", "inside", "inside_apart", "mixed"])
def test_an_experiment_with_any_form_of_nets_trains_and_its_derived_one_too(
    caffe, digits_root, form
):
    base, out = digits_root / "baseline", digits_root / "derived1"
    net = (base / "train_val.prototxt").read_text()
    for name, text in zip(("train", "test"), apart(net), strict=True):
        (base / f"{name}.prototxt").write_text(text)
    nets, tests = forms(net)[form]
    solver = base / "solver.prototxt"
    text = re.sub('net: ".*"', lambda found: nets, solver.read_text())
    solver.write_text(text.replace("test_iter: 10", "test_iter: 10\n" * tests))
    assert caffe_binary.train(job.prepare(load(base)), caffe).accuracy > 0.2

    experiment = load(base)
    plan = decide(experiment, (50, 100), ["conv2", "conv3"], "extension")
    start = experiment.weights_path(100)
    derive(experiment, plan, start, out, Setting(noise=0), ["max_iter=150"], momentum=True)
    caffe_binary.train(job.prepare(load(out)), caffe)
    before, after = (trainlog.read(folder / "train.log").test for folder in (base, out))
    assert len(after) == 2 * tests
    last = [row for row in before if row.iteration == 100]
    first = [row for row in after if row.iteration == 100]
    for base_row, derived_row in zip(last, first, strict=True):
        assert derived_row.outputs == pytest.approx(base_row.outputs, rel=1e-4)


def test_a_layer_of_its_own_for_each_phase_is_scored_and_split_in_both(caffe, digits_root):
    base, out = digits_root / "baseline", digits_root / "derived1"
    net = base / "train_val.prototxt"
    tree = prototxt.load(net)
    (conv3,) = (field for field in tree.all("layer") if 'name: "conv3"' in str(field))
    one_each = [
        conv3.with_value(
            conv3.as_message().appended(*prototxt.parse(f"include {{ phase: {phase} }}").fields)
        )
        for phase in ("TEST", "TRAIN")
    ]
    net.write_bytes(prototxt.encode(tree.replaced(conv3, *one_each)))
    caffe_binary.train(job.prepare(load(base)), caffe)

    experiment = load(base)
    assert experiment.kernel_layers == ("conv1", "conv2", "conv3", "ip")
    assert set(experiment.history().load(50)) == set(experiment.kernel_layers)
    plan = decide(experiment, (50, 100), 4, "extension")
    assert {layer.name for layer in plan.layers} == set(experiment.kernel_layers)
    start = experiment.weights_path(100)
    derive(experiment, plan, start, out, Setting(noise=0), ["max_iter=150"], momentum=True)
    caffe_binary.train(job.prepare(load(out)), caffe)
    before, after = (trainlog.read(folder / "train.log").test for folder in (base, out))
    assert after[0].outputs == pytest.approx(before[-1].outputs, rel=1e-4)


def test_layers_of_the_solvers_stage_and_level_are_trained_scored_and_carried(caffe, digits_root):
    base, out = digits_root / "baseline", digits_root / "derived1"
    net, solver = base / "train_val.prototxt", base / "solver.prototxt"
    rules = {"conv1": 'stage: "deep"', "conv2": "min_level: 1"}
    tree = prototxt.load(net)
    for name, rule in rules.items():
        (layer,) = (field for field in tree.all("layer") if f'name: "{name}"' in str(field))
        include = prototxt.parse(f"include {{ phase: TRAIN {rule} }} include {{ phase: TEST }}")
        message = layer.as_message().appended(*include.fields)
        tree = tree.replaced(layer, layer.with_value(message))
    net.write_bytes(prototxt.encode(tree))
    solver.write_text(solver.read_text() + 'train_state { stage: "deep" level: 1 }\n')
    caffe_binary.train(job.prepare(load(base)), caffe)

    experiment = load(base)
    assert experiment.kernel_layers == ("conv1", "conv2", "conv3", "ip")
    plan = decide(experiment, (50, 100), ["conv1"], "extension")
    start = experiment.weights_path(100)
    derive(experiment, plan, start, out, Setting(noise=0), ["max_iter=150"], momentum=True)
    caffe_binary.train(job.prepare(load(out)), caffe)
    before, after = (trainlog.read(folder / "train.log").test for folder in (base, out))
    assert after[0].outputs == pytest.approx(before[-1].outputs, rel=1e-4)
