"""Whole nets: with the same weights and the same batch, the real Caffe's losses and outputs."""

import re
from importlib.resources import files

import numpy as np
import pytest
from example_nets import NETS
from torch_oracle import assert_as_caffe, weights_and_labels, with_inputs

CLASSES = {"siamese": 2, "alexnet": 100, "caffenet": 100, "googlenet": 100}


def of_data(classes):
    """Data in [0, 1], so that it may be a target."""
    draw = weights_and_labels(classes)

    def values(rng, name, shape):
        return rng.random(shape) if "data" in name else draw(rng, name, shape)

    return values


@pytest.mark.parametrize("name", sorted(NETS))
def test_caffes_examples_compute_what_they_do_in_caffe(real_caffe, name):
    """In TEST, where a Dropout draws nothing."""
    values = of_data(CLASSES.get(name, 10))
    assert_as_caffe(real_caffe, NETS[name](), 0, values, "TEST", of_diffs=AT_KINKS)


AT_KINKS = 2e-2
"""A value at a kink, or two that are nearly equal in a window, lead a gradient another way."""


def zoo_net(name, phase):
    """The zoo's net in a phase with a small batch, without its Dropout."""
    text = (files("caffesplit.zoo") / name / "train_val.prototxt").read_text()
    shape = (4, 1, 8, 8) if name == "digits" else (4, 3, 32, 32)
    inputs = {"data": shape, "label": shape[:1]}
    if name == "inception_small":
        inputs["centre"] = (4, 1, 28, 28)
    text = with_inputs(text, inputs, phase)
    return re.sub(r"dropout_ratio: *[\d.]+", "dropout_ratio: 0", text)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("name", ["allcnn", "digits", "fitnet4", "inception_small", "resnet20"])
def test_the_zoos_nets_compute_what_they_do_in_caffe(real_caffe, name, phase):
    draw = weights_and_labels(10)

    def values(rng, layer, shape):
        return np.ones(shape) if "bn" in layer and phase == "TEST" else draw(rng, layer, shape)

    assert_as_caffe(real_caffe, zoo_net(name, phase), 0, values, phase, of_diffs=AT_KINKS)
