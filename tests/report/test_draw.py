"""Drawings, as Graphviz reads them."""

from pathlib import Path

import pytest
from graphviz_json import Drawing

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.shapes import infer
from caffesplit.report.draw import dot
from caffesplit.split.plan import LayerPlan, Plan

DATA = Path(__file__).parent.parent / "data/draw"


def net(text):
    return graph.build(prototxt.parse(text))


def layer(name, kind, bottom="", top="", more=""):
    bottoms = "".join(f'bottom: "{each}" ' for each in bottom.split())
    tops = "".join(f'top: "{each}" ' for each in (top or name).split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms}{tops}{more} }}\n'


def conv(name, bottom, num_output=4, more="", top=""):
    param = f"convolution_param {{ num_output: {num_output} kernel_size: 3 pad: 1 {more} }}"
    return layer(name, "Convolution", bottom, top, param)


INPUT = layer("data", "Input", more="input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } }")


def test_layers_are_boxes_and_blobs_are_edges_with_their_shapes():
    drawing = Drawing(dot(net(INPUT + conv("conv1", "data") + conv("conv2", "conv1", 5))))
    assert drawing.edges == {("data", "conv1", "2×3×8×8"), ("conv1", "conv2", "2×4×8×8")}
    assert drawing.boxes == {
        "data": ["data", "Input", "dim 2, 3, 8, 8"],
        "conv1": ["conv1", "Convolution 3×3, num_output 4", "pad 1", "112 params, 6,912 MACs"],
        "conv2": [
            *("conv2", "Convolution 3×3, num_output 5", "pad 1", "185 params, 11.5 k MACs"),
            "→ conv2 2×5×8×8",
        ],
    }


def test_a_blob_of_another_name_than_its_layer_is_named():
    drawing = Drawing(dot(net(INPUT + conv("conv1", "data", top="x") + conv("conv2", "x"))))
    assert ("conv1", "conv2", "x: 2×4×8×8") in drawing.edges


def test_sizes_that_are_not_known_are_written_so_and_unknown_shapes_left_out():
    data = layer("d", "Data", top="data label", more="data_param { batch_size: 2 }")
    fork = layer("f", "ForkLayer", "conv1")
    drawing = Drawing(dot(net(data + conv("conv1", "data") + fork + conv("conv2", "f"))))
    assert drawing.edges == {
        ("d", "conv1", "data: 2×?×?×?"),
        ("conv1", "f", "2×4×?×?"),
        ("f", "conv2", ""),
    }
    assert drawing.boxes["conv1"] == ["conv1", "Convolution 3×3, num_output 4", "pad 1"]
    assert "at least 8 params" in drawing.title[1]


def test_shapes_tell_what_the_prototxt_does_not():
    data = layer("data", "Data", more="data_param { batch_size: 2 }")
    parsed = net(data + conv("conv1", "data"))
    drawing = Drawing(dot(parsed, shapes=infer(parsed, {"data": (2, 3, 8, 8)})))
    assert drawing.edges == {("data", "conv1", "2×3×8×8")}
    assert drawing.title[1] == "2 layers, 112 params, 6,912 MACs per image"


def test_layers_in_place_are_in_the_box_of_what_they_work_on():
    relu = layer("relu", "ReLU", "conv1", "conv1", "relu_param { negative_slope: 0.1 }")
    scale = layer("scale", "Scale", "conv1", "conv1", "scale_param { bias_term: true }")
    drawing = Drawing(dot(net(INPUT + conv("conv1", "data") + scale + relu + conv("c2", "conv1"))))
    assert drawing.boxes.keys() == {"data", "conv1", "c2"}
    assert drawing.boxes["conv1"][4:] == [
        *("scale", "Scale, bias_term true, 8 params"),
        *("relu", "ReLU, negative_slope 0.1"),
    ]
    assert ("conv1", "c2", "2×4×8×8") in drawing.edges


