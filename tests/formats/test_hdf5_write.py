"""Weights in HDF5: in Caffe's own layout, layer by layer, and the real Caffe loads them."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_array_equal

from caffesplit.errors import Location, OutputError, WeightsError
from caffesplit.formats import caffemodel, hdf5
from caffesplit.formats.caffemodel import LayerWeights
from caffesplit.formats.layers import V1_NUMBERS
from caffesplit.formats.schema import message_class


def ramp(*shape: int) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


LAYERS = [
    LayerWeights("conv1", "Convolution", (ramp(4, 3, 3, 3), ramp(4))),
    LayerWeights("relu1", "ReLU", ()),
    LayerWeights("fc", "InnerProduct", (ramp(10, 36),)),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.caffemodel"
    caffemodel.write(path, LAYERS, "tiny")
    return path


def read(path: Path) -> dict[str, list[np.ndarray]]:
    """All layers as h5py reads them."""
    with h5py.File(path) as file:
        assert set(file) == {"data"}
        return {
            name: [layer[str(number)][()] for number in range(len(layer))]
            for name, layer in file["data"].items()
        }


@given(
    arrays=st.lists(
        npst.arrays(np.float32, npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)),
        min_size=1,
        max_size=12,
    ),
    name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)
    .filter(lambda name: name != "."),
)  # fmt: skip
def test_what_was_written_is_read_bit_for_bit(tmp_path_factory, arrays, name):
    path = tmp_path_factory.mktemp("written") / "net.caffemodel.h5"
    caffemodel.write(path, [LayerWeights(name, "Convolution", tuple(arrays))])

    weights = caffemodel.read(path)

    assert weights.index.hdf5
    assert list(weights) == [name]
    assert [array.tobytes() for array in weights[name]] == [array.tobytes() for array in arrays]
    assert [array.shape for array in weights[name]] == [array.shape for array in arrays]


def test_the_layout_is_caffes_own(tmp_path: Path):
    path = tmp_path / "net.caffemodel.h5"

    caffemodel.write(path, LAYERS)

    found = read(path)
    assert list(found) == ["conv1", "fc", "relu1"]  # Caffe too writes groups for all layers.
    assert found["relu1"] == []
    for layer in LAYERS:
        for array, expected in zip(found[layer.name], layer.blobs, strict=True):
            assert array.dtype == np.float32
            assert_array_equal(array, expected)


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_a_splice_goes_from_any_form_to_hdf5(source: Path, tmp_path: Path, suffix: str):
    from_path = tmp_path / f"from.{suffix}"
    caffemodel.splice(source, from_path, {})
    new = LayerWeights("new", "Convolution", (ramp(2, 3, 3, 3).astype(np.float64),))

    caffemodel.splice(from_path, tmp_path / "out.caffemodel.h5", {"conv1": [new]})

    found = read(tmp_path / "out.caffemodel.h5")
    assert list(found) == ["fc", "new"]
    assert_array_equal(found["new"][0], ramp(2, 3, 3, 3))
    assert_array_equal(found["fc"][0], ramp(10, 36))


def test_there_and_back_again_is_the_same_weights(source: Path, tmp_path: Path):
    caffemodel.splice(source, tmp_path / "there.caffemodel.h5", {})
    caffemodel.splice(tmp_path / "there.caffemodel.h5", tmp_path / "back.caffemodel", {})

    before, after = caffemodel.read(source), caffemodel.read(tmp_path / "back.caffemodel")
    assert not after.index.hdf5
    assert list(after) == list(before)
    for name in before:
        assert all(map(np.array_equal, before[name], after[name]))


def test_of_two_layers_of_one_name_the_last_ones_blobs_are_written(tmp_path: Path):
    twice = [LayerWeights("fc", "InnerProduct", (np.float32([[n]]),)) for n in (1, 2)]
    caffemodel.write(tmp_path / "twice.caffemodel", twice)

    caffemodel.splice(tmp_path / "twice.caffemodel", tmp_path / "once.h5", {})

    assert read(tmp_path / "once.h5")["fc"][0] == 2


@pytest.mark.parametrize("name", ["inception/1x1", "", ".", "a\0b"])
def test_a_name_that_caffe_would_not_find_in_hdf5_is_refused(tmp_path: Path, name: str):
    path = tmp_path / "net.caffemodel.h5"

    with pytest.raises(WeightsError) as caught:
        caffemodel.write(path, [*LAYERS, LayerWeights(name, "Convolution", (ramp(1),))])

    assert str(caught.value) == (
        f'{path}: layer "{name}": HDF5 takes a layer\'s name for a path, in which Caffe does not '
        'find this one, expected a name without "/"\n'
        "Write a `.caffemodel` without `.h5`, or rename the layer in net and weights."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_second_layer_of_a_name_is_refused(tmp_path: Path):
    path = tmp_path / "net.caffemodel.h5"

    with pytest.raises(WeightsError) as caught:
        caffemodel.write(path, [LAYERS[0], LAYERS[0]])

    assert str(caught.value) == (
        f'{path}: layer "conv1": two layers of one name, expected one: HDF5 has no place for '
        "another\nRename one."
    )


def test_a_v0_file_cannot_become_hdf5(tmp_path: Path):
    net = message_class("NetParameter")()
    layer = net.layers.add().layer
    layer.name = "conv1"
    layer.blobs.add(num=1, channels=1, height=1, width=1).data.append(1)
    path = tmp_path / "v0.caffemodel"
    path.write_bytes(net.SerializeToString())

    with pytest.raises(WeightsError, match="a V0 layer cannot be replaced, expected a file of V1"):
        caffemodel.splice(path, tmp_path / "out.h5", {})


def test_hdf5_too_is_written_over_only_by_force_and_never_over_the_source(tmp_path: Path):
    path = tmp_path / "net.caffemodel.h5"
    caffemodel.write(path, LAYERS)
    before = path.read_bytes()

    with pytest.raises(OutputError, match="the output exists already"):
        caffemodel.write(path, LAYERS)
    with pytest.raises(OutputError, match="the output is also an input"):
        caffemodel.splice(path, path, {}, force=True)

    assert path.read_bytes() == before
    caffemodel.write(path, LAYERS[:1], force=True)
    assert list(read(path)) == ["conv1"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path):
    def layers():
        yield LAYERS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caffemodel.write(tmp_path / "net.caffemodel.h5", layers())

    assert list(tmp_path.iterdir()) == []


def test_without_h5py_the_message_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    path = tmp_path / "net.caffemodel.h5"

    with pytest.raises(WeightsError) as caught:
        caffemodel.write(path, LAYERS)

    assert str(caught.value) == (
        f"{path}: the file is HDF5, and h5py is not installed\nInstall it: pip install h5py"
    )


def in_new_process(program: str, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


NO_ROOM = """
import resource, signal, sys, numpy as np
from caffesplit.errors import OutputError
from caffesplit.formats import caffemodel
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
layer = caffemodel.LayerWeights("fc", "InnerProduct", (np.ones((300, 1000)),))
try:
    caffemodel.write(sys.argv[1], [layer, layer])
