"""Upgrades of files: weights of every version as Caffe's own tool makes them, and what is none."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from caffe_upgrade import Net, messages, upgraded_binary, v0_nets, v1_nets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caffesplit.errors import CaffesplitError, NetError, OutputError, WeightsError
from caffesplit.formats import caffemodel
from caffesplit.formats.schema import message_class
from caffesplit.formats.wire import encode_int, encode_length
from caffesplit.study.upgrade import upgrade

patient = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=20)
Layer = message_class("LayerParameter")


def fill(blob, shape: tuple[int, ...], legacy: bool, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    blob.data.extend(values.ravel().tolist())
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = (*(1,) * (4 - len(shape)), *shape)
    else:
        blob.shape.dim.extend(shape)


@st.composite
def models(draw: st.DrawFn):
    """A weight file of any version: a random net with blobs."""
    net = draw(v0_nets() | v1_nets() | v2_nets())
    for seed, layer in enumerate(net.layer or net.layers):
        holder = layer.layer if hasattr(layer, "layer") and layer.HasField("layer") else layer
        del holder.blobs[:]
        for shape in draw(st.lists(st.sampled_from([(2, 3, 1, 1), (3,), (0,)]), max_size=2)):
            fill(holder.blobs.add(), shape, draw(st.booleans()), seed)
    if not (net.layer or net.layers):
        net.layer.add(name="only")
    return net


@st.composite
def v2_nets(draw: st.DrawFn):
    net = Net(name="V2", input=draw(st.lists(st.just("data"), max_size=1)))
    if draw(st.booleans()):
        net.input_dim.extend([1, 2, 3, 4] * len(net.input))
    specs = messages(message_class("ParamSpec").DESCRIPTOR)
    for layer in draw(st.lists(messages(Layer.DESCRIPTOR, ("type", "param", "clip_param")))):
        layer.type = draw(st.sampled_from(["BatchNorm", "Scale"]))
        layer.param.extend(draw(st.lists(specs, min_size=2, max_size=4)))
        # What Caffe 1.0 does not have yet, it drops.
        layer.pooling_param.ClearField("round_mode")
        layer.ClearField("swish_param")
        net.layer.append(layer)
    return net


@patient
@given(net=models())
def test_the_upgrade_of_weights_is_caffe_s(caffe, tmp_path_factory, net):
    folder = tmp_path_factory.mktemp("model")
    (folder / "old").write_bytes(net.SerializeToString())
    expected = upgraded_binary(caffe, folder / "old")
    done = upgrade(folder / "old", folder / "new")
    written = (folder / "new").read_bytes()

    assert Net.FromString(written) == expected
    assert bool(done.steps) == (expected != net)
    if not done.steps:
        assert written == (folder / "old").read_bytes()
    assert not upgrade(folder / "new", folder / "again").steps


def v1_model(folder: Path, extra: bytes = b"") -> Path:
    net = Net(name="V1")
    layer = net.layers.add(name="fc", type=14, blobs_lr=[1, 2])
    fill(layer.blobs.add(), (2, 3), True, 0)
    path = folder / "old.caffemodel"
    inside = layer.SerializeToString() + extra
    path.write_bytes(encode_length(2, len(inside)) + inside)
    return path


def test_weights_are_the_same_bits_with_the_shapes_of_old(tmp_path):
    old = v1_model(tmp_path)
    upgrade(old, tmp_path / "new.caffemodel")
    (layer,) = caffemodel.index(tmp_path / "new.caffemodel").layers
    (before,), (after,) = (
        caffemodel.read(path)["fc"] for path in (old, tmp_path / "new.caffemodel")
    )

    assert (layer.version, layer.type) == (2, "InnerProduct")
    assert after.shape == (1, 1, 2, 3)
    assert after.tobytes() == before.tobytes()


def test_layers_of_today_are_copied_with_all_that_a_fork_wrote(tmp_path):
    fork = encode_int(4000, 7)
    norm = Layer(name="norm", type="BatchNorm").SerializeToString()
    specs = Layer(
        param=[message_class("ParamSpec")(lr_mult=0) for _ in range(3)]
    ).SerializeToString()
    layers = [Layer(name="a", type="Fork").SerializeToString() + fork, norm + fork + specs]
    old = tmp_path / "old"
    old.write_bytes(fork + b"".join(encode_length(100, len(each)) + each for each in layers))
    done = upgrade(old, tmp_path / "new")
    new = (tmp_path / "new").read_bytes()

    assert done.steps == ("1 BatchNorm layer",)
    assert fork in new[: len(fork)]
    assert encode_length(100, len(layers[0])) + layers[0] in new
    net = Net.FromString(new)
    assert [spec.decay_mult for spec in net.layer[1].param] == [0, 0, 0]
    assert fork in net.layer[1].SerializeToString()


def test_a_fork_s_field_in_a_v1_layer_has_no_place_and_is_told(tmp_path):
    old = v1_model(tmp_path, encode_int(4000, 7))
    (finding,) = upgrade(old, tmp_path / "new").findings

    assert str(finding).startswith(f"{old}: byte ")
    assert "warning: field 4000 of a fork's layer: has no place today, left out" in str(finding)


def test_hdf5_has_no_versions_and_is_copied(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["data/fc/0"] = np.zeros((2, 3), np.float32)
    done = upgrade(tmp_path / "old.h5", tmp_path / "new.h5")

    assert not done.steps
    assert (tmp_path / "new.h5").read_bytes() == (tmp_path / "old.h5").read_bytes()


@pytest.mark.parametrize(("source", "out"), [("old", "new.h5"), ("old.h5", "new")])
def test_an_upgrade_keeps_the_kind_of_file(source, out, tmp_path):
    (tmp_path / "old").write_bytes(encoded(layer=[Layer(name="a")]))
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["data/fc/0"] = np.zeros((2, 3), np.float32)
    with pytest.raises(OutputError) as caught:
        upgrade(tmp_path / source, tmp_path / out)
    kind = "HDF5" if source == "old.h5" else "BINARYPROTO"
    assert str(caught.value) == (
        f"{tmp_path / out}: {kind} weights, expected a name that ends in `.h5` for HDF5, and only "
        "for HDF5\nAn upgrade keeps the kind of file; `caffesplit convert` changes it."
    )


def encoded(**fields) -> bytes:
    return Net(**fields).SerializeToString()


V1, V2 = message_class("V1LayerParameter"), Layer
BAD_WEIGHTS = {
    "both": (encoded(layers=[V1(name="a")], layer=[V2(name="b")]), NetError, "several formats"),
    "type": (
        encode_length(2, 2) + encode_int(5, 99),
        NetError,
        "V1 has no layer type 99, expected 0 to 39",
    ),
    "inside": (
        encode_length(2, 4) + encode_length(10, 2) + b"\x0f\xff",
        WeightsError,
        "a V1LayerParameter that cannot be read",
    ),
    "name": (
        encode_length(2, 4) + encode_length(3, 2) + b"\xff\xfe",
        NetError,
        "top with [b'\\xff\\xfe'], expected numbers from 0 on, and texts in UTF-8",
    ),
    "negative": (
        encoded(layers=[{"layer": {"name": "a", "type": "images", "new_height": -1}}]),
        NetError,
        "new_height with -1, expected numbers from 0 on",
    ),
    "state": (
        message_class("SolverState")(iter=3, learned_net="x").SerializeToString(),
        WeightsError,
        "a number in the first field, as in a solver state or a mean image, expected a net, ",
    ),
    "utf16": ("net: 1".encode("utf-16"), CaffesplitError, "found UTF-16 text"),
    "text": (b"an ordinary text", CaffesplitError, "expected"),
    "neither": (b"a: 1", NetError, "no field of a net or a solver"),
    "either": (
        b"layer { } base_lr: 1",
        NetError,
        "`layer` of a net beside `base_lr` of a solver",
    ),
    "empty": (b"", CaffesplitError, "found an empty file"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_what_cannot_be_upgraded_says_so_and_writes_nothing(name, tmp_path):
    content, kind, message = BAD_WEIGHTS[name]
    (tmp_path / "old").write_bytes(content)
    with pytest.raises(kind) as caught:
        upgrade(tmp_path / "old", tmp_path / "new")

    assert message in str(caught.value)
    assert str(tmp_path / "old") in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@patient
@given(net=v1_nets(), data=st.data())
def test_damaged_weights_are_an_error_or_others(tmp_path_factory, net, data):
    net.layers.add(name="fc")
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(net.SerializeToString())
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "old").write_bytes(content)
    try:
        upgrade(folder / "old", folder / "new")
    except CaffesplitError:
        assert not (folder / "new").exists()


def test_neither_an_input_nor_what_exists_is_overwritten(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("layers { type: RELU }")
    with pytest.raises(OutputError, match="also an input"):
        upgrade(path, path, force=True)
    upgrade(path, tmp_path / "new")
    with pytest.raises(OutputError, match="exists already"):
        upgrade(path, tmp_path / "new")
    upgrade(path, tmp_path / "new", force=True)


def test_memory_does_not_grow_with_the_blobs(tmp_path):
    old = tmp_path / "old"
    values = 64 << 20
    sizes = b"".join(encode_int(axis, 1) for axis in (1, 2, 3)) + encode_int(4, values // 4)
    blob = sizes + encode_length(5, values)
    layer = encode_int(5, 14) + encode_length(6, len(blob) + values) + blob
    with old.open("wb") as file:
        file.write(encode_length(2, len(layer) + values) + layer)
        file.truncate(file.tell() + values)
    tracemalloc.start()
    upgrade(old, tmp_path / "new")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert caffemodel.index(tmp_path / "new").layers[0].type == "InnerProduct"
    assert peak < 8 << 20