def test_a_layer_in_place_has_a_box_of_its_own_where_another_reads_past_it():
    before, relu = layer("pool", "Pooling", "conv1"), layer("relu", "ReLU", "conv1", "conv1")
    drawing = Drawing(dot(net(INPUT + conv("conv1", "data") + before + relu + conv("c2", "conv1"))))
    assert {edge[:2] for edge in drawing.edges} == {
        ("data", "conv1"), ("conv1", "pool"), ("conv1", "relu"), ("relu", "c2"),
    }  # fmt: skip


PHASES = (
    layer("data", "Data", top="data label", more="include { phase: TRAIN }")
    + layer("data", "Data", top="data label", more="include { phase: TEST }")
    + conv("conv1", "data")
    + layer("loss", "SoftmaxWithLoss", "conv1 label")
    + layer("accuracy", "Accuracy", "conv1 label", more="include { phase: TEST }")
)


def test_the_data_of_both_phases_is_one_box_and_layers_of_one_phase_are_marked():
    drawing = Drawing(dot(net(PHASES)))
    assert drawing.boxes["data"] == ["TRAIN only", "data", "Data", "data", "Data, TEST only"]
    assert drawing.boxes["accuracy"] == ["TEST only", "accuracy", "Accuracy"]
    assert drawing.boxes["loss"] == ["loss", "SoftmaxWithLoss"]


@pytest.mark.parametrize(
    ("phase", "layers"),
    [("TRAIN", {"data", "conv1", "loss"}), ("TEST", {"data", "conv1", "loss", "accuracy"})],
)
def test_a_phase_has_its_own_layers(phase, layers):
    drawing = Drawing(dot(net(PHASES), phase=phase))
    assert drawing.boxes.keys() == layers
    assert drawing.boxes["data"] == [f"{phase} only", "data", "Data"]


def test_data_and_losses_differ_from_the_rest_in_colour_and_shape():
    drawing = Drawing(dot(net(PHASES)))
    looks = [drawing.look(name) for name in ("data", "conv1", "loss")]
    assert [look["shape"] for look in looks] == ["cylinder", "box", "octagon"]
    assert len({look["fillcolor"] for look in looks}) == 3
    assert drawing.look("accuracy")["shape"] == "octagon"


def test_the_branches_of_a_split_are_coloured_named_and_in_one_frame():
    before = net((DATA.parent / "rewrite/residual.before.prototxt").read_text())
    after = net((DATA.parent / "rewrite/residual.after.prototxt").read_text())
    split = next(each.name for each in before.layers if not after.named(each.name))
    drawing = Drawing(dot(after))
    signs = {f"{split}_split1": "fast", f"{split}_split2": "slow", f"{split}_reorder": "joined"}
    signs[f"{split}_split2_residual_pre"] = "added"
    for name, sign in signs.items():
        assert drawing.boxes[name][0] == sign
    assert len({drawing.look(name)["fillcolor"] for name in signs}) == 4
    ((label, inside),) = drawing.clusters.items()
    assert label.startswith(f"{split} split into 7 layers")
    assert inside == {each.name for each in after.layers if each.name.startswith(f"{split}_")}
    assert {"fast kernels", "slow kernels", "added", "joined"} <= set(drawing.title)


def test_a_plan_tells_the_parts_mean_tpm():
    parts = conv("c_split1", "data", 1) + conv("c_split2", "data", 2)
    layers = (LayerPlan("c", "residual", "half", (1,), (0, 2), (0.2, 0.9, None)),)
    drawing = Drawing(dot(net(INPUT + parts), change=Plan(layers, (0, 2), (0, 1, 2))))
    assert "mean TPM 0.900" in drawing.boxes["c_split1"]
    assert "mean TPM 0.200" in drawing.boxes["c_split2"]


def test_what_was_added_removed_and_changed_since_the_base_is_marked():
    pool = layer("pool", "Pooling", "conv1", more="pooling_param { kernel_size: 2 }")
    base = net(INPUT + conv("conv1", "data") + pool + conv("conv2", "pool"))
    new = layer("new", "LRN", "conv1")
    drawing = Drawing(dot(net(INPUT + conv("conv1", "data", 8) + new + conv("conv2", "new")), base))
    assert drawing.boxes["conv1"][0] == "~ changed"
    assert "num_output 4 → 8" in drawing.boxes["conv1"]
    assert drawing.boxes["new"][0] == "+ new"
    assert drawing.boxes["pool"][:2] == ["− removed", "pool"]
    assert "bottom pool → new" in drawing.boxes["conv2"]
    assert {("conv1", "pool", ""), ("pool", "conv2", "")} <= drawing.edges
    assert "dashed" in drawing.look("pool")["style"]
    assert drawing.title[2].startswith("1 added, 1 removed, 2 changed; base: 4 layers, ")


