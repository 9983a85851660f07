"""NVCaffe's weights: read as it writes them, converted so that BVLC's Caffe computes the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import h5py
import numpy as np
import nvcaffe_files
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from caffesplit.errors import CaffesplitError, OutputError, WeightsError
from caffesplit.formats import caffemodel, nvcaffe, prototxt, solverstate, wire
from caffesplit.formats.caffemodel import LayerWeights

C = 4
WEIGHT = np.linspace(-1, 1, 24, dtype=np.float16).reshape(4, 3, 2, 1)


def statistics(dtype: str = "f4", factor: float = 1, spread: float = 1) -> list[np.ndarray]:
    """Mean, variance, factor, scale and bias of C channels: no zeros and ones among them."""
    rng = np.random.default_rng(0)
    mean, variance, scale, bias = rng.uniform(0.5, 2, (4, C))
    blobs = (mean, variance * spread, [factor], scale - 3, bias)
    return [np.asarray(blob, dtype) for blob in blobs]


def in_old_order(blobs: list[np.ndarray]) -> list[np.ndarray]:
    """As NVCaffe 0.15 had them: its cuDNN layer with four axes."""
    mean, variance, factor, scale, bias = blobs
    return [blob.reshape(1, -1, 1, 1) for blob in (scale, bias, mean, variance, factor)]


def converted(model: Path, tree: prototxt.Message | None = None, suffix="caffemodel"):
    """The conversion, and the weights that it leads to."""
    conversion = nvcaffe.convert(caffemodel.read(model), tree)
    out = model.with_name(f"converted.{suffix}")
    caffemodel.splice(model, out, conversion.replacements)
    return conversion, out


# Reading


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_raw_values_are_read_in_every_type(tmp_path: Path, dtype: str):
    stored = WEIGHT.astype(dtype)
    path = nvcaffe_files.save(tmp_path / "nv.caffemodel", [("conv", "Convolution", [stored])])

    (array,) = caffemodel.read(path)["conv"]

    assert array.dtype == {"f2": np.float32, "f4": np.float32, "f8": np.float64}[dtype]
    assert_array_equal(array, stored)
    assert array.flags.writeable is False
    assert array.flags.owndata is (dtype == "f2")  # All others are views on the file.


@pytest.mark.parametrize("field", ["data", "double_data"])
def test_raw_values_count_only_where_there_are_no_others_as_in_nvcaffe(tmp_path: Path, field: str):
    net = nvcaffe_files.Net()
    blob = nvcaffe_files.add_raw(net.layer.add(name="conv").blobs, WEIGHT)
    getattr(blob, field).extend([7] * WEIGHT.size)
    path = tmp_path / "nv.caffemodel"
    path.write_bytes(net.SerializeToString())

    weights = caffemodel.read(path)

    assert_array_equal(weights["conv"][0], np.full(WEIGHT.shape, 7))
    assert not weights.index.layers[0].blobs[0].raw


def test_a_raw_momentum_is_read_as_float32(tmp_path: Path):
    net = nvcaffe_files.Net()
    layer = net.layer.add()
    nvcaffe_files.add_raw(layer.blobs, WEIGHT)
    row = layer.blobs[0].SerializeToString()
    path = tmp_path / "nv.solverstate"
    path.write_bytes(b"\x08\x05\x1a" + bytes([len(row)]) + row)

    (history,) = solverstate.read(path).history

    assert history.dtype == np.float32
    assert_array_equal(history, WEIGHT)


def test_a_splice_copies_layers_of_nvcaffe_byte_for_byte(tmp_path: Path):
    layers = [(name, "Convolution", [WEIGHT]) for name in ("conv1", "conv2", "conv3")]
    path = nvcaffe_files.save(tmp_path / "nv.caffemodel", layers)
    first, second, third = caffemodel.index(path).layers
    content = path.read_bytes()

    new = LayerWeights("new", "Convolution", (WEIGHT,))
    caffemodel.splice(path, tmp_path / "out.caffemodel", {"conv2": [new]})

    out = (tmp_path / "out.caffemodel").read_bytes()
    assert out.startswith(content[: first.offset + first.length])
    assert out.endswith(content[third.offset :])
    assert second.length > 0


# Values


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_every_value_is_written_in_float32(tmp_path: Path, suffix: str):
    layers = [("a", "Convolution", [WEIGHT, WEIGHT[:, 0, 0, 0].astype("f8")])]
    path = nvcaffe_files.save(tmp_path / "nv.caffemodel", layers)

    conversion, out = converted(path, suffix=suffix)

    weights = caffemodel.read(out)
    assert [array.dtype for array in weights["a"]] == [np.float32, np.float32]
    assert_array_equal(weights["a"][0], WEIGHT)
    assert not any(blob.raw for layer in weights.index.layers for blob in layer.blobs)
    assert conversion.notes == (
        "blobs of float16 in raw_data → float32 in data: 1",
        "blobs of float64 in raw_data → float32 in data: 1",
    )


def test_a_converted_layer_keeps_its_other_fields(tmp_path: Path):
    path = nvcaffe_files.save(tmp_path / "nv.caffemodel", [("a", "Convolution", [WEIGHT])])

    _, out = converted(path)

    before = nvcaffe_files.Net.FromString(path.read_bytes())
    after = nvcaffe_files.Net.FromString(out.read_bytes())
    assert after.layer[0].blobs[0].data == WEIGHT.ravel().tolist()
    for net in (before, after):
        del net.layer[0].blobs[:]
    assert after == before


def test_double_data_of_bvlc_is_rounded_to_float32_and_overflows_like_in_caffe(tmp_path: Path):
    values = np.array([1 / 3, 1e300, -1e300])
    layers = [("a", "Bias", [values])]
    path = nvcaffe_files.save(tmp_path / "bvlc.caffemodel", layers, nvcaffe_files.add_old)

    conversion, out = converted(path)

    assert_array_equal(caffemodel.read(out)["a"][0], np.float32([1 / 3, np.inf, -np.inf]))
    assert conversion.notes == ("blobs of float64 → float32: 1",)


def test_a_file_of_bvlc_is_copied(tmp_path: Path):
    blobs = [*statistics(factor=999.5)[:2], np.float32([999.5])]
    layers = [("a", "Bias", [np.ones(3, "f4")]), ("bn", "BatchNorm", blobs)]
    path = nvcaffe_files.save(tmp_path / "bvlc.caffemodel", layers, nvcaffe_files.add_old)

    conversion, out = converted(path)

    assert (conversion.replacements, conversion.notes) == ({}, ())
    assert out.read_bytes() == path.read_bytes()


def test_legacy_shapes_become_those_that_caffe_compares_in_hdf5(tmp_path: Path):
    net = nvcaffe_files.Net()
    for name, kind, *shapes in [
        ("conv", "Convolution", (1, 3, 2, 2), (1, 1, 1, 4)),
        ("ip", "InnerProduct", (1, 1, 1, 6), (1, 1, 1, 1)),
        ("prelu", "PReLU", (1, 1, 1, 4)),
    ]:
        layer = net.layer.add(name=name, type=kind)
        for shape in shapes:
            blob = layer.blobs.add(data=[1] * int(np.prod(shape)))
            blob.num, blob.channels, blob.height, blob.width = shape
    path = tmp_path / "legacy.caffemodel"
    path.write_bytes(net.SerializeToString())

    _, out = converted(path, suffix="caffemodel.h5")

    weights = caffemodel.read(out)
    assert [array.shape for array in weights["conv"]] == [(1, 3, 2, 2), (4,)]
    assert [array.shape for array in weights["ip"]] == [(1, 6), (1,)]
    assert [array.shape for array in weights["prelu"]] == [(4,)]
    legacy = [blob.legacy for layer in caffemodel.index(path).layers for blob in layer.blobs]
    assert all(legacy)
    assert not any(blob.legacy for layer in weights.index.layers for blob in layer.blobs)


def sparse_model(path: Path, count: int) -> Path:
    """A layer of `count` zeros in half precision, of which next to nothing is on the disk."""
    net = nvcaffe_files.Net()
    blob = net.layer.add(name="fc", type="InnerProduct").blobs.add(raw_data_type=2)
    blob.shape.dim.append(count)
    fields = blob.SerializeToString() + wire.encode_length(12, 2 * count)
    layer = wire.encode_text(1, "fc") + wire.encode_text(2, "InnerProduct")
    layer += wire.encode_length(7, len(fields) + 2 * count) + fields
    with path.open("wb") as file:
        file.write(wire.encode_length(100, len(layer) + 2 * count) + layer)
        file.truncate(file.tell() + 2 * count)
    return path


def test_a_model_that_outgrows_caffe_in_float32_is_told_so_before_anything_is_written(tmp_path):
    model = sparse_model(tmp_path / "nv.caffemodel", 540_000_000)

    with pytest.raises(OutputError) as caught:
        converted(model)

    assert str(caught.value) == (
        f"{tmp_path / 'converted.caffemodel'}: the file would take 2,160,000,046 bytes, expected "
        "at most 2,147,483,647, which is what Caffe reads\n"
        "HDF5 holds more: give a name that ends in `.h5`, or `caffesplit split` its --hdf5."
    )
    assert list(tmp_path.iterdir()) == [model]


# BatchNorm

FORWARD = """
import pathlib, sys, numpy as np, caffe
for folder in map(pathlib.Path, sys.argv[1:]):
    net = caffe.Net(str(folder / "net.prototxt"), str(next(folder.glob("converted.*"))), caffe.TEST)
    net.blobs["data"].data[...] = np.load(folder / "in.npy")
    np.save(folder / "out.npy", net.forward()["bn"])
