"""`caffesplit convert` as a user types it, its outputs in the real Caffe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import nvcaffe_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffesplit.errors import CaffesplitError
from caffesplit.formats import caffemodel, nvcaffe, nvcaffe_net, prototxt

NET = Path(__file__).parent.parent / "data/convert/nvcaffe.prototxt"


def caffesplit(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line; no run of it may ever show a traceback."""
    program = "from caffesplit.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def model(folder: Path, dtype: str = "f2", scaled: tuple[str, ...] = ("bn1", "bn3")) -> Path:
    """The weights of NET: a convolution and three BatchNorm layers, two of them scaled."""
    rng = np.random.default_rng(0)
    layers = [("conv1", "Convolution", [rng.standard_normal((4, 3, 3, 3)).astype(dtype)])]
    for name in ("bn1", "bn2", "bn3"):
        mean, variance, scale, bias = rng.uniform(0.5, 2, (4, 4)).astype(np.float32)
        blobs = [mean, variance, np.zeros(1, np.float32), scale, bias]
        layers.append((name, "BatchNorm", blobs if name in scaled else blobs[:3]))
    return nvcaffe_files.save(folder / "nv.caffemodel", layers)


FORWARD = """
import sys, numpy as np, caffe
net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
net.blobs["data"].data[...] = np.load(sys.argv[3])
np.save(sys.argv[4], net.forward()["drop"])
"""


def naive(images: np.ndarray, model: Path) -> np.ndarray:
    """NET in float64 as NVCaffe computes it in TEST, from the blobs it wrote."""
    blobs = {
        layer.name: [
            np.frombuffer(blob.raw_data, ("f8", "f4", "f2")[blob.raw_data_type])
            .astype(np.float64)
            .reshape(blob.shape.dim)
            for blob in layer.blobs
        ]
        for layer in nvcaffe_files.Net.FromString(model.read_bytes()).layer
    }
    (weight,) = blobs["conv1"]
    x = np.zeros((2, 4, 2, 2))
    for n, c, h, w in np.ndindex(*x.shape):
        x[n, c, h, w] = (images[n, :, h : h + 3, w : w + 3] * weight[c]).sum()
    for name, eps in (("bn1", 1e-4), ("bn2", 1e-5), ("bn3", 1e-5)):
        mean, variance, _, *scale_bias = (blob.reshape(-1, 1, 1) for blob in blobs[name])
        x = (x - mean) / np.sqrt(variance + eps)
        if scale_bias:
            x = x * scale_bias[0] + scale_bias[1]
        if name == "bn1":
            x = np.maximum(x, 0)
    return x


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_a_model_of_nvcaffe_and_its_net_run_in_bvlcs_caffe_with_the_same_result(
    python_caffe: Path, tmp_path: Path, suffix: str
):
    source, out, net = model(tmp_path), tmp_path / f"out.{suffix}", tmp_path / "out.prototxt"

    done = caffesplit("convert", source, "-o", out, "--net", NET, "--net-output", net)

    images = np.random.default_rng(1).standard_normal((2, 3, 4, 4))
    np.save(tmp_path / "in.npy", images)
    files = [net, out, tmp_path / "in.npy", tmp_path / "out.npy"]
    subprocess.run([python_caffe, "-c", FORWARD, *files], check=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), naive(images, source), rtol=1e-4, atol=1e-5
    )
    assert net.read_text() == NET.with_name("bvlc.prototxt").read_text()
    assert done.stdout == (
        "BatchNorm layers with scale and bias → BatchNorm and Scale: 2\n"
        "BatchNorm layers' third blob, which NVCaffe does not heed → 1: 3\n"
        "blobs of float16 in raw_data → float32 in data: 1\n"
        "blobs of float32 in raw_data → float32 in data: 13\n"
        "net: BatchNorm layers → BatchNorm and Scale: 2\n"
        "net: left out cudnn_convolution_algo_seeker ×1, default_backward_type ×1, "
        "default_forward_type ×1, engine ×1, eps ×1, forward_type ×1, param ×5, random_seed ×1, "
        "use_global_stats ×1\n"
        f"{out}: {'HDF5' if suffix.endswith('h5') else 'BINARYPROTO'}, 6 layers with blobs\n"
    )


def test_without_the_net_the_message_says_that_it_needs_the_same(tmp_path: Path):
    source, out = model(tmp_path, "f4", scaled=("bn2",)), tmp_path / "out.caffemodel"

    done = caffesplit("convert", source, "-o", out)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(
        "the net needs the same Scale layers: give it with --net and --net-output\n"
        f"{out}: BINARYPROTO, 5 layers with blobs\n"
    )
    assert list(caffemodel.read(out)) == ["conv1", "bn1", "bn2", "bn2_scale", "bn3"]


