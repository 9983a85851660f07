from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.study.lsuv import Settings, choose, lsuv, orthonormal

NET = """
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 30 } }
layer { name: "ra" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 40 } }
layer { name: "rb" type: "ReLU" bottom: "b" top: "b" }
layer { name: "c" type: "InnerProduct" bottom: "b" top: "c" inner_product_param { num_output: 5 } }
"""
SIZES = {"a": (30, 20), "b": (40, 30), "c": (5, 40)}


def layers(text=NET):
    return graph.build(prototxt.parse(text)).layers


@dataclass
class Perceptron:
    """Matrix products with ReLU between them, in float64; what LSUV sees of a net."""

    images: np.ndarray
    biases: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)

    def outputs(self, layer):
        values = self.images
        for name in SIZES:
            values = values @ self.weights[name].T.astype(float) + self.biases.get(name, 0)
            if name == layer:
                return values
            values = np.maximum(values, 0)
        raise AssertionError(layer)

    def output_variance(self, layer, weights):
        self.weights[layer] = weights
        with np.errstate(all="ignore"):
            return float(self.outputs(layer).var())


def images(scale=1.0):
    return np.random.default_rng(1).standard_normal((200, 20)) * scale


def fillers():
    rng = np.random.default_rng(2)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SIZES.items()}


def run(net, settings=None, start=None):
    chosen, left = choose(layers())
    assert not left
    start = start or fillers()
    return {each.layer: each for each in lsuv(chosen, start, net, settings or Settings())}


@pytest.mark.parametrize("scale", [1e-12, 0.01, 1.0, 255.0, 1e12])
def test_every_layer_puts_out_unit_variance_whatever_the_images_scale(scale):
    net = Perceptron(images(scale))

    outcomes = run(net)

    for name, outcome in outcomes.items():
        assert abs(net.outputs(name).var() - 1) <= 0.1
        assert outcome.after == net.outputs(name).var()
        assert not outcome.problem
        np.testing.assert_array_equal(outcome.weights, net.weights[name])


def test_weights_stay_orthogonal_and_scale_says_by_what_they_grew():
    for name, outcome in run(Perceptron(images(0.3))).items():
        rows, columns = SIZES[name]
        weights = outcome.weights.astype(float)
        product = weights @ weights.T if rows <= columns else weights.T @ weights
        np.testing.assert_allclose(
            product, outcome.scale**2 * np.eye(min(rows, columns)), atol=1e-5 * outcome.scale**2
        )


def test_given_weights_are_scaled_and_nothing_else():
    start = fillers()

    outcomes = run(Perceptron(images()), Settings(seed=None), start)

    for name, outcome in outcomes.items():
        assert outcome.trials == 1
        np.testing.assert_allclose(outcome.weights, start[name] * outcome.scale, rtol=1e-6)


def test_a_layer_within_tolerance_is_not_scaled():
    net = Perceptron(images())
    done = {name: outcome.weights for name, outcome in run(net).items()}

    again = run(net, Settings(seed=None), done)

    for name, outcome in again.items():
        assert (outcome.trials, outcome.scale) == (0, 1.0)
        np.testing.assert_array_equal(outcome.weights, done[name])


def test_the_seed_alone_decides():
    first, again, other = (run(Perceptron(images()), Settings(seed=seed)) for seed in (3, 3, 4))

    for name in SIZES:
        np.testing.assert_array_equal(first[name].weights, again[name].weights)
        assert (first[name].weights != other[name].weights).any()


def test_small_biases_take_more_trials_and_get_there():
    rng = np.random.default_rng(3)
    net = Perceptron(images(), {"b": rng.standard_normal(40) * 0.7})

    outcome = run(net, Settings(tolerance=0.01))["b"]

    assert outcome.trials > 1
    assert outcome.after == pytest.approx(1, abs=0.01)