"""

NET = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [2, 4, 3, 5] }} }} }}
layer {{
  name: "bn"
  type: "BatchNorm"
  bottom: "data"
  top: "bn"
  param {{ lr_mult: 0 }} param {{ lr_mult: 0 }} param {{ lr_mult: 0 }} param {{ }} param {{ }}
  batch_norm_param {{ {fields} }}
}}
"""


def nvcaffe_batch_norm(x, mean, variance, scale, bias, eps):
    """BatchNormLayer::Forward_cpu in TEST, NVIDIA/caffe v0.17.4, value by value; no factor."""
    y = np.empty(x.shape)
    eps = max(eps, 1e-5)
    for n, c, h, w in np.ndindex(*x.shape):
        normal = (float(x[n, c, h, w]) - float(mean[c])) / (float(variance[c]) + eps) ** 0.5
        y[n, c, h, w] = normal * float(scale[c]) + float(bias[c])
    return y


FORMS = {
    "0.17": (statistics(), nvcaffe_files.add_raw, "scale_bias: true"),
    "0.17, half precision": (statistics("f2"), nvcaffe_files.add_raw, "scale_bias: true"),
    "0.17, old format": (statistics(), nvcaffe_files.add_old, "bias_filler { } engine: CAFFE"),
    "0.16.1, factor 0": (statistics(factor=0), nvcaffe_files.add_raw, "scale_bias: true"),
    "any factor": (statistics(factor=37), nvcaffe_files.add_old, "scale_bias: true"),
    "small eps": (statistics(spread=1e-6), nvcaffe_files.add_raw, "scale_bias: true eps: 1e-9"),
    "large eps": (statistics(), nvcaffe_files.add_raw, "scale_filler { } eps: 0.5"),
    "global": (statistics(), nvcaffe_files.add_raw, "scale_bias: true use_global_stats: false"),
    "0.17, HDF5": (statistics(), nvcaffe_files.add_raw, "scale_bias: true"),
    "0.17, unscaled": (statistics()[:3], nvcaffe_files.add_raw, "engine: DEFAULT"),
    "0.16.1, unscaled, factor 0": (statistics(factor=0)[:3], nvcaffe_files.add_old, ""),
    "0.15": (in_old_order(statistics()), nvcaffe_files.add_old, "engine: CUDNN"),
    "0.15, double": (in_old_order(statistics("f8")), nvcaffe_files.add_old, ""),
}


