"""The parts of a drawing: texts, costs, branches, changes, boxes."""

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.shapes import infer
from caffesplit.report.draw_boxes import diagram
from caffesplit.report.draw_branches import branches
from caffesplit.report.draw_change import compare
from caffesplit.report.draw_costs import layer_cost, total
from caffesplit.report.draw_text import head, settings, short, wrapped

LENET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 64 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 20 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 50 kernel_size: 5 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
        pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
        inner_product_param { num_output: 500 } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param { num_output: 10 } }
"""
MIXED = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 2 dim: 4 dim: 9 dim: 12 } } }
layer { name: "grouped" type: "Convolution" bottom: "data" top: "grouped" convolution_param {
        num_output: 6 group: 2 kernel_h: 1 kernel_w: 3 stride_w: 2 stride_h: 1 bias_term: false } }
layer { name: "bn" type: "BatchNorm" bottom: "grouped" top: "grouped" }
layer { name: "scale" type: "Scale" bottom: "grouped" top: "grouped"
        scale_param { bias_term: true } }
layer { name: "prelu" type: "PReLU" bottom: "grouped" top: "grouped" }
layer { name: "up" type: "Deconvolution" bottom: "grouped" top: "up"
        convolution_param { num_output: 4 kernel_size: 2 stride: 2 dilation: 2 group: 2 } }
layer { name: "rows" type: "InnerProduct" bottom: "up" top: "rows"
        inner_product_param { num_output: 7 axis: 2 transpose: true } }
layer { name: "again" type: "InnerProduct" bottom: "up" top: "again"
        param { name: "w" } param { name: "b" } inner_product_param { num_output: 3 axis: 3 } }
layer { name: "shared" type: "InnerProduct" bottom: "up" top: "shared"
        param { name: "w" } param { name: "b" } inner_product_param { num_output: 3 axis: 3 } }
"""


def net(text):
    return graph.build(prototxt.parse(text))


def one(text):
    return net(f'layer {{ name: "x" bottom: "b" top: "x" {text} }}').layers[0]


def costs(text):
    parsed = net(text)
    shapes = infer(parsed)
    return {each.name: layer_cost(shapes, index) for index, each in enumerate(parsed.layers)}


COUNT = """
import json, sys
import caffe
net = caffe.Net(sys.argv[1], caffe.TEST)
names = list(net._layer_names)
counts = dict((n, sum(b.count for b in l.blobs)) for n, l in zip(names, net.layers))
json.dump(counts, sys.stdout)
"""


@pytest.mark.parametrize("text", [LENET, MIXED])
def test_params_are_those_of_the_real_caffes_blobs(python_caffe, tmp_path, text):
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    done = subprocess.run(
        [python_caffe, "-c", COUNT, path], capture_output=True, text=True, check=True
    )
    real = json.loads(done.stdout)
    own = {name: cost.params for name, cost in costs(text).items()}
    assert own == {name: count for name, count in real.items() if not name.endswith("_split")}


def test_lenets_cost_is_the_known_one():
    known = total(infer(net(LENET)))
    assert (known.params, known.macs) == (431_080, 2_293_000)
    assert (known.all_params, known.all_macs) == (True, True)


def test_macs_are_weights_times_the_places_of_one_image_that_they_are_used_at():
    macs = {name: cost.macs for name, cost in costs(MIXED).items()}
    assert macs["grouped"] == 6 * 2 * 1 * 3 * (9 * 5)
    assert macs["up"] == 6 * 2 * 2 * 2 * (9 * 5)  # Of the bottom.
    height, width = 2 * 8 + 3, 2 * 4 + 3
    assert macs["rows"] == 7 * height * width * 4
    assert macs["again"] == 3 * width * 4 * height
    assert {macs[name] for name in ("bn", "scale", "prelu", "data")} == {0}


def test_params_that_layers_share_count_once():
    own = costs(MIXED)
    each = sum(cost.params for cost in own.values())
    assert total(infer(net(MIXED))).params == each - own["shared"].params


