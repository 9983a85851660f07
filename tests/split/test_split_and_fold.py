"""Split to train, fold to deploy: a fold undoes a split, whatever its form and the layer."""

import numpy as np
import pytest
from split_cases import CASES, base, derive, outputs

from caffesplit.split.fold import blobs, deviation, fold

FORMS = {
    "extension": {},
    "residual": {},
    "skip": {},
    "skip, averaged": {"skip_stride": "average"},
}


def folded(case, form, **setting):
    net, weights = derive(case, form.partition(",")[0], **FORMS[form], **setting)
    return fold(net, weights), net, weights


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_the_fold_of_a_split_has_the_base_nets_text_byte_for_byte(form, case):
    result, _, _ = folded(case, form)
    assert str(result.net.tree) == str(base(case)[0].tree)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_the_folded_layer_computes_what_the_derived_net_does(form, case):
    result, net, weights = folded(case, form, noise=0.3)
    data = base(case)[2]
    (layer,) = result.folded
    own = blobs(layer)
    before, after = outputs(net, weights, data), outputs(result.net, {"X": own}, data)
    assert np.abs(after - before).max() <= 5e-7 * np.abs(before).max()
    assert deviation(layer, own, weights) < 5e-7


@pytest.mark.parametrize("case", CASES)
def test_the_fold_of_an_extension_without_noise_has_the_base_weights_bit_for_bit(case):
    result, _, _ = folded(case, "extension", noise=0)
    for own, original in zip(blobs(result.folded[0]), base(case)[1]["X"], strict=True):
        assert own.tobytes() == original.tobytes()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_the_fold_of_an_exact_start_has_the_base_weights_to_float32_rounding(form, case):
    result, _, _ = folded(case, form, preserve=True)
    for own, original in zip(blobs(result.folded[0]), base(case)[1]["X"], strict=True):
        np.testing.assert_allclose(own, original.reshape(own.shape), atol=1e-6)


@pytest.mark.parametrize("case", ["plain", "ip"])
def test_a_branch_with_an_activation_stays_and_says_why(case):
    result, net, _ = folded(case, "residual", activation="relu")
    assert result.net.tree is net.tree
    assert {each.layer.name: each.reason for each in result.left} == {
        "X_split2_residual_sum": "on its branches is layer 'X_split2_residual_relu' (ReLU): "
        "it is not linear",
        "X_concat": "on its branches is layer 'X_split2_residual_sum' (Eltwise): "
        "its branches stay branches",
    }
