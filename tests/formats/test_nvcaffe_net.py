"""NVCaffe's net texts: translated where BVLC's Caffe says it otherwise, and no letter more."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from caffesplit.errors import NetError
from caffesplit.formats import nvcaffe_net, prototxt, schema

DATA = Path(__file__).parent.parent / "data/convert"
SCALES = {"bn1": "bn1_scale", "bn3": "bn3_scale"}


def convert(text: str, names=SCALES, is_nvcaffes: bool = False) -> str:
    return str(nvcaffe_net.convert(prototxt.parse(text), names, is_nvcaffes).tree)


def norm(fields: str, name: str = "bn1") -> str:
    head = f'layer {{\n  name: "{name}"\n  type: "BatchNorm"\n  bottom: "x"\n  top: "y"\n'
    return f"{head}  {fields}\n}}"


def test_a_net_of_nvcaffe_becomes_one_of_bvlc_and_keeps_its_comments():
    before = (DATA / "nvcaffe.prototxt").read_text()

    converted = nvcaffe_net.convert(prototxt.parse(before), SCALES)

    assert str(converted.tree) == (DATA / "bvlc.prototxt").read_text()
    assert converted.notes == (
        "net: BatchNorm layers → BatchNorm and Scale: 2",
        "net: left out cudnn_convolution_algo_seeker ×1, default_backward_type ×1, "
        "default_forward_type ×1, engine ×1, eps ×1, forward_type ×1, param ×5, random_seed ×1, "
        "use_global_stats ×1",
    )


def test_every_field_of_a_converted_net_is_one_that_bvlc_knows():
    assert schema.read(prototxt.load(DATA / "nvcaffe.prototxt"), "NetParameter").unknown
    assert not schema.read(prototxt.load(DATA / "bvlc.prototxt"), "NetParameter").unknown


def test_a_converted_net_stays_as_it_is():
    after = (DATA / "bvlc.prototxt").read_text()

    assert convert(after, names={}) == after


def test_a_net_of_bvlc_stays_as_it_is():
    frozen = "param { lr_mult: 0 }\n  batch_norm_param { use_global_stats: true eps: 1e-9 }"
    text = f"# BVLC's\n{norm(frozen)}\n" + 'layers { name: "old" type: BNLL }\n'

    assert convert(text, names={}) == text


def test_what_nvcaffe_does_not_heed_goes_once_the_weights_are_its_own():
    frozen = "param { lr_mult: 1 }\n  batch_norm_param { use_global_stats: false }"

    assert convert(norm(frozen), {}, is_nvcaffes=True) == norm("").replace("  \n", "")


@pytest.mark.parametrize(
    ("fields", "asks"),
    [
        ("", False),
        ("batch_norm_param { }", False),
        ("batch_norm_param { scale_bias: false }", False),
        ("batch_norm_param { scale_bias: true }", True),
        ("batch_norm_param { scale_bias: 1 }", True),
        ("batch_norm_param { scale_filler { } }", True),
        ("batch_norm_param { scale_bias: false bias_filler { value: 1 } }", True),
    ],
)
def test_a_batch_norm_asks_for_scale_and_bias_as_in_nvcaffe(fields: str, asks: bool):
    assert nvcaffe_net.scaled(prototxt.parse(norm(fields))) == (("bn1",) if asks else ())


def test_a_scale_layer_is_there_where_its_batch_norm_is():
    fields = 'include { phase: TRAIN }\n  exclude { stage: "deploy" }'

    tree = prototxt.parse(convert(norm(fields)))

    scale = schema.read(tree, "NetParameter").message.layer[1]
    assert (scale.type, scale.bottom, scale.top) == ("Scale", ["y"], ["y"])
    assert (scale.include[0].phase, scale.exclude[0].stage) == (0, ["deploy"])


def test_line_ends_stay_as_they_are():
    before = (DATA / "nvcaffe.prototxt").read_text().replace("\n", "\r\n")

    assert convert(before) == (DATA / "bvlc.prototxt").read_text().replace("\n", "\r\n")


def test_layers_on_one_line_come_apart():
    text = 'layer { name: "bn1" type: "BatchNorm" top: "y" } layer { name: "z" type: "ReLU" }'

    names = [
        each.name
        for each in schema.read(prototxt.parse(convert(text)), "NetParameter").message.layer
    ]

    assert names == ["bn1", "bn1_scale", "z"]


def test_a_batch_norm_without_a_top_cannot_be_scaled():
    text = norm("batch_norm_param { scale_bias: true }").replace('top: "y"', "")

    with pytest.raises(NetError) as caught:
        convert(text)

    assert str(caught.value) == (
        "<text>:1:1: layer 'bn1' with 0 tops, expected 1, as every BatchNorm has\n"
        "    layer {\n    ^\nGive it one."
    )


def test_a_net_of_five_thousand_layers_takes_seconds():
    text = "\n".join(norm("batch_norm_param { scale_bias: true }", f"bn{i}") for i in range(5_000))
    tree = prototxt.parse(text)
    start = time.monotonic()

    converted = nvcaffe_net.convert(tree, {f"bn{i}": f"bn{i}_scale" for i in range(5_000)})

    assert len(converted.tree.fields) == 10_000
    assert time.monotonic() - start < 20