def test_a_cost_that_the_shapes_do_not_tell_is_unknown_and_the_total_says_so():
    text = LENET.replace('type: "Input"', 'type: "Data"')
    unknown = costs(text)
    assert (unknown["conv1"].params, unknown["conv1"].macs) == (None, None)
    assert (unknown["conv2"].params, unknown["conv2"].macs) == (25_050, None)
    sums = total(infer(net(text)))
    assert (sums.all_params, sums.all_macs) == (False, False)


def test_layers_whose_code_is_not_known_cost_what_nobody_knows():
    (cost,) = costs('layer { name: "p" type: "Python" top: "p" }').values()
    assert (cost.params, cost.macs) == (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kernel_size: 3", "Convolution 3×3, num_output 8"),
        ("kernel_h: 1 kernel_w: 7 pad_h: 0 pad_w: 3", "Convolution 1×7, num_output 8; pad 0×3"),
        ("kernel_size: 3 kernel_size: 5", "Convolution 3×5, num_output 8"),
        (
            "kernel_size: [3, 5, 7] stride: 2 stride: 1 stride: 2 dilation: 2 group: 4",
            "Convolution 3×5×7, num_output 8; stride 2×1×2; dilation 2; group 4",
        ),
        ("kernel_size: 1 stride: 1 pad: 0 dilation: 1 group: 1", "Convolution 1×1, num_output 8"),
        (
            "kernel_size: 3 stride: 2 pad: 1 bias_term: false",
            "Convolution 3×3, num_output 8; stride 2; pad 1; no bias",
        ),
        ("kernel_size: 3 stride_h: 2 stride_w: 2", "Convolution 3×3, num_output 8; stride 2"),
        ("", "Convolution, num_output 8"),
    ],
)
def test_a_convolution_is_described_in_full(text, expected):
    layer = one(f'type: "Convolution" convolution_param {{ num_output: 8 {text} }}')
    assert "; ".join((head(layer), *settings(layer))) == expected


def test_a_kernel_given_once_has_as_many_axes_as_the_bottom():
    layer = one('type: "Convolution" convolution_param { num_output: 8 kernel_size: 3 }')
    assert head(layer, spatial_axes=3) == "Convolution 3×3×3, num_output 8"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('type: "Pooling" pooling_param { kernel_size: 3 stride: 2 }', "Pooling MAX 3×3; stride 2"),
        (
            'type: "Pooling" pooling_param { pool: AVE kernel_h: 2 kernel_w: 4 pad_h: 1 pad_w: 2 }',
            "Pooling AVE 2×4; pad 1×2",
        ),
        (
            'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
            "Pooling AVE, global",
        ),
        (
            'type: "InnerProduct" inner_product_param { num_output: 10 axis: 2 transpose: true }',
            "InnerProduct, num_output 10; axis 2; transpose",
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 2 kernel_size: 4 }',
            "Deconvolution 4×4, num_output 2",
        ),
        ('type: "LRN" lrn_param { local_size: 5 alpha: 1e-4 }', "LRN; local_size 5; alpha 1e-4"),
        ('type: "Eltwise" eltwise_param { operation: PROD }', "Eltwise; operation PROD"),
        (
            'type: "Norm" norm_param { across_spatial: false scale_filler { value: 20 } }',
            "Norm; across_spatial false",
        ),
        (
            'type: "InnerProduct" param { lr_mult: 0 } inner_product_param { num_output: 1 }',
            "InnerProduct, num_output 1; lr_mult 0",
        ),
        (
            'type: "Convolution" param { name: "w" } convolution_param { num_output: 1 '
            "kernel_size: 1 }",
            "Convolution 1×1, num_output 1; param w",
        ),
        ('type: "Split"', "Split"),
    ],
)
def test_each_type_tells_what_its_text_sets_those_of_forks_too(text, expected):
    layer = one(text)
    assert "; ".join((head(layer), *settings(layer))) == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (9_999, "9,999"), (10_000, "10.0 k"), (999_499, "999 k"), (999_500, "1.00 M")),
        *((25_557_032, "25.6 M"), (4_089_184_256, "4.09 G"), (10**15, "1000 T")),
    ],
)
def test_large_numbers_are_short(number, text):
    assert short(number) == text


