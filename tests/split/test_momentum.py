import numpy as np
import pytest

from caffesplit.errors import SplitError, WeightsError
from caffesplit.formats import prototxt, schema
from caffesplit.net import graph
from caffesplit.split.forms import Setting
from caffesplit.split.momentum import carried_history, parameters, solver_type
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, split

NET = """
layer { name: "data" type: "Input" top: "data" }
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }
layer { name: "conv" type: "Convolution" bottom: "bn" top: "conv"
        convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
        inner_product_param { num_output: 4 transpose: true bias_term: false } }
"""
SHAPES = {
    "bn": [(2,), (2,), (1,)],
    "conv": [(3, 2, 1, 1), (3,)],
    "ip": [(5, 4)],
}


def net_and_weights(text=NET, shapes=SHAPES):
    rng = np.random.default_rng(0)
    weights = {
        name: [rng.standard_normal(shape).astype(np.float32) for shape in each]
        for name, each in shapes.items()
    }
    return graph.build(prototxt.parse(text)), weights


def plan(*layers):
    return Plan(tuple(LayerPlan(*layer) for layer in layers), (0, 10), (0, 10))


def history_of(base, rows):
    """Numbers that tell the row, the blob and the element: 1000·row + 100·blob + element."""
    return [
        1000 * row + 100 * number + np.arange(np.prod(each.shape)).reshape(each.shape)
        for row in range(rows)
        for number, each in enumerate(base)
    ]


def carried(a_plan, kind="SGD", text=NET, shapes=SHAPES, **setting):
    """The carried history by (row, layer, blob), and the shapes of the derived net's blobs."""
    net, weights = net_and_weights(text, shapes)
    change = split(net, weights, a_plan, Setting(**setting))
    new = {part.name: part.blobs for parts in change.parts.values() for part in parts}
    base = parameters(net.layers, weights)
    derived = parameters(rewrite_net(net, change).layers, weights | new)
    rows = 2 if kind in ("Adam", "AdaDelta") else 1
    found = carried_history(history_of(base, rows), kind, base, derived, a_plan, change)
    keys = [(row, each.layer, each.blob) for row in range(rows) for each in derived]
    assert [blob.shape for blob in found] == [each.shape for each in derived] * rows
    return dict(zip(keys, found, strict=True))


def test_parameters_stand_in_the_nets_order_each_layers_blobs_in_theirs():
    net, weights = net_and_weights()
    backwards = dict(reversed(weights.items()))
    assert parameters(net.layers, backwards) == (
        ("bn", 0, (2,)),
        ("bn", 1, (2,)),
        ("bn", 2, (1,)),
        ("conv", 0, (3, 2, 1, 1)),
        ("conv", 1, (3,)),
        ("ip", 0, (5, 4)),
    )


def test_a_parameter_that_layers_share_counts_once_where_it_comes_first():
    net = graph.build(
        prototxt.parse(
            """
            layer { name: "a" type: "Convolution" param { name: "w" } param { } }
            layer { name: "b" type: "Convolution" param { name: "w" } param { name: "c" } }
            layer { name: "c" type: "Convolution" param { } param { name: "c" } }
            """
        )
    )
    blobs = [np.zeros((2, 2)), np.zeros(2)]
    found = parameters(net.layers, dict.fromkeys("abc", blobs))
    assert [each[:2] for each in found] == [("a", 0), ("a", 1), ("b", 1), ("c", 0)]


def test_kernels_take_their_rows_along_and_added_layers_start_from_zeros():
    found = carried(plan(("conv", "extension", "half", (2, 0), (1,))))
    assert found[0, "conv_split1", 0].tolist() == [[[[300]], [[301]]], [[[304]], [[305]]]]
    assert found[0, "conv_split1", 1].tolist() == [400, 402]
    assert found[0, "conv_split2", 0].tolist() == [[[[302]], [[303]]]]
    assert found[0, "conv_split2", 1].tolist() == [401]
    for name in ("conv_split2_extension", "conv_reorder"):
        assert not found[0, name, 0].any()
        assert not found[0, name, 1].any()