def test_a_layer_whose_biases_vary_too_much_is_left_as_it_was():
    start = fillers()
    net = Perceptron(images(), {"b": np.array([3.0, -3.0] * 20)})

    outcomes = run(net, start=start)

    assert outcomes["b"].weights is None
    assert outcomes["b"].problem == ("its biases alone make a variance of 9; left as it was")
    np.testing.assert_array_equal(net.weights["b"], start["b"])
    assert outcomes["c"].after == pytest.approx(1, abs=0.1)


def test_a_dead_layer_is_told_and_left_as_it_was():
    start = fillers()
    net = Perceptron(images(), {"a": -1e6})  # Nothing gets through the ReLU behind it.

    outcomes = run(net, start=start)

    assert not outcomes["a"].problem
    for name in ("b", "c"):
        assert outcomes[name].weights is None
        assert outcomes[name].problem == (
            "its weights make no difference to the variance of its output, 0; left as it was"
        )
        np.testing.assert_array_equal(net.weights[name], start[name])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_is_no_number_leaves_everything_as_it_was(value):
    broken = images()
    broken[7, 3] = value

    for outcome in run(Perceptron(broken)).values():
        assert outcome.weights is None
        assert outcome.problem == "its output is infinite, or not a number; left as it was"
        assert math.isnan(outcome.after)


class Noisy:
    """A layer with dropout so strong that its variance is another one each time."""

    def __init__(self, variances):
        self.variances, self.asked = iter(variances), []

    def output_variance(self, layer, weights):
        self.asked.append(weights)
        return 0.0 if not weights.any() else next(self.variances)


def test_what_does_not_come_near_enough_keeps_its_best_trial():
    net = Noisy([4.0, 0.5, 1.3, 2.0, 1.3])
    chosen, _ = choose(layers()[:1])

    (outcome,) = lsuv(chosen, fillers(), net, Settings(trials=3))

    assert (outcome.after, outcome.trials) == (1.3, 3)
    assert outcome.scale == pytest.approx(0.5 / math.sqrt(0.5))
    assert outcome.problem == "1.3 is as near to 1 as it came in 3 trials"
    np.testing.assert_array_equal(net.asked[-1], outcome.weights)


def test_a_scale_that_float32_cannot_hold_is_not_taken():
    net = Perceptron(np.full((9, 20), 1e-44) * np.arange(9)[:, None])

    outcome = run(net)["a"]

    assert np.isfinite(outcome.weights).all()
    assert outcome.problem.endswith("trials")


shapes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))


@given(shapes, st.integers(0, 5))
def test_orthonormal_weights_are_so_in_every_group(sizes, seed):
    groups, rows, columns, kernel = sizes
    shape = (groups * rows, columns, kernel, kernel)

    weights = orthonormal(shape, groups, np.random.default_rng(seed))

    assert weights.shape == shape
    assert weights.dtype == np.float32
    for group in weights.reshape(groups, rows, -1).astype(float):
        width = group.shape[1]
        product = group @ group.T if rows <= width else group.T @ group
        np.testing.assert_allclose(product, np.eye(min(rows, width)), atol=1e-5)


def test_frozen_and_sharing_layers_are_left_alone_with_the_reason():
    text = """
    layer { name: "a" type: "InnerProduct" param { name: "w" }
      inner_product_param { num_output: 1 } }
    layer { name: "b" type: "InnerProduct" param { name: "w" }
      inner_product_param { num_output: 1 } }
    layer { name: "skip" type: "Convolution" param { lr_mult: 0 }
      convolution_param { num_output: 1 } }
    layer { name: "bn" type: "BatchNorm" param { lr_mult: 0 } }
    layer { name: "up" type: "Deconvolution" convolution_param { num_output: 1 group: 2 } }
    """

    chosen, left = choose(layers(text))

    assert [layer.name for layer in chosen] == ["a", "up"]
    assert left == {"b": "shares the weights of a", "skip": "lr_mult is 0"}