@given(st.integers(0, 10**14))
def test_a_short_number_is_right_in_its_digits(number):
    value, *letter = short(number).replace(",", "").split()
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[letter[0]] if letter else 1
    assert abs(float(value) * scale - number) <= 0.0051 * number


def test_settings_fill_a_few_lines_and_a_cut_is_told():
    assert wrapped(["stride 2", "pad 1"]) == ["stride 2, pad 1"]
    lines = wrapped([f"a_rather_long_setting {number}" for number in range(9)])
    assert len(lines) == 3
    assert lines[-1].endswith(", …")


def test_roles_are_told_by_the_names_that_splits_give():
    names = ["c_split1", "c_split2", "c_split2_skip", "c_split2_skip_sum", "c_concat", "c_reorder"]
    roles = [branches(names)[name].role for name in names]
    assert roles == ["fast", "slow", "added", "joined", "joined", "joined"]


def test_names_that_only_look_alike_are_no_split():
    names = ["inception_concat", "a_reorder", "b_split1", "c_split2", "data_split1_b", "_split1"]
    assert branches(names) == {}


def test_of_a_split_within_a_split_the_inner_one_tells_the_role():
    inner = ["c_split2_split1", "c_split2_split2", "c_split2_concat", "c_split2_reorder"]
    found = branches(["c_split1", *inner, "c_concat", "c_reorder"])
    assert {found[name].origin for name in inner} == {"c_split2"}
    assert [found[name].role for name in inner] == ["fast", "slow", "joined", "joined"]
    assert (found["c_split2"].origin, found["c_split2"].role) == ("c", "slow")
    assert found["c_reorder"].origin == "c"


def change(before, after):
    base, new = net(before), net(after)
    return compare(new, base, range(len(new.layers)), range(len(base.layers)))


def test_differences_are_told_by_field_old_value_and_new_value():
    before = 'layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param {'
    after = before.replace('"a"', '"b"')
    told = change(
        before + ' num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }',
        after + ' num_output: 8 kernel_size: 3 kernel_size: 5 weight_filler { type: "msra" } } '
        "param { lr_mult: 0.5 } }",
    ).changed
    assert set(told[0]) == {
        "bottom a → b", "num_output 4 → 8", "kernel_size 3 → 3, 5", "param 1 lr_mult unset → 0.5",
        "weight_filler type xavier → msra",
    }  # fmt: skip


def test_layers_of_one_name_are_told_apart_by_their_phases():
    def data(batch):
        sides = ((phase, size) for phase, size in (("TRAIN", 4), ("TEST", batch)))
        return "".join(
            f'layer {{ name: "d" type: "Data" top: "d" include {{ phase: {phase} }} '
            f"data_param {{ batch_size: {size} }} }}"
            for phase, size in sides
        )

    assert change(data(100), data(50)).changed == {1: ("batch_size 100 → 50",)}


@given(st.permutations(range(5)))
def test_order_and_formatting_are_no_change(order):
    layers = [f'layer {{ name: "l{number}" type: "Split" }}\n' for number in order]
    found = change("".join(sorted(layers)), "# Anew.\n" + "".join(layers))
    assert (found.added, found.changed, found.removed) == (frozenset(), {}, ())


def test_the_main_path_is_the_longest_and_shortcuts_are_not_on_it():
    chain = "".join(
        f'layer {{ name: "{top}" type: "Split" bottom: "{bottom}" top: "{top}" }}\n'
        for bottom, top in ("xa", "ab", "bc")
    )
    parsed = net(
        'layer { name: "x" type: "Input" top: "x" }\n'
        + chain
        + 'layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "c" top: "sum" }'
    )
    drawn = diagram(parsed, [infer(parsed)])
    assert drawn.main_path() == {(0, 1), (1, 2), (2, 3), (3, 4)}
    assert (0, 4) in {(edge.source, edge.target) for edge in drawn.edges}
