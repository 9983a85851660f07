import re
from pathlib import Path

import numpy as np
import pytest

from caffesplit.errors import SplitError
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net
from caffesplit.split.forms import Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, rewrite_weights, split

DATA = Path(__file__).parent.parent / "data" / "rewrite"
PAIRS = {
    "residual": [("conv1", "residual", (0, 3), (1, 2))],
    "extension_crlf": [("c", "extension", (2,), (0, 1, 3))],
    "twice": [("conv1", "extension", (0, 1), (2, 3)), ("conv2", "residual", (1,), (0,))],
    "skip": [("conv1", "skip", (0, 3), (1, 2)), ("conv2", "skip", (0,), (1,))],
    "grouped": [("conv1", "residual", (0, 3), (1, 2))],
    "inner_product": [
        ("ip1", "residual", (0, 3), (1, 2)),
        ("ip2", "skip", (0,), (1,)),
        ("ip3", "extension", (0,), (1,)),
    ],
    "phases": [("conv1", "extension", (0, 3), (1, 2))],
}
SETTINGS = {
    "skip": Setting(skip_stride="average", new_lr_mult=10),
    "grouped": Setting(activation="relu", new_lr_mult=10, new_decay_mult=0.5),
}


def plan(*layers):
    return Plan(
        tuple(LayerPlan(name, method, "half", fast, slow) for name, method, fast, slow in layers),
        (0, 10),
        (0, 10),
    )


def text(name):
    return (DATA / f"{name}.prototxt").read_bytes().decode()


