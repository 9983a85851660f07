"""The text of a split's layers: an edit of the base layer's that can be undone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.split.forms import Setting
from caffesplit.split.plan import LayerPlan, Plan
from caffesplit.split.rewrite import rewrite_net, split

PLAN = Plan((LayerPlan("X", "residual", "half", (0, 3), (1, 2)),), (0, 1), (0, 1))


def derived(text, method="residual", **setting):
    net = graph.build(prototxt.parse(text))
    weights = {"X": [np.ones((4, 2, 3, 3), np.float32), np.ones(4, np.float32)]}
    plan = replace(PLAN, layers=(replace(PLAN.layers[0], method=method),))
    return net, rewrite_net(net, split(net, weights, plan, Setting(**setting)))


def undone(base, made):
    """The text with X_split1 in the place of all parts, its three values those of the base."""
    (layer,) = base.named("X")
    parts = [each.field for each in made.layers if each.name.startswith("X_")]
    message, own = parts[0].as_message(), layer.field.as_message()
    for name in ("name", "top"):
        message = message.replaced(
            message.get(name), message.get(name).with_value(own.get(name).value)
        )
    parameter = message.get("convolution_param")
    number = own.get("convolution_param").as_message().get("num_output").value
    inner = parameter.as_message()
    inner = inner.replaced(inner.get("num_output"), inner.get("num_output").with_value(number))
    message = message.replaced(parameter, parameter.with_value(inner))
    field = replace(parts[0].with_value(message), trail=parts[-1].trail)
    fields = made.tree.fields
    first = next(index for index, each in enumerate(fields) if each is parts[0])
    kept = (*fields[:first], field, *fields[first + len(parts) :])
    return str(replace(made.tree, fields=kept))


@st.composite
def layouts(draw):
    """The text of a net with a convolution X, laid out in any way that people may."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    between = [" ", newline, f"{newline}  ", f"  # words{newline}", "; ", ",", f" ;{newline}\t"]
    opening = ["", " ", newline, f" # words{newline}", f"{newline}\t  "]

    def gap(choices=between):
        return draw(st.sampled_from(choices))

    def string(value):
        mark = draw(st.sampled_from("\"'"))
        return f"{mark}{value}{mark}"

    def message(name, fields):
        open_, close = draw(st.sampled_from(["{}", "<>"]))
        joint = draw(st.sampled_from(["", " ", ": "]))
        body = "".join(field + gap() for field in fields)
        return f"{name}{joint}{open_}{gap(opening)}{body}{gap(opening)}{close}"

    def layer(name, bottom, top):
        top_text = draw(st.sampled_from([f"top: {string(top)}", f"top: [ {string(top)} ]"]))
        parameter = draw(st.permutations(["num_output: 4", "kernel_size:3", "fork_field : 7"]))
        fields = [
            f"name: {string(name)}",
            f"type: {string('Convolution')}",
            f"bottom: {string(bottom)}",
            top_text,
            message("convolution_param", parameter),
            *[message("param", ["lr_mult: 2"])] * draw(st.integers(0, 2)),
        ]
        return message("layer", draw(st.permutations(fields)))

    layers = [
        f"input: {string('data')}",
        layer("first", "data", "a b"),
        layer("X", "a b", "x"),
        layer("last", "x", "out"),
    ]
    return gap(opening) + "".join(each + gap() for each in layers) + gap(opening)


@given(layouts(), st.sampled_from(["residual", "extension", "skip"]))
def test_setting_name_top_and_num_output_back_gives_the_bases_text(text, method):
    base, made = derived(text, method)
    assert undone(base, made) == text


@given(layouts())
def test_all_other_layers_keep_their_text(text):
    base, made = derived(text)
    for name in ("first", "last"):
        assert str(made.named(name)[0].field).strip() == str(base.named(name)[0].field).strip()


LAYER = """layer {{
  name: {name} type: "Convolution" bottom: "data" top: {top}
  convolution_param {{ num_output: 4 kernel_size: 3 }}
}}
"""


@pytest.mark.parametrize(
    ("name", "top", "split1"),
    [
        ('"X"', '"x"', 'name: "X_split1" type: "Convolution" bottom: "data" top: "X_split1"'),
        ("'X'", '"x"', 'name: \'X_split1\' type: "Convolution" bottom: "data" top: "X_split1"'),
        ('"X"', "['x']", "top: ['X_split1']"),
        ('"X"', "[] top: 'x'", "top: [] top: 'X_split1'"),
        ('"X"', "'x' top: []", "top: 'X_split1' top: []"),
    ],
)
def test_a_carried_layer_keeps_its_quotes_and_lists(name, top, split1):
    assert split1 in str(derived(LAYER.format(name=name, top=top))[1].tree)


@pytest.mark.parametrize("name", ["it's", 'say "x"', "back\\slash", "both ' and \""])
@pytest.mark.parametrize("mark", ["'", '"'])
def test_a_name_of_any_letters_stays_what_it_is(name, mark):
    escaped = name.replace("\\", "\\\\").replace(mark, "\\" + mark)
    text = LAYER.format(name=f"{mark}{escaped}{mark}", top='"x"')
    net = graph.build(prototxt.parse(text))
    weights = {name: [np.ones((4, 2, 3, 3), np.float32), np.ones(4, np.float32)]}
    plan = replace(PLAN, layers=(replace(PLAN.layers[0], name=name),))
    made = rewrite_net(net, split(net, weights, plan, Setting()))
    assert made.layers[0].name == f"{name}_split1"
    assert str(made.tree).splitlines()[1].startswith(f"  name: {mark}")


def test_separators_and_comments_behind_what_is_copied_stay_behind():
    text = LAYER.format(name='"X"', top='"x"; include { phase: TRAIN },  # in training')
    made = derived(text)[1]
    for layer in made.layers:
        if layer.name.endswith(("_pre", "_post", "_sum", "_concat", "_reorder")):
            assert "  include { phase: TRAIN }\n" in str(layer.field)