except OutputError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_is_told_as_a_disk_without_room(tmp_path: Path):
    told = in_new_process(NO_ROOM, tmp_path / "net.caffemodel.h5")

    assert told.startswith(f"{tmp_path}: the output does not fit on the disk (File too large, ")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_by_its_number():
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        hdf5.created(Path("/dev/full"), Location("net.h5")),
    ):
        pass

    assert caught.value.errno == errno.ENOSPC


MEMORY = """
import resource, sys
from caffesplit.formats import caffemodel

def anonymous():
    rows = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(rows["RssAnon"].split()[0])

import h5py
with h5py.File(sys.argv[1]) as file:  # The library's own buffers.
    file["data"]
before, peak = anonymous(), 0
write = h5py.Group.create_dataset

def watched(*arguments, **keywords):
    global peak
    dataset = write(*arguments, **keywords)
    peak = max(peak, anonymous())
    return dataset

h5py.Group.create_dataset = watched
caffemodel.splice(sys.argv[1], sys.argv[2], {})
print((peak - before) * 1024)
"""


def test_no_more_memory_is_taken_than_about_the_largest_blob(tmp_path: Path):
    blob = np.zeros((1000, 2000), np.float64)  # 16 MB, 8 MB as it is written
    source = tmp_path / "source.caffemodel.h5"
    with h5py.File(source, "w") as file:
        for number in range(12):
            file[f"data/fc{number}/0"] = blob

    taken = int(in_new_process(MEMORY, source, tmp_path / "out.caffemodel.h5"))

    assert taken < 12e6
    assert (tmp_path / "out.caffemodel.h5").stat().st_size > 96e6


def as_legacy(weights: caffemodel.Weights, path: Path) -> Path:
    """The weights as a file of 2014: V1 layers, blobs of four axes."""
    net = message_class("NetParameter")()
    for record in weights.index.layers:
        if record.blobs:
            layer = net.layers.add(name=record.name, type=V1_NUMBERS[record.type])
            for array in weights[record.name]:
                blob = layer.blobs.add(data=array.ravel().tolist())
                four = (1,) * (4 - array.ndim) + array.shape
                blob.num, blob.channels, blob.height, blob.width = four
    path.write_bytes(net.SerializeToString())
    return path


def accuracies(caffe: Path, net: Path, weights: Path) -> list[str]:
    command = [caffe, "test", f"--model={net}", f"--weights={weights}", "--iterations=10"]
    done = subprocess.run(
        command, cwd=net.parent.parent, capture_output=True, text=True, check=True
    )
    return [line.partition("] ")[2] for line in done.stderr.splitlines() if "accuracy =" in line]


def test_the_real_caffe_tests_the_same_from_hdf5_be_the_source_of_today_or_of_2014(
    caffe: Path, digits_root: Path
):
    base = digits_root / "baseline"
    subprocess.run(
        [caffe, "train", f"--solver={base / 'solver.prototxt'}"],
        cwd=digits_root,
        capture_output=True,
        check=True,
    )
    own, net = base / "digits_iter_100.caffemodel", base / "train_val.prototxt"
    legacy = as_legacy(caffemodel.read(own), base / "legacy.caffemodel")

    caffemodel.splice(own, base / "own.caffemodel.h5", {})
    caffemodel.splice(legacy, base / "legacy.caffemodel.h5", {})

    expected = accuracies(caffe, net, own)
    assert len(expected) == 11
    assert accuracies(caffe, net, base / "own.caffemodel.h5") == expected
    assert accuracies(caffe, net, base / "legacy.caffemodel.h5") == expected
