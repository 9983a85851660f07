"""Fillers draw from Caffe's distributions; those that draw nothing make Caffe's values."""

import numpy as np
import pytest
import torch
from torch_oracle import inputs_of, layers_of, net_text

from caffesplit.engines.torch_fillers import fill, initial_blobs
from caffesplit.engines.torch_net import TorchNet
from caffesplit.errors import NetError
from caffesplit.formats import schema

SHAPE = (40, 20, 10, 10)
"""80,000 values: fan in 2,000, fan out 4,000."""
LAYER = layers_of(net_text("ReLU", [(2, 3)]))[-1]


def filled(shape=SHAPE, seed=0, **options):
    filler = schema.message_class("FillerParameter")(**options)
    return fill(filler, shape, torch.Generator().manual_seed(seed), LAYER)


def test_a_constant_is_0_unless_given():
    assert torch.equal(filled(), torch.zeros(SHAPE))
    assert torch.equal(filled(value=0.5), torch.full(SHAPE, 0.5))


def test_uniform_values_lie_between_their_bounds_evenly():
    values = filled(type="uniform", min=-1, max=3)
    assert -1 <= values.min() < -0.99
    assert 2.99 < values.max() < 3
    assert values.mean().item() == pytest.approx(1, abs=0.02)
    assert values.std().item() == pytest.approx(4 / 12**0.5, rel=0.01)


def test_gaussian_values_have_their_mean_and_deviation():
    values = filled(type="gaussian", mean=2, std=0.5)
    assert values.mean().item() == pytest.approx(2, abs=0.01)
    assert values.std().item() == pytest.approx(0.5, rel=0.01)


def test_a_sparse_gaussian_has_so_many_inputs_that_are_not_0_for_each_output():
    values = filled((100, 2000), type="gaussian", sparse=15)
    kept = values != 0
    assert kept.float().mean().item() == pytest.approx(15 / 100, rel=0.02)
    assert values[kept].std().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(("norm", "fan"), [("FAN_IN", 2000), ("FAN_OUT", 4000), ("AVERAGE", 3000)])
def test_xavier_is_uniform_with_variance_1_over_n_and_msra_normal_with_2_over_n(norm, fan):
    xavier = filled(type="xavier", variance_norm=norm)
    assert xavier.abs().max().item() == pytest.approx((3 / fan) ** 0.5, rel=1e-3)
    assert xavier.var().item() == pytest.approx(1 / fan, rel=0.02)
    msra = filled(type="msra", variance_norm=norm)
    assert msra.var().item() == pytest.approx(2 / fan, rel=0.02)
    assert (msra.abs() < msra.std()).float().mean().item() == pytest.approx(0.683, abs=0.01)


def test_a_vector_has_one_input_for_each_output_and_as_many_outputs():
    assert filled((9000,), type="xavier").abs().max().item() == pytest.approx(3**0.5, rel=1e-3)
    one = filled((9000,), type="xavier", variance_norm="FAN_OUT")
    assert one.abs().max().item() == pytest.approx((3 / 9000) ** 0.5, rel=1e-3)


def test_the_values_of_a_positive_unitball_add_up_to_1_for_each_output():
    values = filled(type="positive_unitball")
    assert values.min() >= 0
    torch.testing.assert_close(values.sum((1, 2, 3)), torch.ones(40))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_a_bilinear_kernel_is_that_of_caffe(real_caffe, size):
    options = f"num_output: 3 group: 3 kernel_size: {size} bias_term: false"
    options += " weight_filler { type: 'bilinear' }"
    text = net_text("Deconvolution", [(1, 3, 4, 4)], 1, f"convolution_param {{ {options} }}")
    layers = layers_of(text)
    ours = TorchNet(layers, "TRAIN", inputs_of(layers)).blobs["x"][0]
    np.testing.assert_allclose(ours.detach().numpy(), real_caffe(text, {}).blobs["x|0"], rtol=1e-6)


def test_the_same_seed_draws_the_same_values():
    assert torch.equal(filled(type="msra", seed=3), filled(type="msra", seed=3))
    assert not torch.equal(filled(type="msra", seed=3), filled(type="msra", seed=4))


CONSTANTS = "filler { type: 'constant' value: %d }"
RECURRENT = f"num_output: 2 weight_{CONSTANTS % 5} bias_{CONSTANTS % 6}"
RECURRENT = f"recurrent_param {{ {RECURRENT} }}"
LEARNING = [
    ("BatchNorm", "", [[0, 0, 0]]),
    ("Bias", "bias_param { " + CONSTANTS % 2 + " }", [[2]]),
    ("Scale", "scale_param { bias_term: true }", [[1, 0]]),
    ("Scale", "scale_param { bias_term: true bias_" + CONSTANTS % 3 + " }", [[1, 3]]),
    ("PReLU", "", [[0.25]]),
    ("LSTM", RECURRENT, [[5, 6, 5], [5, 6, 5, 5]]),
    ("RNN", RECURRENT, [[5, 6, 5, 5, 6], [5, 6, 5, 5, 5, 6]]),
]


@pytest.mark.parametrize(("type_name", "rest", "expected"), LEARNING)
def test_each_type_fills_its_blobs_as_caffe_does(real_caffe, type_name, rest, expected):
    bottoms = [(3, 2, 4), (3, 2)] if type_name in ("LSTM", "RNN") else [(3, 2, 4, 5)]
    for more, values in zip([[], [(2, 4)]], expected, strict=False):
        text = net_text(type_name, bottoms + more, 1, rest)
        layers = layers_of(text)
        blobs = TorchNet(layers, "TEST", inputs_of(layers)).blobs["x"]
        assert [blob.unique().tolist() for blob in blobs] == [[value] for value in values]
        theirs = real_caffe(text, {}, "TEST").blobs
        for index, blob in enumerate(blobs):
            np.testing.assert_array_equal(blob.detach().numpy(), theirs[f"x|{index}"])


def test_a_scale_by_a_second_bottom_fills_only_its_bias():
    rest = "scale_param { bias_term: true axis: 0 bias_" + CONSTANTS % 3 + " }"
    layer = layers_of(net_text("Scale", [(2, 3), (2,)], 1, rest))[-1]
    (bias,) = initial_blobs(layer, [(2,)], torch.Generator())
    assert bias.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "he"}, "filler 'he', expected constant, gaussian, positive_unitball, "
         "uniform, xavier, msra, bilinear"),
        ({"type": "xavier", "sparse": 3}, "`sparse: 3` of a xavier filler, expected 0 or more, "
         "of a gaussian one"),
        ({"type": "gaussian", "sparse": -2}, "`sparse: -2` of a gaussian filler, expected 0 or "
         "more, of a gaussian one"),
        ({"type": "gaussian", "std": 0}, "a gaussian filler with std 0, expected one above 0"),
        ({"type": "uniform", "min": 2, "max": 1}, "a uniform filler from 2 to 1, expected min not "
         "above max"),
        ({"type": "bilinear", "_shape": (3, 2, 2)}, "a bilinear filler of a blob (3, 2, 2), "
         "expected 4 axes, height and width equal"),
    ],
)  # fmt: skip
def test_a_filler_that_caffe_does_not_take_is_refused(options, message):
    options = dict(options)
    with pytest.raises(NetError) as refused:
        filled(options.pop("_shape", SHAPE), **options)
    assert str(refused.value).splitlines()[0] == f"net.prototxt:2:1: layer 'x': {message}"
