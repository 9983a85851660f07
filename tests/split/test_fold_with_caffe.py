"""Folded nets in the real Caffe give what the unfolded ones give."""

import numpy as np
import pytest
import real_caffe
from split_cases import CASES, base, derive
from test_fold import PAIRS, folded, unfolded

from caffesplit.split.fold import blobs, fold

FORMS = {"extension": {}, "residual": {}, "skip": {}, "skip, averaged": {"skip_stride": "average"}}
INPUTS = {"repvgg": (1, 4, 7, 6), "acnet": (1, 3, 8, 9), "groups": (1, 6, 9, 9)}
INPUTS |= {"batch_norm": (1, 3, 6, 6), "left_alone": (1, 4, 8, 8)}


def before_and_after(key):
    """The two nets of a key, each with its weights and inputs."""
    if isinstance(key, str):
        result, weights = folded(key)
        net = unfolded(key)
        inputs = {"data": np.random.default_rng(0).standard_normal(INPUTS[key])}
    else:
        form, case = key
        setting = FORMS[form] | {"noise": 0.3}
        net, weights = derive(case, form.partition(",")[0], **setting)
        result, inputs = fold(net, weights), {"data": base(case)[2]}
    own = weights | {each.layer.name: blobs(each) for each in result.folded}
    return (net, weights, inputs), (result.net, own, inputs)


KEYS = [*PAIRS, *((form, case) for form in FORMS for case in CASES)]


@pytest.fixture(scope="module")
def caffes_outputs(python_caffe, tmp_path_factory):
    """(key, whether folded) → Caffe's outputs."""
    nets = {}
    for key in KEYS:
        nets[key, False], nets[key, True] = before_and_after(key)
    return real_caffe.forward(python_caffe, tmp_path_factory.mktemp("nets"), nets)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_folded_net_gives_in_caffe_what_the_unfolded_one_gives(key, caffes_outputs):
    before, after = caffes_outputs[key, False], caffes_outputs[key, True]
    assert before.keys() == after.keys()
    for name, expected in before.items():
        assert after[name].shape == expected.shape
        assert np.abs(after[name] - expected).max() <= 1e-4 * np.abs(expected).max()
