"""What is known of a net's shapes, and what stays unknown."""

import pytest
from drawn_layers import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.check import check_net
from caffesplit.net.shapes import infer

INPUT = 'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {} }} }} }}\n'
IMAGES = INPUT.format("dim: 2 dim: 4 dim: 9 dim: 9")
DATABASE = (
    'layer { name: "data" type: "Data" top: "data" top: "label" data_param { batch_size: 10 } }\n'
)
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"\n'
    "  convolution_param { num_output: 6 kernel_size: 3 } }\n"
)


def net(text):
    return graph.build(prototxt.parse(text, "net.prototxt"), "net.prototxt")


def layer(type_name, bottoms, tops, rest=""):
    blobs = " ".join([*(f'bottom: "{b}"' for b in bottoms), *(f'top: "{t}"' for t in tops)])
    return f'layer {{ name: "{tops[0]}" type: "{type_name}" {blobs} {rest} }}\n'


def partial(text, **state):
    return infer(net(text), **state).partial


def test_shapes_are_told_by_blob_and_by_layer():
    shapes = infer(net(IMAGES + CONV))
    assert shapes.blobs == {"data": (2, 4, 9, 9), "conv": (2, 6, 7, 7)}
    assert (shapes.bottoms, shapes.tops) == (
        {0: (), 1: ((2, 4, 9, 9),)},
        {0: ((2, 4, 9, 9),), 1: ((2, 6, 7, 7),)},
    )
    assert (shapes.learned(0), shapes.learned(1)) == ((), ((6, 4, 3, 3), (6,)))
    assert shapes.findings == ()


def test_in_place_layers_leave_a_blob_its_shape():
    text = IMAGES + CONV + layer("ReLU", ["conv"], ["conv"])
    shapes = infer(net(text))
    assert shapes.blobs == {"data": (2, 4, 9, 9), "conv": (2, 6, 7, 7)}
    assert shapes.bottoms[2] == shapes.tops[2] == ((2, 6, 7, 7),)


def test_each_state_has_its_own_shapes():
    text = IMAGES.replace("type:", "include { phase: TRAIN } type:")
    text += INPUT.format("dim: 1 dim: 4 dim: 5 dim: 5").replace(
        "type:", "include { phase: TEST stage: 'a' } type:"
    )
    assert infer(net(text + CONV)).blobs["conv"] == (2, 6, 7, 7)
    assert infer(net(text + CONV), phase="TEST", stages=["a"]).blobs["conv"] == (1, 6, 3, 3)
    assert infer(net(text + CONV), phase="TEST").blobs == {}


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ('type: "Data" data_param { batch_size: 8 }', (8, None, None, None)),
        (
            'type: "Data" transform_param { crop_size: 6 } data_param { batch_size: 8 }',
            (8, None, 6, 6),
        ),
        ('type: "ImageData" image_data_param { batch_size: 8 }', (8, 3, None, None)),
        (
            'type: "ImageData" image_data_param { is_color: false new_height: 5 new_width: 7 }',
            (1, 1, 5, 7),
        ),
        (
            'type: "ImageData" transform_param { crop_size: 4 } '
            "image_data_param { new_height: 5 new_width: 7 }",
            (1, 3, 4, 4),
        ),
        (
            'type: "WindowData" transform_param { crop_size: 6 } '
            "window_data_param { batch_size: 8 }",
            (8, None, 6, 6),
        ),
    ],
)
def test_of_data_the_batch_the_crop_and_the_colours_are_known(fields, shape):
    text = f'layer {{ name: "data" top: "data" top: "label" {fields} }}\n'
    assert partial(text) == {"data": shape, "label": shape[:1]}


def test_channels_are_known_where_height_and_width_are_not():
    text = DATABASE + CONV + layer("ReLU", ["conv"], ["relu"])
    text += layer("InnerProduct", ["relu"], ["ip"], "inner_product_param { num_output: 5 }")
    shapes = infer(net(text + layer("SoftmaxWithLoss", ["ip", "label"], ["loss"])))
    assert shapes.partial["relu"] == (10, 6, None, None)
    assert shapes.blobs == {"label": (10,), "ip": (10, 5), "loss": ()}
    assert shapes.findings == ()