def test_a_layer_in_place_that_was_removed_hangs_on_what_it_worked_on():
    drop = layer("drop", "Dropout", "conv1", "conv1")
    base = net(INPUT + conv("conv1", "data") + drop)
    drawing = Drawing(dot(net(INPUT + conv("conv1", "data")), base))
    assert drawing.boxes["drop"][:2] == ["− removed", "drop"]
    assert ("conv1", "drop", "") in drawing.edges


def test_an_equal_base_changes_nothing_but_the_title():
    parsed = net(PHASES)
    alone, compared = Drawing(dot(parsed)), Drawing(dot(parsed, parsed))
    assert (alone.boxes, alone.edges) == (compared.boxes, compared.edges)
    assert compared.title[2].startswith("0 added, 0 removed, 0 changed; base: 5 layers")


def test_a_layer_that_was_split_stands_in_the_frame_of_what_it_became():
    before = net((DATA.parent / "rewrite/residual.before.prototxt").read_text())
    after = net((DATA.parent / "rewrite/residual.after.prototxt").read_text())
    split = next(each.name for each in before.layers if not after.named(each.name))
    drawing = Drawing(dot(after, before))
    ((_, inside),) = drawing.clusters.items()
    assert split in inside
    assert drawing.boxes[split][0] == "− removed"
    assert drawing.boxes[f"{split}_split1"][0] == "+ new · fast"


def test_a_layer_of_a_split_that_was_split_again_has_a_frame_in_the_frame():
    parts = "".join(conv(f"c_split2_{part}", "data") for part in ("split1", "split2"))
    parts += layer("c_split2_concat", "Concat", "c_split2_split1 c_split2_split2")
    parts += conv("c_split1", "data") + layer("c_concat", "Concat", "c_split1 c_split2_concat")
    inner, outer = sorted(Drawing(dot(net(INPUT + parts))).clusters.values(), key=len)
    assert inner == {"c_split2_split1", "c_split2_split2", "c_split2_concat"}
    assert outer == inner | {"c_split1", "c_concat"}


def test_old_nets_are_drawn_as_caffe_reads_them():
    old = """input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 8
    layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
             convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }"""
    new = INPUT.replace('name: "data"', 'name: "input"') + conv("conv1", "data")
    assert dot(net(old)) == dot(net(new))


@pytest.mark.parametrize("name", ["residual", "residual_of_base", "phases"])
def test_the_source_is_the_one_that_was_looked_at(name):
    """Before new ones are committed, their pictures are to be looked at: `dot -Tpng FILE.dot`."""
    assert (DATA / f"{name}.dot").read_text() == sources()[name]


def sources():
    nets = {
        side: net((DATA.parent / f"rewrite/residual.{side}.prototxt").read_text())
        for side in ("before", "after")
    }
    return {
        "residual": dot(nets["after"]),
        "residual_of_base": dot(nets["after"], nets["before"]),
        "phases": dot(net(PHASES)),
    }


@pytest.mark.parametrize(("losses", "edges"), [(4, 4), (5, 0)])
def test_a_label_that_many_losses_read_is_named_in_their_boxes(losses, edges):
    text = layer("data", "Data", top="data label", more="data_param { batch_size: 2 }")
    text += conv("conv1", "data")
    names = [f"loss{number}" for number in range(losses)]
    text += "".join(layer(name, "HingeLoss", "conv1 label") for name in names)
    drawing = Drawing(dot(net(text)))
    assert sum(edge[::2] == ("data", "label: 2") for edge in drawing.edges) == edges
    assert ("← label 2" in drawing.boxes["loss0"]) == (not edges)
