"""Random small nets, split at random for some generations: legal throughout, and folded back."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from net_weights import random_weights

from caffesplit.errors import SplitError
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net, check_weights
from caffesplit.split.fold import blobs, fold
from caffesplit.split.forms import Setting
from caffesplit.split.partition import partition
from caffesplit.split.plan import METHODS, LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, rewrite_weights, split

CHANNELS = 4
quotes = st.sampled_from("'\"")


@st.composite
def layouts(draw):
    """How a layer is written: its quotes, its line breaks, what stands before and behind it."""
    quote, end = draw(quotes), draw(st.sampled_from(["\n  ", " ", "  # why\n    ", "; "]))
    before = draw(st.sampled_from(["", "\n", "# a layer\n", "\n# of a net\n\n"]))
    behind = draw(st.sampled_from(["\n", " # so\n", "\n\n"]))

    def written(name, type_name, bottoms, top, rest=""):
        fields = [f"name: {quote}{name}{quote}", f"type: {quote}{type_name}{quote}"]
        fields += [f"bottom: {quote}{bottom}{quote}" for bottom in bottoms]
        fields += [f"top: {quote}{top}{quote}", *([rest] if rest else [])]
        return f"{before}layer {{{end.strip(';')}{end.join(fields)}\n}}{behind}"

    return written


@st.composite
def convolutions(draw):
    kernel = draw(st.sampled_from([1, 3, 3, 5]))
    group = draw(st.sampled_from([1, 1, 1, 2]))
    dilation = draw(st.sampled_from([1, 1, 2]))
    bias = draw(st.sampled_from(["", "bias_term: false "]))
    return (
        f"num_output: {CHANNELS} {bias}kernel_size: {kernel} pad: {dilation * (kernel // 2)} "
        f"group: {group} dilation: {dilation}"
    )


@st.composite
def nets(draw):
    """Convolutions one behind the other, in Inception modules and around residual sums."""
    texts = [f'name: "random"\ninput: "data" input_dim: 1 input_dim: {CHANNELS} ']
    texts.append("input_dim: 6 input_dim: 5\n")
    top = "data"
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "conv", "normed", "inception", "residual"]))
        write, name = draw(layouts()), f"{kind}{number}"

        def convolve(name, bottom, write=write):
            parameter = f"convolution_param {{ {draw(convolutions())} }}"
            return write(name, "Convolution", [bottom], name, parameter)

        if kind == "inception":
            branches = [f"{name}/{branch}" for branch in "ab"]
            for branch in branches:
                texts.append(convolve(branch, top))
                texts.append(write(f"{branch}/relu", "ReLU", [branch], branch))
            # Twice the channels, and back.
            texts.append(write(name, "Concat", branches, name))
            texts.append(write(f"{name}/relu", "ReLU", [name], name))
            parameter = f"convolution_param {{ num_output: {CHANNELS} kernel_size: 1 }}"
            texts.append(write(f"{name}/out", "Convolution", [name], f"{name}/out", parameter))
            top = f"{name}/out"
            continue
        texts.append(convolve(name, top))
        if kind == "normed":
            texts.append(write(f"{name}_bn", "BatchNorm", [name], name))
            texts.append(write(f"{name}_scale", "Scale", [name], name))
        if draw(st.booleans()) or kind == "residual":
            texts.append(write(f"{name}_relu", "ReLU", [name], name))
        if kind == "residual":
            texts.append(write(f"{name}_added", "Eltwise", [top, name], f"{name}_added"))
            name = f"{name}_added"
        top = name
    return "".join(texts)


def planned(draw, net, generation):
    """A plan that splits some of the net's convolutions, each in a form of its own."""
    candidates = [layer for layer in net.layers if layer.type == "Convolution"]
    chosen = draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=3, unique_by=id))
    layers = []
    for layer in chosen:
        scores = np.random.default_rng(generation).random(
            layer.message.convolution_param.num_output
        )
        try:
            fast, slow = partition("half", scores, np.random.default_rng(0), layer.group)
        except SplitError:
            continue  # A single kernel per group.
        layers.append(LayerPlan(layer.name, draw(st.sampled_from(METHODS)), "half", fast, slow))
    return Plan(tuple(layers), (0, 1), (0, 1), seed=generation)


@settings(max_examples=60, deadline=None)
@given(nets(), st.data())
def test_what_is_split_for_some_generations_is_legal_and_folds_back_to_the_base(text, data):
    base = net = graph.build(prototxt.parse(text))
    original = weights = random_weights(net)
    assert not [finding for finding in check_net(net) if not finding.warning]
    setting = Setting(preserve=True, skip_stride=data.draw(st.sampled_from(["sample", "average"])))
    for generation in range(data.draw(st.integers(1, 3))):
        change = split(net, weights, planned(data.draw, net, generation), setting)
        net = rewrite_net(net, change)
        records = rewrite_weights(net, change)
        weights = {name: blobs for name, blobs in weights.items() if name not in records}
        for record in (record for records in records.values() for record in records):
            if record.blobs:
                weights[record.name] = list(record.blobs)
        assert not [finding for finding in check_net(net) if not finding.warning]
        assert not [finding for finding in check_weights(net, weights) if not finding.warning]

    result = fold(net, weights)

    assert str(result.net.tree) == text
    folded = {each.layer.name: blobs(each) for each in result.folded}
    for layer in base.layers:
        for own, first in zip(
            folded.get(layer.name, weights.get(layer.name, ())),
            original.get(layer.name, ()),
            strict=True,
        ):
            np.testing.assert_allclose(own, first, atol=1e-5)