IMAGES = np.random.default_rng(1).standard_normal((2, C, 3, 5)).astype("f4")


@pytest.fixture(scope="module")
def computed(python_caffe: Path, tmp_path_factory) -> dict[str, np.ndarray]:
    """What the real Caffe computes of IMAGES with each form's converted net and weights."""
    folders = {form: tmp_path_factory.mktemp("form") for form in FORMS}
    for form, (blobs, add, fields) in FORMS.items():
        folder = folders[form]
        model = nvcaffe_files.save(folder / "nv.caffemodel", [("bn", "BatchNorm", blobs)], add)
        tree = prototxt.parse(NET.format(fields=fields))
        conversion, _ = converted(model, tree, "caffemodel.h5" if "HDF5" in form else "caffemodel")
        (folder / "net.prototxt").write_text(str(conversion.tree))
        np.save(folder / "in.npy", IMAGES)
    subprocess.run([python_caffe, "-c", FORWARD, *folders.values()], check=True)
    return {form: np.load(folder / "out.npy") for form, folder in folders.items()}


@pytest.mark.parametrize("form", FORMS)
def test_the_real_caffe_computes_what_nvcaffe_does(computed, form: str):
    blobs, _, fields = FORMS[form]
    flat = [blob.ravel() for blob in blobs]
    mean, variance, _, scale, bias = (
        [*flat[2:], *flat[:2]] if "0.15" in form else [*flat, np.ones(C), np.zeros(C)][:5]
    )
    eps = float(fields.partition("eps: ")[2] or 1e-5)

    expected = nvcaffe_batch_norm(IMAGES, mean, variance, scale, bias, eps)

    assert_allclose(computed[form], expected, rtol=1e-5, atol=1e-5)