def weights(net, seed=0):
    """Weights of every layer that has some, as a snapshot of the net would have them."""
    rng, channels, found = np.random.default_rng(seed), {}, {}
    for layer in net.layers:
        inputs = sum(channels.get(bottom, 2) for bottom in layer.bottoms) or 2
        if layer.type in ("Convolution", "InnerProduct"):
            if layer.type == "Convolution":
                own = layer.message.convolution_param
                kernel = list(own.kernel_size) * 2 or [own.kernel_h, own.kernel_w]
                shape = (own.num_output, inputs // own.group, *kernel)
            else:
                own = layer.message.inner_product_param
                inputs *= 4 if own.axis == 2 else 1
                shape = (inputs, own.num_output) if own.transpose else (own.num_output, inputs)
            found[layer.name] = [rng.standard_normal(shape).astype(np.float32)]
            if own.bias_term:
                found[layer.name].append(rng.standard_normal(own.num_output).astype(np.float32))
            inputs = own.num_output
        channels.update(dict.fromkeys(layer.tops, inputs))
    return found


def derive(net, a_plan, setting=None):
    change = split(net, weights(net), a_plan, setting or Setting())
    return rewrite_net(net, change), change


@pytest.mark.parametrize("name", PAIRS)
def test_a_split_rewrites_the_net_as_the_after_file_shows(name):
    net = graph.build(prototxt.parse(text(f"{name}.before")))
    derived, _ = derive(net, plan(*PAIRS[name]), SETTINGS.get(name))
    assert str(derived.tree) == text(f"{name}.after")


@pytest.mark.parametrize("name", PAIRS)
def test_a_split_of_a_legal_net_is_a_legal_net(name):
    net = graph.build(prototxt.parse(text(f"{name}.before")))
    derived, _ = derive(net, plan(*PAIRS[name]), SETTINGS.get(name))
    errors = [finding for finding in check_net(derived) if not finding.warning]
    assert errors == [finding for finding in check_net(net) if not finding.warning]


@pytest.mark.parametrize("name", PAIRS)
def test_all_lines_but_those_of_the_split_layers_stay(name):
    before, after = text(f"{name}.before"), text(f"{name}.after")
    net = graph.build(prototxt.parse(before))
    for layer in net.layers:
        if layer.name not in {planned[0] for planned in PAIRS[name]}:
            assert str(layer.field).strip() in after


@pytest.mark.parametrize("name", PAIRS)
def test_an_empty_plan_gives_back_the_same_text(name):
    net = graph.build(prototxt.parse(text(f"{name}.before")))
    derived, _ = derive(net, plan())
    assert str(derived.tree) == text(f"{name}.before")


def test_every_part_with_blobs_has_a_layer_of_that_shape_and_the_split_ones_their_multipliers():
    net = graph.build(prototxt.parse(text("residual.before")))
    derived, change = derive(net, plan(*PAIRS["residual"]))
    layers = {layer.name: layer for layer in derived.layers}
    for part in change.parts["conv1"]:
        if part.blobs:
            assert layers[part.name].message.convolution_param.num_output == len(part.blobs[0])
    assert [spec.lr_mult for spec in layers["conv1_split1"].message.param] == [1, 2]
    assert [spec.lr_mult for spec in layers["conv1_reorder"].message.param] == [1, 1]


def test_the_weight_records_are_those_of_the_parts_with_their_definitions():
    net = graph.build(prototxt.parse(text("residual.before")))
    derived, change = derive(net, plan(*PAIRS["residual"]))
    (records,) = rewrite_weights(derived, change).values()
    assert [record.name for record in records] == [part.name for part in change.parts["conv1"]]
    for record, part in zip(records, change.parts["conv1"], strict=True):
        assert record.definition.name == record.name
        assert list(record.definition.top) == [part.top]
        assert all(map(np.array_equal, record.blobs, part.blobs))


@pytest.mark.parametrize("method", ["extension", "residual", "skip"])
@pytest.mark.parametrize("name", ["residual", "grouped"])
def test_three_generations_have_names_of_their_own_that_tell_where_they_come_from(name, method):
    net = graph.build(prototxt.parse(text(f"{name}.before")))
    stored = weights(net)
    for _ in range(3):
        splittable = [layer for layer in net.layers if layer.type == "Convolution"]
        group = 2 if name == "grouped" else 1
        layers = [layer for layer in splittable if len(stored[layer.name][0]) >= 2 * group]
        change = split(net, stored, plan(*map(halved(method), layers)), Setting())
        net = rewrite_net(net, change)
        for base, records in rewrite_weights(net, change).items():
            del stored[base]
            stored |= {record.name: list(record.blobs) for record in records if record.blobs}
    names = [layer.name for layer in net.layers]
    assert len(set(names)) == len(names)
    assert not [finding for finding in check_net(net) if not finding.warning]
    assert all(
        re.fullmatch(
            r"conv1(_split[12]|_extension|_reorder|_concat|_sum|_residual|_pre|_post|_skip)*", each
        )
        for each in names
        if each.startswith("conv")
    )


def halved(method):
    """Splits a layer into halves, in each group."""

    def planned(layer):
        size = layer.message.convolution_param.num_output // layer.group
        kernels = range(layer.message.convolution_param.num_output)
        fast = tuple(kernel for kernel in kernels if kernel % size < size // 2)
        return layer.name, method, fast, tuple(set(kernels) - set(fast))

    return planned


def test_names_of_later_generations_read_as_the_notebooks_do():
    net = graph.build(prototxt.parse(text("residual.before")))
    derived1, _ = derive(net, plan(("conv1", "residual", (0, 3), (1, 2))))
    derived2, _ = derive(
        derived1,
        plan(
            ("conv1_split2_residual_pre", "residual", (0,), (1,)),
            ("conv1_reorder", "extension", (0, 2), (1, 3)),
        ),
    )
    names = [layer.name for layer in derived2.layers]
    assert "conv1_split2_residual_pre_split2_residual_post" in names
    assert "conv1_reorder_split2_extension" in names


def test_one_plan_may_mix_all_forms():
    before = text("inner_product.before")
    net = graph.build(prototxt.parse(before))
    _, change = derive(net, plan(*PAIRS["inner_product"]))
    suffixes = {base: parts[2].name for base, parts in change.parts.items()}
    assert suffixes == {
        "ip1": "ip1_split2_residual_pre",
        "ip2": "ip2_split2_skip",
        "ip3": "ip3_split2_extension",
    }


def test_each_phases_own_layer_is_split_between_its_own_bottom_and_top():
    net = graph.build(prototxt.parse(text("phases.before")))
    derived, change = derive(net, plan(*PAIRS["phases"]))
    for phase, bottom in (("TRAIN", "train"), ("TEST", "test")):
        layers = {layer.name: layer for layer in derived.layers if layer.is_in(phase)}
        assert layers["conv1_split1"].bottoms == (bottom,)
        assert layers["conv1_reorder"].tops == ("out",)
        assert set(layers) >= {part.name for part in change.parts["conv1"]}
    (records,) = rewrite_weights(derived, change).values()
    assert list(records[0].definition.bottom) == ["train"]


def test_a_relu_needs_a_residual_split():
    net = graph.build(prototxt.parse(text("twice.before")))
    with pytest.raises(SplitError) as caught:
        derive(net, plan(PAIRS["twice"][0]), Setting(activation="relu"))
    assert str(caught.value) == (
        "activation relu without a residual split, expected a layer with method residual: no "
        "other form has a place for it\nLeave out --activation, or choose --method residual."
    )


def test_a_form_that_a_layers_geometry_refuses_says_which_layer_and_where():
    before = GROUPED.replace("kernel_size: 3", "kernel_size: 1 stride: 2")
    net = graph.build(prototxt.parse(before, "net.prototxt"))
    blobs = {"c": [np.zeros((4, 1, 1, 1), np.float32), np.zeros(4, np.float32)]}
    a_plan = plan(("c", "skip", (0, 2), (1, 3)))
    with pytest.raises(SplitError) as caught:
        split(net, blobs, a_plan, Setting(skip_stride="average"))
    head, *_, remedy = str(caught.value).splitlines()
    assert head == (
        "net.prototxt:1:1: layer 'c': a kernel of 1 with pad 0, stride 2 and dilation 1, expected "
        "taps on the 2 pixels that an average skip takes the mean of"
    )
    assert remedy == "Choose --skip-stride sample."
    known = split(net, blobs, a_plan, Setting(skip_stride="average"), {"data": (1, 2, 6, 8)})
    assert known.parts["c"][2].blobs[0].shape == (2, 1, 2, 2)


def test_a_deploy_net_gets_the_same_split_and_lacks_what_it_lacked():
    change = split(
        net := graph.build(prototxt.parse(text("twice.before"))),
        weights(net),
        plan(*PAIRS["twice"]),
        Setting(),
    )
    deploy = graph.build(prototxt.parse(str(net.tree).partition('layer {\n  name: "conv2"')[0]))
    derived = rewrite_net(deploy, change)
    assert [layer.name for layer in derived.layers][1:] == [
        part.name for part in change.parts["conv1"]
    ]


def test_a_name_already_taken_is_refused():
    taken = 'layer { name: "conv1_reorder" type: "ReLU" bottom: "conv1" top: "conv1" }\n'
    net = graph.build(prototxt.parse(text("twice.before") + taken, "net.prototxt"))
    with pytest.raises(SplitError) as caught:
        derive(net, plan(*PAIRS["twice"]))
    assert str(caught.value).splitlines()[0] == (
        "net.prototxt:29:1: the name 'conv1_reorder' is taken, expected a name free for a part "
        "of layer 'conv1'"
    )


def test_a_plan_of_another_net_is_refused():
    net = graph.build(prototxt.parse(text("twice.before"), "net.prototxt"))
    with pytest.raises(SplitError, match=r"a plan with no kernel 3 for layer 'conv1', with 4 ker"):
        derive(net, plan(("conv1", "residual", (0, 1), (2,))))


def test_a_kernel_that_the_layer_has_not_is_named_with_those_it_has():
    net = graph.build(prototxt.parse(text("twice.before"), "net.prototxt"))
    with pytest.raises(SplitError) as caught:
        derive(net, plan(("conv1", "residual", (0, 1, 40), (2, 3))))
    place, _, _, remedy = str(caught.value).splitlines()
    assert place.endswith(
        ": a plan with kernel 40 for layer 'conv1', with 4 kernels, expected each from 0 to 3 "
        "once, fast or slow"
    )
    assert remedy == (
        "Correct the plan, with the numbers of `caffesplit tpm --per-kernel`; if it is of another "
        "net, write one for this net with `caffesplit plan`."
    )


def test_the_same_plan_gives_the_same_text_and_weights_whatever_else_it_splits():
    net = graph.build(prototxt.parse(text("twice.before")))
    both = split(net, weights(net), plan(*PAIRS["twice"]), Setting())
    alone = split(net, weights(net), plan(PAIRS["twice"][1]), Setting())
    for one, other in zip(both.parts["conv2"], alone.parts["conv2"], strict=True):
        assert one.name == other.name
        assert all(map(np.array_equal, one.blobs, other.blobs))


def test_a_legacy_bias_of_four_axes_is_split_like_one_of_one():
    net = graph.build(prototxt.parse(text("twice.before")))
    given = weights(net)
    legacy = given | {"conv1": [given["conv1"][0], given["conv1"][1].reshape(1, 1, 1, -1)]}
    one, other = (
        split(net, each, plan(PAIRS["twice"][0]), Setting()).parts["conv1"]
        for each in (given, legacy)
    )
    for part, same in zip(one, other, strict=True):
        assert all(map(np.array_equal, part.blobs, same.blobs))


def test_weights_in_double_precision_are_split_as_caffe_reads_them():
    net = graph.build(prototxt.parse(text("twice.before")))
    single = weights(net)
    double = {name: [blob.astype(np.float64) for blob in blobs] for name, blobs in single.items()}
    one, other = (
        split(net, each, plan(*PAIRS["twice"]), Setting(preserve=True)).parts["conv2"]
        for each in (single, double)
    )
    for part, same in zip(one, other, strict=True):
        assert all(blob.dtype == np.float32 for blob in same.blobs)
        assert all(map(np.array_equal, part.blobs, same.blobs))


GROUPED = """layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 group: 2 } }
"""


def test_a_plan_keeps_the_order_of_groups_however_it_lists_the_kernels():
    net = graph.build(prototxt.parse(GROUPED))
    blobs = {"c": [np.arange(36, dtype=np.float32).reshape(4, 1, 3, 3), np.zeros(4, np.float32)]}
    change = split(net, blobs, plan(("c", "extension", (3, 0), (2, 1))), Setting(noise=0))
    assert change.parts["c"][0].blobs[0][:, 0, 0, 0].tolist() == [0, 27]


def test_a_plan_with_unequal_shares_of_groups_is_refused():
    net = graph.build(prototxt.parse(GROUPED))
    blobs = {"c": [np.zeros((4, 1, 3, 3), np.float32), np.zeros(4, np.float32)]}
    with pytest.raises(SplitError) as caught:
        split(net, blobs, plan(("c", "extension", (0, 1), (2, 3))), Setting())
    assert "a plan with 2, 0 fast kernels in the 2 groups of layer 'c'" in str(caught.value)


def test_a_deploy_nets_own_blob_names_are_kept():
    net = graph.build(prototxt.parse(text("twice.before")))
    change = split(net, weights(net), plan(PAIRS["twice"][0]), Setting())
    deploy = graph.build(
        prototxt.parse(
            'input: "image"\nlayer { name: "conv1" type: "Convolution" bottom: "image" top: "out"\n'
            "  convolution_param { num_output: 4 kernel_size: 3 } }\n"
        )
    )
    derived = rewrite_net(deploy, change)
    assert check_net(derived) == ()
    assert derived.layers[-1].tops == ("out",)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("num_output: 4", "num_output: 8"), "with num_output 8, expected 4, as the layer of"),
        (("kernel_size: 3", "kernel_size: 3 stride: 2"), "with stride 2 2, expected 1 1, as the"),
        (("Convolution", "Deconvolution"), "layer 'conv1' of type Deconvolution, expected Conv"),
    ],
)
def test_a_deploy_net_with_another_layer_of_the_name_is_refused(edit, message):
    net = graph.build(prototxt.parse(text("twice.before")))
    change = split(net, weights(net), plan(PAIRS["twice"][0]), Setting())
    deploy = graph.build(prototxt.parse(text("twice.before").replace(*edit, 1)))
    with pytest.raises(SplitError, match=message):
        rewrite_net(deploy, change)


def test_a_part_whose_name_a_layer_of_the_weights_has_is_refused():
    net = graph.build(prototxt.parse(text("twice.before")))
    stale = weights(net) | {"conv1_reorder": [np.zeros((9, 9, 1, 1), np.float32)]}
    with pytest.raises(SplitError, match="the weights have a layer 'conv1_reorder'"):
        split(net, stale, plan(PAIRS["twice"][0]), Setting())


def test_propagate_down_is_kept_wherever_the_bottom_is_read():
    before = text("twice.before").replace('top: "conv2"', 'top: "conv2"\n  propagate_down: false')
    net = graph.build(prototxt.parse(before))
    derived, change = derive(net, plan(PAIRS["twice"][1]))
    layers = {layer.name: layer.message for layer in derived.layers}
    readers = [part for part in change.parts["conv2"] if part.bottoms == ("conv1",)]
    assert len(readers) == 3
    assert all(list(layers[part.name].propagate_down) == [False] for part in readers)
