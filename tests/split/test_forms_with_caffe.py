"""Derived nets in the real Caffe: what they give is what float64 loops give."""

import os
import subprocess

import numpy as np
import pytest
from split_cases import CASES, base, derive, outputs

from caffesplit.formats import caffemodel, prototxt
from caffesplit.formats.layers import LayerWeights

FORMS = {
    "extension": {},
    "residual": {},
    "residual, preserved": {"preserve": True},
    "residual, relu": {"activation": "relu"},
    "skip": {},
    "skip, averaged": {"skip_stride": "average"},
    "skip, averaged where the sizes agree": {"skip_stride": "average", "known_shapes": True},
}

FORWARD = """
import pathlib, sys
import caffe
import numpy as np

for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    net = caffe.Net(str(folder / "net.prototxt"), caffe.TEST, weights=str(folder / "w.caffemodel"))
    net.blobs["data"].data[...] = np.load(str(folder / "data.npy"))
    net.forward()
    np.save(str(folder / "x.npy"), net.blobs["x"].data)
"""


@pytest.fixture(scope="module")
def caffes_outputs(python_caffe, tmp_path_factory):
    """(form, case) → Caffe's top x; all of them from one process."""
    root = tmp_path_factory.mktemp("nets")
    folders = {}
    for form, setting in FORMS.items():
        for case in CASES:
            folder = folders[form, case] = root / str(len(folders))
            folder.mkdir()
            net, weights = derive(case, form.partition(",")[0], **setting)
            (folder / "net.prototxt").write_bytes(prototxt.encode(net.tree))
            records = [
                LayerWeights(layer.name, layer.type, weights[layer.name], layer.message)
                for layer in net.layers
                if layer.name in weights
            ]
            caffemodel.write(folder / "w.caffemodel", records)
            np.save(folder / "data.npy", base(case)[2].astype(np.float32))
    subprocess.run(
        [python_caffe, "-c", FORWARD, root],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"GLOG_minloglevel": "2"},
    )
    return {key: np.load(folder / "x.npy") for key, folder in folders.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", FORMS)
def test_caffe_computes_a_derived_net_as_loops_in_float64_do(form, case, caffes_outputs):
    net, weights = derive(case, form.partition(",")[0], **FORMS[form])
    expected = outputs(net, weights, base(case)[2].astype(np.float32))
    found = caffes_outputs[form, case]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
