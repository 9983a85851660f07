"""Weight files: what protobuf and h5py read and write is the judge."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_array_equal

from caffesplit.errors import OutputError, WeightsError
from caffesplit.formats import caffemodel, hdf5
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.formats.schema import message_class

Net = message_class("NetParameter")
Layer = message_class("LayerParameter")


def ramp(*shape: int) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def add_blob(blobs, array: np.ndarray, legacy: bool = False):
    blob = blobs.add()
    blob.data.extend(array.ravel().tolist())
    if legacy:
        four = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = four
    else:
        blob.shape.dim.extend(array.shape)
    return blob


def net_of_today():
    net = Net(name="tiny")
    net.layer.add(name="data", type="Input", top=["data"])
    conv = net.layer.add(name="conv1", type="Convolution", bottom=["data"], top=["conv1"])
    conv.convolution_param.num_output = 4
    add_blob(conv.blobs, ramp(4, 3, 3, 3)).diff.extend([0.5] * 108)
    add_blob(conv.blobs, ramp(4))
    net.layer.add(name="relu1", type="ReLU", bottom=["conv1"], top=["conv1"])
    fc = net.layer.add(name="fc", type="InnerProduct", bottom=["conv1"], top=["fc"])
    add_blob(fc.blobs, ramp(10, 36))
    return net


def net_of_v1():
    net = Net(name="old")
    conv = net.layers.add(name="conv1", type=4, bottom=["data"], top=["conv1"])
    add_blob(conv.blobs, ramp(4, 3, 3, 3), legacy=True)
    add_blob(conv.blobs, ramp(4), legacy=True)
    net.layers.add(name="mystery", type=0)
    fc = net.layers.add(name="fc", type=14)
    add_blob(fc.blobs, ramp(10, 36), legacy=True)
    return net


def saved(net, folder: Path, name: str = "net.caffemodel") -> Path:
    path = folder / name
    path.write_bytes(net.SerializeToString())
    return path


def parsed(path: Path):
    return Net.FromString(path.read_bytes())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(net_of_today(), tmp_path)


# Reading


def test_layers_with_blobs_are_read_as_protobuf_reads_them(source: Path):
    weights = caffemodel.read(source)

    assert list(weights) == ["conv1", "fc"]
    assert_array_equal(weights["conv1"][0], ramp(4, 3, 3, 3))
    assert_array_equal(weights["conv1"][1], ramp(4))
    assert_array_equal(weights["fc"][0], ramp(10, 36))


def test_the_index_tells_where_every_layer_lies(source: Path):
    index = caffemodel.index(source)
    content = source.read_bytes()

    assert (index.name, index.size, index.hdf5) == ("tiny", len(content), False)
    assert [(layer.name, layer.type) for layer in index.layers] == [
        ("data", "Input"), ("conv1", "Convolution"), ("relu1", "ReLU"), ("fc", "InnerProduct"),
    ]  # fmt: skip
    for layer, message in zip(index.layers, parsed(source).layer, strict=True):
        record = content[layer.offset : layer.offset + layer.length]
        assert Net.FromString(record).layer[0] == message


def test_arrays_are_views_on_the_file_that_cannot_be_written(source: Path):
    array = caffemodel.read(source)["fc"][0]

    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_arrays_outlive_the_mapping_they_came_from(source: Path):
    array = caffemodel.read(source)["fc"][0]
    source.unlink()

    assert_array_equal(array, ramp(10, 36))


def test_v1_files_read_alike(tmp_path: Path):
    weights = caffemodel.read(saved(net_of_v1(), tmp_path))

    assert [(layer.name, layer.type) for layer in weights.index.layers] == [
        ("conv1", "Convolution"), ("mystery", "0"), ("fc", "InnerProduct"),
    ]  # fmt: skip
    assert_array_equal(weights["conv1"][0], ramp(4, 3, 3, 3))
    assert_array_equal(weights["conv1"][1], ramp(4).reshape(1, 1, 1, 4))
    assert_array_equal(weights["fc"][0], ramp(10, 36).reshape(1, 1, 10, 36))


def test_v0_layers_are_read_from_inside_their_v1_wrapping(tmp_path: Path):
    net = Net(name="oldest")
    wrapping = net.layers.add(bottom=["data"], top=["conv1"])
    wrapping.layer.name, wrapping.layer.type = "conv1", "conv"
    add_blob(wrapping.layer.blobs, ramp(2, 3, 1, 1), legacy=True)

    weights = caffemodel.read(saved(net, tmp_path))

    assert_array_equal(weights["conv1"][0], ramp(2, 3, 1, 1))
    assert (weights.index.layers[0].version, weights.index.layers[0].type) == (0, "conv")


def test_double_data_is_read_as_float64(tmp_path: Path):
    net = Net()
    blob = net.layer.add(name="conv1").blobs.add()
    blob.shape.dim.extend([2, 2])
    blob.double_data.extend([1 / 3, 2 / 3, 1e300, -0.0])

    (array,) = caffemodel.read(saved(net, tmp_path))["conv1"]

    assert array.dtype == np.float64
    assert_array_equal(array, [[1 / 3, 2 / 3], [1e300, -0.0]])


@pytest.mark.parametrize("cut", [(108,), (1, 107), (50, 8, 50)])
@pytest.mark.parametrize("packed", ["packed", "single", "mixed"])
def test_values_may_come_packed_or_single_in_any_number_of_pieces(tmp_path: Path, cut, packed):
    pieces = np.split(ramp(4, 3, 3, 3).ravel(), np.cumsum(cut)[:-1])
    blob = b"\x3a\x06\x0a\x04\x04\x03\x03\x03"  # shape { dim: [4, 3, 3, 3] }
    for number, piece in enumerate(pieces):
        if packed == "packed" or (packed == "mixed" and number % 2):
            blob += length_delimited(5, piece.tobytes())
        else:
            blob += b"".join(b"\x2d" + struct.pack("<f", value) for value in piece)
        blob += b"\x7d\x00\x00\x00\x00"  # an unknown field between two pieces
    layer = length_delimited(1, b"conv1") + length_delimited(7, blob)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(length_delimited(100, layer))
    assert Net.FromString(path.read_bytes()).layer[0].blobs[0].data[107] == 1

    assert_array_equal(caffemodel.read(path)["conv1"][0], ramp(4, 3, 3, 3))


def length_delimited(number: int, content: bytes) -> bytes:
    tag, length = number << 3 | 2, len(content)
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return head + bytes([length & 127 | 128, length >> 7]) + content


def test_a_legacy_shape_wins_over_shape_as_in_caffe(tmp_path: Path):
    net = Net()
    blob = add_blob(net.layer.add(name="fc").blobs, ramp(2, 3), legacy=True)
    blob.shape.dim.extend([6])

    assert caffemodel.read(saved(net, tmp_path))["fc"][0].shape == (1, 1, 2, 3)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_scalars_and_empty_blobs_have_their_shape(tmp_path: Path, shape):
    path = tmp_path / "net.caffemodel"
    caffemodel.write(path, [LayerWeights("x", "Parameter", (ramp(*shape),))])

    assert_array_equal(caffemodel.read(path)["x"][0], ramp(*shape))


def test_of_two_layers_of_one_name_the_last_one_counts_as_in_caffe(tmp_path: Path):
    net = Net()
    for value in (1, 2):
        add_blob(net.layer.add(name="conv1").blobs, np.full((2, 2), value))

    assert_array_equal(caffemodel.read(saved(net, tmp_path))["conv1"][0], np.full((2, 2), 2))


# Writing


@given(
    arrays=st.lists(
        npst.arrays(np.float32, npst.array_shapes(max_dims=5, min_side=0, max_side=4)), max_size=3
    )
)
def test_what_was_written_is_read_bit_for_bit(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("written") / "net.caffemodel"
    caffemodel.write(path, [LayerWeights("conv1", "Convolution", tuple(arrays))])

    weights = caffemodel.read(path)
    assert [array.tobytes() for array in weights.get("conv1", [])] == [a.tobytes() for a in arrays]
    assert [array.shape for array in weights.get("conv1", [])] == [a.shape for a in arrays]


def test_what_was_written_is_what_protobuf_would_write(tmp_path: Path):
    expected = net_of_today()
    expected.layer[1].blobs[0].ClearField("diff")
    path = tmp_path / "out.caffemodel"

    caffemodel.write(
        path,
        [
            LayerWeights(
                layer.name,
                layer.type,
                tuple(np.array(b.data, np.float32).reshape(b.shape.dim) for b in layer.blobs),
                definition=layer,
            )
            for layer in expected.layer
        ],
        name="tiny",
    )

    assert parsed(path) == expected


def test_other_types_and_layouts_are_written_as_float32_in_c_order(tmp_path: Path):
    path = tmp_path / "net.caffemodel"
    transposed = np.arange(6, dtype=np.float64).reshape(2, 3).T
    caffemodel.write(path, [LayerWeights("fc", "InnerProduct", (transposed, np.arange(3)))])

    weights = caffemodel.read(path)["fc"]
    assert_array_equal(weights[0], transposed.astype(np.float32))
    assert_array_equal(weights[1], [0, 1, 2])


def test_writing_over_a_file_needs_force(source: Path):
    before = source.read_bytes()

    with pytest.raises(OutputError, match="the output exists already"):
        caffemodel.write(source, [])

    assert source.read_bytes() == before
    caffemodel.write(source, [LayerWeights("x", "ReLU", ())], force=True)
    assert caffemodel.index(source).layers[0].name == "x"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path):
    def layers():
        yield LayerWeights("conv1", "Convolution", (ramp(4),))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caffemodel.write(tmp_path / "net.caffemodel", layers())

    assert list(tmp_path.iterdir()) == []


# Splicing

NEW = (
    LayerWeights("conv1_split1", "Convolution", (ramp(2, 3, 3, 3), ramp(2))),
    LayerWeights("conv1_split2", "Convolution", (ramp(2, 3, 3, 3), ramp(2))),
    LayerWeights("conv1_concat", "Concat", ()),
)


@pytest.mark.parametrize("net", [net_of_today(), net_of_v1()])
def test_a_splice_of_nothing_is_a_copy(tmp_path: Path, net):
    source, out = saved(net, tmp_path), tmp_path / "out.caffemodel"

    caffemodel.splice(source, out, {})

    assert out.read_bytes() == source.read_bytes()


def test_a_splice_is_the_edited_message(source: Path, tmp_path: Path):
    definition = Layer(bottom=["data"], top=["conv1_split1"])
    definition.convolution_param.num_output = 2
    with_definition = LayerWeights(NEW[0].name, NEW[0].type, NEW[0].blobs, definition)
    expected = net_of_today()
    old = list(expected.layer)
    del expected.layer[:]
    expected.layer.append(old[0])
    for new in NEW:
        layer = expected.layer.add(name=new.name, type=new.type)
        if new is NEW[0]:
            layer.MergeFrom(definition)
        for array in new.blobs:
            add_blob(layer.blobs, array)
    expected.layer.extend(old[2:])

    out = tmp_path / "out.caffemodel"
    caffemodel.splice(source, out, {"conv1": [with_definition, *NEW[1:]]})

    assert parsed(out) == expected


def test_a_layer_may_be_spliced_away(source: Path, tmp_path: Path):
    caffemodel.splice(source, tmp_path / "out.caffemodel", {"conv1": []})

    assert [layer.name for layer in parsed(tmp_path / "out.caffemodel").layer] == [
        "data", "relu1", "fc",
    ]  # fmt: skip


def test_a_v1_file_stays_one(tmp_path: Path):
    definition = Layer(bottom=["a", "b"], top=["conv1"])
    concat = LayerWeights("conv1_concat", "Concat", (), definition)
    out = tmp_path / "out.caffemodel"

    caffemodel.splice(saved(net_of_v1(), tmp_path), out, {"conv1": [*NEW[:2], concat]})

    net = parsed(out)
    assert not net.layer
    assert [(layer.name, layer.type) for layer in net.layers] == [
        ("conv1_split1", 4), ("conv1_split2", 4), ("conv1_concat", 3), ("mystery", 0), ("fc", 14),
    ]  # fmt: skip
    assert (net.layers[2].bottom, net.layers[2].top) == (["a", "b"], ["conv1"])
    assert_array_equal(net.layers[0].blobs[0].data, ramp(2, 3, 3, 3).ravel())


def test_what_forks_added_survives_byte_for_byte(tmp_path: Path):
    unknown = b"\xc2\xbb\x01\x05fork!"  # field 3000
    blob = length_delimited(12, b"raw") + b"\x2d\x00\x00\x80\x3f"  # NVCaffe's, beside the values
    kept = length_delimited(100, length_delimited(1, b"fc") + unknown + length_delimited(7, blob))
    replaced = length_delimited(100, length_delimited(1, b"conv1"))
    source, out = tmp_path / "fork.caffemodel", tmp_path / "out.caffemodel"
    source.write_bytes(unknown + replaced + kept + unknown)

    caffemodel.splice(source, out, {"conv1": NEW})

    assert out.read_bytes().startswith(unknown)
    assert out.read_bytes().endswith(kept + unknown)


def test_all_records_of_a_replaced_name_go(tmp_path: Path):
    net = Net()
    for name in ("a", "conv1", "b", "conv1", "c"):
        add_blob(net.layer.add(name=name).blobs, ramp(2, 2))

    caffemodel.splice(saved(net, tmp_path), tmp_path / "out", {"conv1": NEW[:1]})

    assert list(caffemodel.read(tmp_path / "out")) == ["a", "conv1_split1", "b", "c"]


def test_a_layer_that_is_not_there_cannot_be_replaced(source: Path, tmp_path: Path):
    with pytest.raises(WeightsError) as caught:
        caffemodel.splice(source, tmp_path / "out", {"conv_1": NEW})

    assert str(caught.value) == (
        f'{source}: layer "conv_1": no such layer in the weights, expected one of them, such as '
        '"conv1"\nWeights and net must belong together.'
    )
    assert not (tmp_path / "out").exists()


def test_a_v0_layer_cannot_be_replaced(tmp_path: Path):
    net = Net()
    net.layers.add().layer.name = "conv1"

    with pytest.raises(WeightsError) as caught:
        caffemodel.splice(saved(net, tmp_path), tmp_path / "out", {"conv1": NEW})

    assert str(caught.value).endswith(
        "a V0 layer cannot be replaced, expected a file of V1 or newer\n"
        "Upgrade the file first (`caffesplit upgrade`)."
    )


def test_a_v1_file_takes_no_later_layer_types(tmp_path: Path):
    new = LayerWeights("norm", "BatchNorm", ())

    with pytest.raises(WeightsError, match=r'"norm" of type BatchNorm does not fit into a V1 file'):
        caffemodel.splice(saved(net_of_v1(), tmp_path), tmp_path / "out", {"conv1": [new]})


def test_a_splice_never_touches_its_source(source: Path):
    before = source.read_bytes()

    with pytest.raises(OutputError, match="the output is also an input"):
        caffemodel.splice(source, source, {"conv1": NEW}, force=True)

    assert source.read_bytes() == before


def test_a_splice_that_outgrows_caffe_is_refused_before_it_starts(source: Path, tmp_path: Path):
    huge = np.broadcast_to(np.float32(0), (2**15, 2**14))

    with pytest.raises(OutputError) as caught:
        caffemodel.splice(source, tmp_path / "out", {"conv1": [LayerWeights("x", "", (huge,))]})

    assert "the file would take 2,147," in str(caught.value)
    assert "at most 2,147,483,647, which is what Caffe reads" in str(caught.value)
    assert list(tmp_path.iterdir()) == [source]


# HDF5


@pytest.fixture
def hdf5_source(tmp_path: Path) -> Path:
    path = tmp_path / "snap_iter_1.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file.create_group("data/relu1")
        file["data/conv1/0"], file["data/conv1/1"] = ramp(4, 3, 3, 3), ramp(4)
        file["data/inception/1x1/0"] = ramp(2, 2).astype(np.float64)
        file["diff/conv1/0"] = ramp(4, 3, 3, 3)
    return path


def test_hdf5_snapshots_read_alike(hdf5_source: Path):
    weights = caffemodel.read(hdf5_source)

    assert weights.index.hdf5
    assert list(weights) == ["conv1", "inception/1x1"]
    assert_array_equal(weights["conv1"][0], ramp(4, 3, 3, 3))
    assert_array_equal(weights["conv1"][1], ramp(4))
    assert_array_equal(weights["inception/1x1"][0], ramp(2, 2))
    assert weights["inception/1x1"][0].dtype == np.float64


def test_the_content_tells_hdf5_not_the_name(hdf5_source: Path, source: Path):
    renamed = hdf5_source.rename(hdf5_source.with_suffix(""))

    assert caffemodel.read(renamed)["conv1"][0].shape == (4, 3, 3, 3)
    assert not caffemodel.index(source.rename(source.with_suffix(".caffemodel.h5"))).hdf5


def test_a_blob_of_more_than_ten_keeps_its_place(tmp_path: Path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        for number in range(12):
            file[f"data/lstm/{number}"] = np.full(2, number, np.float32)

    assert [array[0] for array in caffemodel.read(path)["lstm"]] == list(range(12))


def test_a_spliced_hdf5_file_comes_out_as_binaryproto(hdf5_source: Path, tmp_path: Path):
    caffemodel.splice(hdf5_source, tmp_path / "out", {"conv1": NEW})

    net = parsed(tmp_path / "out")
    assert [layer.name for layer in net.layer] == [*(new.name for new in NEW), "inception/1x1"]
    assert_array_equal(net.layer[3].blobs[0].data, ramp(2, 2).ravel())


def test_compressed_hdf5_says_how_to_rewrite_it(tmp_path: Path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data/conv1/0", data=ramp(8, 8), compression="gzip")

    with pytest.raises(WeightsError) as caught:
        caffemodel.read(path)

    assert str(caught.value) == (
        f'{path}: layer "conv1", blob 0: a dataset of float32 that is chunked, compressed or '
        "elsewhere, expected float32 or float64 in one piece, as Caffe writes it\n"
        "Rewrite the file with `h5repack -l CONTI -f NONE`."
    )


def test_a_shared_blob_that_hdf5_leaves_out_is_named(tmp_path: Path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["data/conv2/1"] = ramp(4)

    with pytest.raises(WeightsError) as caught:
        caffemodel.read(path)

    assert str(caught.value) == (
        f'{path}: layer "conv2": dataset "0" is missing beside "1", expected all blobs of the '
        "layer\nHDF5 leaves out blobs shared from another layer: snapshot as BINARYPROTO."
    )


def test_hdf5_that_is_no_snapshot_is_an_error(tmp_path: Path):
    path = tmp_path / "images.h5"
    with h5py.File(path, "w") as file:
        file["data"] = ramp(8, 8)

    with pytest.raises(WeightsError, match='no group "data", expected a snapshot of Caffe'):
        caffemodel.read(path)


def test_hdf5_without_any_blob_is_no_weight_file(tmp_path: Path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file.create_group("data/relu1")

    with pytest.raises(WeightsError) as caught:
        caffemodel.read(path)

    assert str(caught.value) == (
        f"{path}: the file holds no blobs, expected a net's weights\n"
        "Caffe did not write this file, or it is damaged."
    )


@pytest.mark.parametrize("target", ["/data/conv1/0", "/nowhere"])
@pytest.mark.parametrize("name", ["data/conv2/0", "data/conv2"])
def test_links_in_hdf5_are_refused_not_passed_over(hdf5_source: Path, name: str, target: str):
    with h5py.File(hdf5_source, "a") as file:
        file[name] = h5py.SoftLink(target)
    group, _, own = name.rpartition("/")

    with pytest.raises(WeightsError) as caught:
        caffemodel.read(hdf5_source)

    assert str(caught.value) == (
        f'{hdf5_source}: "{own}" in "/{group}" is a link, expected the data themselves\n'
        "Copy what it leads to in its place; Caffe writes no links."
    )


def test_a_dataset_of_two_names_in_hdf5_is_read_under_both(hdf5_source: Path):
    with h5py.File(hdf5_source, "a") as file:
        file["data/conv2/0"] = file["data/conv1/0"]

    weights = caffemodel.read(hdf5_source)

    assert_array_equal(weights["conv2"][0], weights["conv1"][0])


def test_an_hdf5_group_inside_itself_has_an_end(hdf5_source: Path):
    with h5py.File(hdf5_source, "a") as file:
        file["data/conv1/again"] = file["data"]

    with pytest.raises(WeightsError, match="groups inside 32 others, expected a snapshot of Caffe"):
        caffemodel.read(hdf5_source)


def test_an_hdf5_file_of_very_many_groups_is_refused(hdf5_source: Path, monkeypatch):
    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 5)

    with pytest.raises(WeightsError, match="more than 5 objects, expected a snapshot of Caffe"):
        caffemodel.read(hdf5_source)


def test_without_h5py_the_message_says_what_to_install(hdf5_source: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)

    with pytest.raises(WeightsError) as caught:
        caffemodel.read(hdf5_source)

    assert str(caught.value) == (
        f"{hdf5_source}: the file is HDF5, and h5py is not installed\nInstall it: pip install h5py"
    )
