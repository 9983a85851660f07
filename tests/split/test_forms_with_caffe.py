"""Derived nets in the real Caffe: what they give is what float64 loops give."""

import numpy as np
import pytest
import real_caffe
from split_cases import CASES, base, derive, outputs

FORMS = {
    "extension": {},
    "residual": {},
    "residual, preserved": {"preserve": True},
    "residual, relu": {"activation": "relu"},
    "skip": {},
    "skip, averaged": {"skip_stride": "average"},
    "skip, averaged where the sizes agree": {"skip_stride": "average", "known_shapes": True},
}


@pytest.fixture(scope="module")
def caffes_outputs(python_caffe, tmp_path_factory):
    """(form, case) → Caffe's top x; all of them from one process."""
    nets = {}
    for form, setting in FORMS.items():
        for case in CASES:
            net, weights = derive(case, form.partition(",")[0], **setting)
            nets[form, case] = net, weights, {"data": base(case)[2]}
    found = real_caffe.forward(python_caffe, tmp_path_factory.mktemp("nets"), nets)
    return {key: outputs["x"] for key, outputs in found.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_caffe_computes_a_derived_net_as_loops_in_float64_do(form, case, caffes_outputs):
    net, weights = derive(case, form.partition(",")[0], **FORMS[form])
    expected = outputs(net, weights, base(case)[2].astype(np.float32))
    found = caffes_outputs[form, case]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
