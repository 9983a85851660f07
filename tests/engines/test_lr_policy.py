import math

import pytest

from caffesplit.engines import lr_policy
from caffesplit.engines.lr_policy import Rate
from caffesplit.errors import NetError
from caffesplit.formats import schema


def solver(**fields):
    return schema.message_class("SolverParameter")(base_lr=0.5, **fields)


def rates(message, iterations):
    """The rates of one iteration after the other."""
    step, found = 0, []
    for iteration in iterations:
        rate = lr_policy.rate(message, iteration, step)
        step = rate.current_step
        found.append(rate.value)
    return found


def test_fixed_stays():
    assert rates(solver(lr_policy="fixed"), (0, 7, 10**6)) == [0.5, 0.5, 0.5]


def test_step_multiplies_with_gamma_every_stepsize_iterations():
    message = solver(lr_policy="step", gamma=0.5, stepsize=10)
    assert rates(message, (0, 9, 10, 19, 20, 35)) == [0.5, 0.5, 0.25, 0.25, 0.125, 0.0625]
    assert lr_policy.rate(message, 35).current_step == 3


def test_exp_multiplies_with_gamma_every_iteration():
    message = solver(lr_policy="exp", gamma=0.5)
    assert rates(message, (0, 1, 5)) == [0.5, 0.25, 0.5**6]


def test_inv_poly_and_sigmoid_are_caffes_formulas():
    inv = solver(lr_policy="inv", gamma=0.25, power=0.75)
    assert rates(inv, (0, 100)) == pytest.approx([0.5, 0.5 * (1 + 0.25 * 100) ** -0.75])
    poly = solver(lr_policy="poly", power=2, max_iter=200)
    assert rates(poly, (0, 50, 200)) == pytest.approx([0.5, 0.5 * 0.75**2, 0])
    sigmoid = solver(lr_policy="sigmoid", gamma=-0.125, stepsize=10)
    expected = [0.5 / (1 + math.exp(0.125 * (i - 10))) for i in (0, 10, 90)]
    assert rates(sigmoid, (0, 10, 90)) == pytest.approx(expected)


def test_multistep_steps_at_its_values():
    message = solver(lr_policy="multistep", gamma=0.5, stepvalue=[3, 5])
    expected = [0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert rates(message, range(7)) == expected


def test_multistep_catches_up_one_step_per_iteration_after_a_late_start():
    message = solver(lr_policy="multistep", gamma=0.5, stepvalue=[3, 5])
    assert lr_policy.rate(message, 100, 0) == Rate(0.25, 1)
    assert lr_policy.rate(message, 101, 1) == Rate(0.125, 2)
    assert lr_policy.rate(message, 102, 2) == Rate(0.125, 2)


def test_rates_without_bounds_are_infinite_not_an_error():
    assert lr_policy.rate(solver(lr_policy="exp", gamma=2), 5000).value == math.inf
    message = solver(lr_policy="sigmoid", gamma=-1, stepsize=1)
    assert lr_policy.rate(message, 10**6).value == 0


def test_a_policy_that_caffe_lacks_is_named():
    with pytest.raises(NetError) as caught:
        lr_policy.rate(solver(lr_policy="rampup"), 0)
    assert str(caught.value) == (
        "lr_policy 'rampup', expected one of fixed, step, exp, inv, multistep, poly, sigmoid"
    )