def test_layers_left_alone_keep_all_of_theirs():
    found = carried(plan(("conv", "residual", "half", (0,), (1, 2))))
    assert found[0, "bn", 1].tolist() == [100, 101]
    assert found[0, "ip", 0].tolist() == (500 + np.arange(20).reshape(5, 4)).tolist()


def test_a_transposed_inner_product_carries_columns():
    found = carried(plan(("ip", "extension", "half", (1, 3), (0, 2))))
    whole = 500 + np.arange(20).reshape(5, 4)
    assert found[0, "ip_split1", 0].tolist() == whole[:, [1, 3]].tolist()
    assert found[0, "ip_split2", 0].tolist() == whole[:, [0, 2]].tolist()


@pytest.mark.parametrize("kind", ["Adam", "AdaDelta"])
def test_where_there_are_two_rows_all_first_ones_come_first(kind):
    found = carried(plan(("conv", "extension", "half", (0, 1), (2,))), kind)
    names = [name for _, name, _ in found]
    assert names[: len(names) // 2] == names[len(names) // 2 :]
    assert found[0, "conv_split2", 1].tolist() == [402]
    assert found[1, "conv_split2", 1].tolist() == [1402]
    assert found[1, "bn", 2].tolist() == [1200]


def test_what_preserve_takes_from_the_weights_it_leaves_in_the_momentum():
    method = ("conv", "residual", "half", (0,), (1, 2))
    as_ever, preserved = carried(plan(method)), carried(plan(method), preserve=True)
    for key, blob in as_ever.items():
        np.testing.assert_array_equal(preserved[key], blob)


def test_blobs_of_old_files_with_four_axes_carry_rows_too():
    old = SHAPES | {"conv": [(3, 2, 1, 1), (1, 1, 1, 3)]}
    found = carried(plan(("conv", "extension", "half", (0, 2), (1,))), shapes=old)
    assert found[0, "conv_split1", 1].tolist() == [400, 402]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "SGD"),
        ('type: "AdaDelta"', "AdaDelta"),
        ("solver_type: SGD", "SGD"),
        ("solver_type: NESTEROV", "Nesterov"),
        ("solver_type: ADAGRAD", "AdaGrad"),
        ("solver_type: RMSPROP", "RMSProp"),
        ("solver_type: ADADELTA", "AdaDelta"),
        ("solver_type: ADAM", "Adam"),
    ],
)
def test_a_solvers_type_is_its_name_or_the_old_enum(text, kind):
    message = schema.read(prototxt.parse(f"base_lr: 1 {text}"), "SolverParameter").message
    assert solver_type(message) == kind


def test_the_history_of_a_type_that_is_not_caffes_is_not_known():
    message = schema.read(prototxt.parse('type: "AdamW"'), "SolverParameter").message
    with pytest.raises(SplitError) as caught:
        solver_type(message)
    assert str(caught.value) == (
        "a solver of type 'AdamW', expected one whose history is known: SGD, Nesterov, AdaGrad, "
        "RMSProp, AdaDelta, Adam\nSplit without --momentum."
    )


def test_a_history_of_another_solver_or_net_is_refused():
    net, weights = net_and_weights()
    base = parameters(net.layers, weights)
    a_plan = plan()
    change = split(net, weights, a_plan, Setting())
    with pytest.raises(WeightsError) as caught:
        carried_history(history_of(base, 1), "Adam", base, base, a_plan, change)
    assert str(caught.value) == (
        "a history of 6 blobs, expected 12: 2 for each of the net's 6 learnable blobs, as solvers "
        "of type Adam have it\nIs the state of this net, and of this type of solver?"
    )
    other = [*history_of(base, 1)[:-1], np.zeros((4, 4))]
    with pytest.raises(WeightsError) as caught:
        carried_history(other, "SGD", base, base, a_plan, change)
    assert str(caught.value) == (
        "history blob 5 of shape (4, 4), expected (5, 4), as blob 0 of layer 'ip'\n"
        "Is the state of this net?"
    )