def test_the_scale_layers_weights_are_the_batch_norms(tmp_path: Path):
    blobs = statistics()
    path = nvcaffe_files.save(tmp_path / "nv.caffemodel", [("bn", "BatchNorm", blobs)])

    _, out = converted(path)

    weights = caffemodel.read(out)
    assert [(layer.name, layer.type) for layer in weights.index.layers] == [
        ("bn", "BatchNorm"), ("bn_scale", "Scale"),
    ]  # fmt: skip
    found = [*weights["bn"], *weights["bn_scale"]]
    assert all(map(np.array_equal, found, blobs))


def test_an_untrained_batch_norm_of_bvlc_stays_untrained(tmp_path: Path):
    blobs = [np.zeros(C, "f4"), np.zeros(C, "f4"), np.zeros(1, "f4")]
    layers = [("bn", "BatchNorm", blobs)]
    model = nvcaffe_files.save(tmp_path / "bvlc.caffemodel", layers, nvcaffe_files.add_old)

    assert nvcaffe.convert(caffemodel.read(model)).replacements == {}


def test_in_hdf5_a_batch_norm_is_told_by_its_shapes(tmp_path: Path):
    model = tmp_path / "nv.caffemodel.h5"
    with h5py.File(model, "w") as file:
        for number, blob in enumerate(statistics(factor=0)):
            file[f"data/bn/{number}"] = blob
        file["data/conv/0"] = WEIGHT.astype("f4")

    conversion, out = converted(model)

    assert list(caffemodel.read(out)) == ["bn", "bn_scale", "conv"]
    assert conversion.notes == (
        "BatchNorm layers with scale and bias → BatchNorm and Scale: 1",
        "BatchNorm layers' third blob, which NVCaffe does not heed → 1: 1",
    )


def test_a_scale_layers_name_is_free_in_net_and_weights(tmp_path: Path):
    layers = [("bn", "BatchNorm", statistics()), ("bn_scale", "Bias", [np.ones(1, "f4")])]
    model = nvcaffe_files.save(tmp_path / "nv.caffemodel", layers)
    tree = prototxt.parse(
        NET.format(fields="scale_bias: true") + 'layer { name: "bn_scale_" type: "ReLU" }\n'
    )

    assert nvcaffe.convert(caffemodel.read(model)).scales == {"bn": "bn_scale_"}
    conversion = nvcaffe.convert(caffemodel.read(model), tree)

    assert conversion.scales == {"bn": "bn_scale__"}
    assert [layer.name for layer in conversion.replacements["bn"]] == ["bn", "bn_scale__"]
    assert 'name: "bn_scale__"' in str(conversion.tree)


def test_a_net_that_asks_for_scale_needs_weights_that_have_it(tmp_path: Path):
    model = nvcaffe_files.save(tmp_path / "nv.caffemodel", [("bn", "BatchNorm", statistics()[:3])])

    with pytest.raises(WeightsError) as caught:
        nvcaffe.convert(
            caffemodel.read(model), prototxt.parse(NET.format(fields="scale_bias: true"))
        )

    assert str(caught.value) == (
        f'{model}: layer "bn": 3 blobs, and a net that asks for scale and bias, expected 5 blobs\n'
        "Weights and net must belong together."
    )


def test_blobs_of_a_batch_norm_that_do_not_belong_together_are_an_error(tmp_path: Path):
    blobs = [*statistics()[:4], np.ones(3, "f4")]
    model = nvcaffe_files.save(tmp_path / "nv.caffemodel", [("bn", "BatchNorm", blobs)])

    with pytest.raises(WeightsError) as caught:
        nvcaffe.convert(caffemodel.read(model))

    assert str(caught.value) == (
        f'{model}: layer "bn": a BatchNorm\'s blobs of 4, 4, 1, 4, 3 values, expected as many in '
        "each as there are channels, and 1 in the factor\n"
        "Caffe did not write this file, or it is damaged."
    )


# Damage


def good() -> bytes:
    net = nvcaffe_files.Net(name="nv")
    conv = net.layer.add(name="conv", type="Convolution", forward_type=2)
    nvcaffe_files.add_raw(conv.blobs, WEIGHT)
    norm = net.layer.add(name="bn", type="BatchNorm", top=["bn"])
    for blob in statistics():
        nvcaffe_files.add_raw(norm.blobs, blob)
    return net.SerializeToString()


@given(data=st.data())
def test_mutations_of_a_good_model_are_converted_or_refused(tmp_path_factory, data):
    content = bytearray(good())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    model = tmp_path_factory.mktemp("mutation") / "nv.caffemodel"
    model.write_bytes(content[: data.draw(st.integers(1, len(content)))])

    for suffix in ("caffemodel", "caffemodel.h5"):
        try:
            _, out = converted(model, suffix=suffix)
        except CaffesplitError:
            continue
        assert len(caffemodel.read(out)) >= 1