def test_faults_are_found_in_what_is_known_of_partly_known_shapes():
    text = DATABASE + CONV + CONV.replace('"conv"', '"more"').replace("output: 6", "output: 5")
    text += layer("Eltwise", ["conv", "more"], ["sum"])
    (finding,) = infer(net(text)).findings
    assert str(finding) == (
        "net.prototxt:6:1: error: layer 'sum': bottoms (10, 6, ?, ?) and (10, 5, ?, ?), expected "
        "equal shapes [equal-shapes]"
    )


def test_a_shape_that_is_given_completes_what_the_prototxt_tells():
    inputs = {"data": (10, 3, 9, 9)}
    shapes = infer(net(DATABASE + CONV), inputs)
    assert shapes.blobs == {"data": (10, 3, 9, 9), "label": (10,), "conv": (10, 6, 7, 7)}
    assert shapes.learned(1) == ((6, 3, 3, 3), (6,))


def test_given_data_comes_with_as_many_labels_and_given_tops_win_over_the_prototxt():
    assert infer(net(DATABASE), {"data": (2, 1, 4, 4)}).blobs["label"] == (2,)
    assert infer(net(IMAGES + CONV), {"data": (1, 4, 5, 5)}).blobs["conv"] == (1, 6, 3, 3)
    python = layer("Python", [], ["data"])
    assert infer(net(python + CONV), {"data": (1, 4, 5, 5)}).blobs["conv"] == (1, 6, 3, 3)


