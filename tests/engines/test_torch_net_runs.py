"""A BatchNorm and its Scale are computed as one, where nobody can tell."""

from pathlib import Path

import pytest
import torch
from torch_oracle import assert_as_caffe, inputs_of, layers_of, learned_bottoms, net_text

from caffesplit.engines.torch_net_blobs import own_blobs
from caffesplit.engines.torch_net_runs import laid_out, runs_of
from caffesplit.engines.torch_net_steps import set_up

BATCH_NORM = net_text("BatchNorm", [(4, 3, 5, 5)])
BIAS = "scale_param { bias_term: true }"


def scaled(bottom="x0", top="x0", rest=BIAS):
    layer = f'layer {{ name: "s" type: "Scale" bottom: "{bottom}" top: "{top}" {rest} }}\n'
    return learned_bottoms(BATCH_NORM) + layer


LOSS = 'layer { name: "l" type: "Power" bottom: "%s" top: "l" loss_weight: 1 }\n'
TOGETHER = {
    "in place": scaled() + LOSS % "x0",
    "without a bias": scaled(rest="") + LOSS % "x0",
    "under a name of its own": scaled(top="y") + LOSS % "y",
}
APART = {
    "what is normalised is read": scaled(top="y")
    + 'layer { name: "l" type: "Eltwise" bottom: "x0" bottom: "y" top: "l" loss_weight: 1 }\n',
    "another axis": scaled(rest="scale_param { axis: 2 }") + LOSS % "x0",
    "more axes": scaled(rest="scale_param { num_axes: 2 }") + LOSS % "x0",
    "a second bottom": scaled()
    .replace('bottom: "x0"', 'bottom: "x0" bottom: "b1"', 1)
    .replace(
        'layer { name: "x"',
        'layer { name: "b1" type: "Parameter" top: "b1" parameter_param { shape { dim: 3 } } }\n'
        'layer { name: "x"',
    )
    + LOSS % "x0",
    "no gradient comes back": scaled(rest=BIAS + " propagate_down: false") + LOSS % "x0",
}


def count_runs(text):
    layers = layers_of(text)
    generator, device = torch.Generator(), torch.device("cpu")
    steps, _ = set_up(layers, "TRAIN", inputs_of(layers), generator, Path())
    _, blobs = own_blobs(steps, {}, generator, device, force_backward=False)
    return len(steps) - len(runs_of([*zip(steps, blobs, strict=True)]))


@pytest.mark.parametrize("text", TOGETHER.values(), ids=TOGETHER)
def test_a_batch_norm_and_the_scale_behind_it_are_one_run_with_caffes_values(real_caffe, text):
    assert count_runs(text) == 1
    assert_as_caffe(real_caffe, text)


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_they_stay_apart_where_the_values_between_them_count(real_caffe, text):
    assert count_runs(text) == 0
    assert_as_caffe(real_caffe, text)


def test_images_on_the_cpu_come_with_their_channels_last_and_all_else_as_it_is():
    images, rows = torch.randn(2, 3, 4, 5), torch.randn(2, 3)
    assert laid_out(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(laid_out(images), images)
    assert laid_out(rows) is rows


def test_images_of_one_channel_tell_so_by_their_strides():
    images = torch.randn(2, 1, 4, 5)
    assert laid_out(images).stride() == (20, 1, 5, 1)
    assert torch.equal(laid_out(images), images)