def test_a_file_of_bvlc_goes_to_hdf5_and_back(tmp_path: Path):
    source, there, back = (
        tmp_path / f"{name}" for name in ("a.caffemodel", "b.h5", "c.caffemodel")
    )
    layer = caffemodel.LayerWeights("fc", "InnerProduct", (np.ones((2, 3), np.float32),))
    caffemodel.write(source, [layer])

    assert (
        caffesplit("convert", source, "-o", there).stdout == f"{there}: HDF5, 1 layer with blobs\n"
    )
    done = caffesplit("convert", there, "-o", back)

    assert done.stdout == f"{back}: BINARYPROTO, 1 layer with blobs\n"
    assert (caffemodel.read(back)["fc"][0] == 1).all()


def test_what_bvlc_does_not_know_is_named_and_left_in_the_net(tmp_path: Path):
    net = tmp_path / "net.prototxt"
    net.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 } } }\n'
        'layer { name: "n" type: "Normalize" bottom: "data" top: "n" norm_param { eps: 1 } }\n'
    )
    out, net_out = tmp_path / "out.caffemodel", tmp_path / "out.prototxt"

    done = caffesplit("convert", model(tmp_path), "-o", out, "--net", net, "--net-output", net_out)

    assert done.returncode == 0
    assert f"{net}:2:19: warning: " in done.stdout or "'Normalize'" in done.stdout
    assert "LayerParameter has no 'norm_param' in BVLC Caffe" in done.stdout
    assert net_out.read_text() == net.read_text()


def test_weights_that_do_not_fit_the_converted_net_are_told_by_the_exit_code(tmp_path: Path):
    net = tmp_path / "net.prototxt"
    net.write_text(NET.read_text().replace("num_output: 4", "num_output: 5"))
    out, net_out = tmp_path / "out.caffemodel", tmp_path / "out.prototxt"

    done = caffesplit("convert", model(tmp_path), "-o", out, "--net", net, "--net-output", net_out)

    assert done.returncode == 1
    assert "layer 'conv1': blob 0 in the weight file is (4, 3, 3, 3), expected (5, " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "{}/out", "--net", NET], "Give --net and --net-output together, or neither."),
        (["-o", "{}/out", "--net-output", "{}/n"], "Give --net and --net-output together, or nei"),
        (["-o", "{}/out", "--net", NET, "--net-output", "{}/out"], "OUT and OUT_NET are one file"),
        (["-o", "{}/nv.caffemodel", "--force"], "the output is also an input"),
        (["-o", "{}/there"], "the output exists already"),
        (["-o", "{}/out", "--net", NET, "--net-output", "{}/there"], "the output exists already"),
        (["-o", "{}/out", "--net", "{}/there", "--net-output", "{}/n"], "found an empty file"),
    ],
)
def test_bad_usage_writes_nothing(tmp_path: Path, arguments: list[object], message: str):
    source = model(tmp_path)
    (tmp_path / "there").touch()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    done = caffesplit("convert", source, *(str(each).format(tmp_path) for each in arguments))

    assert done.returncode == 2
    assert message in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_if_the_weights_cannot_be_written_neither_is_the_net(tmp_path: Path):
    rng = np.random.default_rng(0)
    layers = [("a/b", "Convolution", [rng.standard_normal((4, 3, 3, 3))])]
    source = nvcaffe_files.save(tmp_path / "nv.caffemodel", layers)

    done = caffesplit(
        *("convert", source, "-o", tmp_path / "out/w.caffemodel.h5"),
        *("--net", NET, "--net-output", tmp_path / "out/net.prototxt"),
    )

    assert done.returncode == 2
    assert 'layer "a/b": HDF5 takes a layer\'s name for a path' in done.stderr
    assert list(tmp_path.iterdir()) == [source]


def test_force_replaces_both(tmp_path: Path):
    out, net_out = tmp_path / "out.caffemodel", tmp_path / "out.prototxt"
    for path in (out, net_out):
        path.touch()

    done = caffesplit(
        "convert", model(tmp_path), "-o", out, "--net", NET, "--net-output", net_out, "--force"
    )

    assert done.returncode == 0
    assert net_out.read_text() == NET.with_name("bvlc.prototxt").read_text()
    assert len(caffemodel.read(out)) == 6


@settings(max_examples=50)
@given(data=st.data())
def test_mutations_of_a_good_net_are_converted_or_refused(tmp_path_factory, data):
    weights = caffemodel.read(model(tmp_path_factory.mktemp("net")))
    text = list(NET.read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place] = data.draw(st.sampled_from(['"', "{", "}", "1", "x", " ", ":", "[", ""]))
    try:
        tree = prototxt.parse("".join(text))
        converted = nvcaffe.convert(weights, tree).tree
    except CaffesplitError:
        return
    assert converted is not None
    again = prototxt.parse(str(converted))
    assert str(nvcaffe_net.convert(again, {}, is_nvcaffes=True).tree) == str(again)