@pytest.mark.parametrize(
    ("header", "shapes"),
    [
        ('input: "data" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4', (1, 2, 3, 4)),
        ('input: "data" input_dim: [1, 2, 3, 4]', (1, 2, 3, 4)),
        ('input: "data" input_shape { dim: 1 dim: 2 dim: 3 }', (1, 2, 3)),
        ('input: "data"', None),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_inputs_of_a_net_have_their_shapes_from_its_head(header, shapes, old):
    relu = layer("ReLU", ["data"], ["relu"])
    relu = relu.replace("layer", "layers", 1).replace('"ReLU"', "RELU") if old else relu
    expected = {} if shapes is None else {"data": shapes, "relu": shapes}
    assert infer(net(f"{header}\n{relu}")).blobs == expected


def test_old_nets_have_the_same_shapes():
    text = (
        'layers { name: "data" type: DATA top: "data" top: "label"\n'
        "  data_param { batch_size: 5 crop_size: 8 } }\n"
        'layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv"\n'
        "  convolution_param { num_output: 6 kernel_size: 3 } }\n"
        'layers { name: "flat" type: FLATTEN bottom: "conv" top: "flat" }\n'
    )
    assert infer(net(text)).blobs == {"label": (5,), "conv": (5, 6, 6, 6), "flat": (5, 216)}


def test_what_is_unknown_stays_so_and_losses_are_scalars_all_the_same():
    text = layer("Python", [], ["data"]) + layer("HDF5Data", [], ["label"]) + CONV
    text += layer("Concat", ["conv", "label"], ["concat"])
    text += layer("Accuracy", ["concat", "label"], ["accuracy", "classes"])
    shapes = infer(net(text))
    assert (shapes.partial, shapes.findings) == ({"accuracy": ()}, ())
    assert (shapes.bottoms[3], shapes.tops[3]) == ((None, None), (None,))


def test_an_input_without_a_shape_is_unknown_since_it_is_given_one_later():
    text = IMAGES.replace("input_param { shape { dim: 2 dim: 4 dim: 9 dim: 9 } }", "")
    assert partial(text + CONV) == {}


def test_behind_a_fault_nothing_is_known_and_nothing_more_is_found():
    text = IMAGES + CONV.replace("kernel_size: 3", "kernel_size: 30")
    text += layer("Eltwise", ["data", "conv"], ["sum"])
    shapes = infer(net(text))
    assert [finding.rule for finding in shapes.findings] == ["windows"]
    assert shapes.blobs == {"data": (2, 4, 9, 9)}


def test_a_layer_that_is_faulty_by_itself_is_unknown_and_no_finding_of_its_shapes():
    shapes = infer(net(IMAGES + CONV.replace("kernel_size: 3", "kernel_size: 0")))
    assert (shapes.blobs, shapes.findings) == ({"data": (2, 4, 9, 9)}, ())


@pytest.mark.parametrize(
    "fork",
    [
        "pooling_param { kernel_size: 2 ceil_mode: false }",
        "pooling_param { kernel_size: 2 } padding_param { pad: 1 }",
    ],
)
def test_a_layer_with_a_forks_parameters_is_unknown(fork):
    assert partial(IMAGES + layer("Pooling", ["data"], ["pool"], fork)) == {"data": (2, 4, 9, 9)}


def test_a_forks_fields_elsewhere_change_no_shape():
    text = IMAGES + CONV.replace("convolution_param", "forward_type: FLOAT16 convolution_param")
    assert partial(text)["conv"] == (2, 6, 7, 7)


def test_pooling_rounds_up_and_cuts_only_padded_windows_that_start_behind_the_image():
    def pooled(size, fields):
        text = INPUT.format(f"dim: 1 dim: 1 dim: {size} dim: {size}")
        return partial(text + layer("Pooling", ["data"], ["x"], f"pooling_param {{ {fields} }}"))[
            "x"
        ][2]

    assert pooled(4, "kernel_size: 1 stride: 3") == 2
    assert pooled(5, "kernel_size: 1 stride: 3") == 3
    assert pooled(5, "kernel_size: 2 stride: 4 pad: 1") == 2
    assert pooled(8, "kernel_size: 3 stride: 2") == 4
    assert pooled(8, "kernel_size: 3 stride: 2 round_mode: FLOOR") == 3


def test_a_kernel_larger_than_its_bottom_by_less_than_the_stride_has_one_window():
    text = INPUT.format("dim: 1 dim: 1 dim: 2 dim: 2")
    text += CONV.replace("kernel_size: 3", "kernel_size: 3 stride: 2")
    assert partial(text)["conv"] == (1, 6, 1, 1)


def test_check_finds_them_in_every_phase_and_takes_shapes_of_data():
    text = DATABASE + CONV.replace("kernel_size: 3", "kernel_size: 3 group: 2")
    assert check_net(net(text)) == ()
    (finding,) = check_net(net(text), {"data": (10, 3, 9, 9)})
    assert (finding.rule, finding.states) == ("groups", ())


def test_a_fault_of_one_phase_names_it():
    text = IMAGES.replace("type:", "include { phase: TRAIN } type:")
    text += INPUT.format("dim: 1 dim: 4 dim: 1 dim: 1").replace(
        "type:", "include { phase: TEST } type:"
    )
    (finding,) = check_net(net(text + CONV))
    assert str(finding).endswith("1 window or more on each axis, in phase TEST [windows]")


layers = st.one_of(*(strategy for strategy, _ in FAMILIES.values()))


@settings(max_examples=300, deadline=None)
@given(layers, st.data())
def test_who_knows_less_finds_no_more_and_infers_nothing_else(text, data):
    made = net(text)
    known = infer(made)
    erased = {
        name: tuple(data.draw(st.sampled_from([size, None])) for size in shape)
        for name, shape in known.blobs.items()
        if name.startswith("b")
    }
    less = infer(made, erased)
    if not known.findings:
        assert less.findings == ()
        assert all(
            len(shape) == len(known.partial[name])
            and all(
                size in (None, full) for size, full in zip(shape, known.partial[name], strict=True)
            )
            for name, shape in less.partial.items()
        )
