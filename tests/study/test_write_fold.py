import json
import re

import numpy as np
import pytest
import small_experiment
from click.testing import CliRunner

from caffesplit.cli.main import cli
from caffesplit.errors import FoldError, OutputError, WeightsError
from caffesplit.experiment import load
from caffesplit.formats import caffemodel
from caffesplit.formats.layers import LayerWeights
from caffesplit.split.fold import Scope
from caffesplit.split.forms import Setting
from caffesplit.study.decide import decide
from caffesplit.study.derive import derive
from caffesplit.study.fold import write_fold

DEPLOY = small_experiment.NET.replace('"Data"', '"Input"').replace(
    'data_param { source: "data/lmdb" backend: LMDB batch_size: 2 }',
    "input_param { shape { dim: 1 dim: 2 dim: 9 dim: 9 } }",
)


@pytest.fixture
def base(tmp_path):
    folder = small_experiment.make(tmp_path)
    (folder / "deploy.prototxt").write_text(DEPLOY)
    return folder


def split(base, layers, method="residual", name="derived", **setting):
    experiment = load(base)
    plan = decide(experiment, (100, 400), layers, method)
    out = base.with_name(name)
    derive(experiment, plan, experiment.weights_path(400), out, Setting(**setting))
    return out


@pytest.fixture
def derived(base):
    return split(base, ["conv1", "conv2"], noise=0.1)


def fold(derived, out=None, **options):
    init = derived / "init.caffemodel"
    return write_fold(load(derived), init, out or derived.with_name("folded"), **options)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_fold_of_a_derived_experiment_has_the_bases_nets_byte_for_byte(base, derived):
    fold(derived)
    out = base.with_name("folded")
    assert files(out) == [
        *("deploy.prototxt", "fold.json", "folded.caffemodel"),
        *("solver.prototxt", "train_val.prototxt"),
    ]
    assert (out / "train_val.prototxt").read_bytes() == (base / "net.prototxt").read_bytes()
    assert (out / "deploy.prototxt").read_bytes() == (base / "deploy.prototxt").read_bytes()


def test_the_folded_weights_are_the_bases_layers_and_of_an_exact_start_their_values(base):
    fold(split(base, ["conv1", "conv2"], "extension", noise=0))
    folded = caffemodel.read(base.with_name("folded") / "folded.caffemodel")
    original = caffemodel.read(base / "snap_iter_400.caffemodel")
    assert list(folded) == list(original)
    for name in original:
        for own, first in zip(folded[name], original[name], strict=True):
            assert own.tobytes() == first.tobytes()


def test_the_record_tells_what_was_folded_from_what_and_how_exactly(base, derived):
    result = fold(derived)
    record = json.loads((base.with_name("folded") / "fold.json").read_text())
    assert [each["name"] for each in record["folded"]] == ["conv1", "conv2"]
    assert record["folded"][0]["deviation"] == result.folded[0].deviation < 2e-7
    assert record["folded"][0]["layers"][0] == "conv1_split1"
    assert record["left_alone"] == []
    assert record["inputs"] == [
        "../derived/solver.prototxt",
        "../derived/train_val.prototxt",
        "../derived/deploy.prototxt",
        "../derived/init.caffemodel",
    ]


def test_layers_that_were_not_split_are_copied_byte_for_byte(base):
    fold(split(base, ["conv1"]))
    path = base.with_name("folded") / "folded.caffemodel"
    record = next(each for each in caffemodel.index(path).layers if each.name == "conv2")
    original = base / "snap_iter_400.caffemodel"
    first = next(each for each in caffemodel.index(original).layers if each.name == "conv2")
    assert (
        path.read_bytes()[record.offset :][: record.length]
        == original.read_bytes()[first.offset :][: first.length]
    )


def test_split_layers_that_caffe_inserted_are_left_out(base, derived):
    init = derived / "init.caffemodel"
    layers = [LayerWeights("data_data_0_split", "Split", ())]
    weights = caffemodel.read(init)
    layers += [
        LayerWeights(each.name, each.type, tuple(weights.get(each.name, ())))
        for each in weights.index.layers
    ]
    caffemodel.write(derived / "snap.caffemodel", layers)
    out = base.with_name("folded")
    write_fold(load(derived), derived / "snap.caffemodel", out)
    names = [each.name for each in caffemodel.index(out / "folded.caffemodel").layers]
    assert names == ["conv1", "conv2"]


def test_what_the_deploy_net_reads_in_the_middle_is_kept_in_all_nets(base, derived):
    deploy = derived / "deploy.prototxt"
    reader = 'layer { name: "look" type: "ReLU" bottom: "conv1_split2" top: "look" }\n'
    deploy.write_text(deploy.read_text() + reader)
    result = fold(derived)
    assert [each.name for each in result.folded] == ["conv2"]
    out = base.with_name("folded")
    for name in ("train_val.prototxt", "deploy.prototxt"):
        assert "conv1_split2_residual_pre" in (out / name).read_text()
    assert "conv1_split2" in caffemodel.read(out / "folded.caffemodel")


def test_train_and_test_nets_are_folded_alike(base, derived):
    solver = derived / "solver.prototxt"
    net = '"exp/derived/train_val.prototxt"'
    text = solver.read_text().replace(f"net: {net}", f"train_net: {net} test_net: {net}")
    solver.write_text(text + "test_iter: 1\n")
    fold(derived)
    out = base.with_name("folded")
    assert (out / "train.prototxt").read_bytes() == (base / "net.prototxt").read_bytes()


def test_weights_that_are_no_numbers_are_refused_and_nothing_is_written(base, derived):
    init = derived / "init.caffemodel"
    weights = {
        name: [np.array(blob) for blob in blobs] for name, blobs in caffemodel.read(init).items()
    }
    weights["conv1_reorder"][0][0, 0] = np.nan
    records = [LayerWeights(name, "Convolution", tuple(blobs)) for name, blobs in weights.items()]
    caffemodel.write(init, records, force=True)
    with pytest.raises(FoldError) as caught:
        fold(derived)
    assert str(caught.value) == (
        f'{init}: layer "conv1_split1": '
        "folded, layer 'conv1' computes something else (relative "
        "deviation nan), expected at most 0.0001\n"
        "Nothing was written. Are its weights finite numbers, and of this net?"
    )
    assert caught.value.exit_code == 1
    assert not base.with_name("folded").exists()


def test_weights_of_another_net_are_refused(base, derived):
    other = base / "snap_iter_400.caffemodel"
    caffemodel.write(
        derived / "other.caffemodel",
        [LayerWeights("conv1_split1", "Convolution", (np.zeros((3, 2, 5, 5), np.float32),))],
    )
    with pytest.raises(WeightsError) as caught:
        write_fold(load(derived), derived / "other.caffemodel", base.with_name("folded"))
    assert "conv1_split1" in str(caught.value)
    assert "--weights names others" in str(caught.value)
    assert other.exists()


def test_weights_that_lack_a_layer_of_the_trained_net_are_refused(base):
    derived = split(base, ["conv1"], noise=0.1)
    other = base / "snap_iter_400.caffemodel"
    with pytest.raises(WeightsError) as caught:
        write_fold(load(derived), other, base.with_name("folded"))
    assert (
        str(caught.value)
        .splitlines()[0]
        .endswith("layer 'conv1_split1' has no weights in the file; Caffe fills them anew")
    )
    assert not base.with_name("folded").exists()


def test_a_folded_experiment_is_one_again(base, derived):
    fold(derived)
    folded = load(base.with_name("folded"))
    assert folded.net_path == base.with_name("folded") / "train_val.prototxt"
    assert folded.snapshot_prefix == str(base.with_name("folded") / "snap")


def test_a_net_without_a_solver_is_folded_with_the_weights_given(base, derived):
    deploy, out = derived / "deploy.prototxt", base.with_name("folded")
    arguments = ["fold", str(deploy), "-o", str(out)]
    done = CliRunner().invoke(cli, arguments)
    assert f"{deploy} is a net: give its weights, --weights FILE." in done.output
    arguments += ["--weights", str(derived / "init.caffemodel")]
    CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert files(out) == ["deploy.prototxt", "fold.json", "folded.caffemodel"]
    assert (out / "deploy.prototxt").read_bytes() == (base / "deploy.prototxt").read_bytes()


def test_inputs_are_never_overwritten_and_outputs_only_by_force(base, derived):
    with pytest.raises(OutputError, match="the output is also an input"):
        fold(derived, derived, force=True)
    fold(derived)
    with pytest.raises(OutputError, match="exists already"):
        fold(derived)
    fold(derived, force=True)


def test_an_hdf5_file_is_folded_like_any_other(base, derived):
    init = derived / "init.caffemodel"
    caffemodel.splice(init, derived / "init.caffemodel.h5", {})
    out = base.with_name("folded")
    write_fold(load(derived), derived / "init.caffemodel.h5", out)
    fold(derived, base.with_name("other"))
    own, other = (
        caffemodel.read(folder / "folded.caffemodel") for folder in (out, base.with_name("other"))
    )
    for name in own:
        assert all(map(np.array_equal, own[name], other[name]))


def test_the_command_tells_what_became_of_each_block_and_the_largest_deviation(base, derived):
    out = base.with_name("folded")
    arguments = [
        "fold",
        str(derived),
        "--weights",
        str(derived / "init.caffemodel"),
        "-o",
        str(out),
    ]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    lines = done.output.splitlines()
    assert re.fullmatch(
        r"conv1: 7 layers → 1, \d+ → 114 parameters, deviation \d\.\de-\d\d", lines[0]
    )
    assert re.fullmatch(r"largest deviation \d\.\de-\d\d, relative, on random input", lines[2])
    assert lines[3] == (
        f"{out}: folded from {derived / 'init.caffemodel'}, weights in {out / 'folded.caffemodel'}"
    )


def test_a_net_without_branches_is_written_as_it_is(base):
    arguments = ["fold", str(base), "-o", str(base.with_name("folded"))]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "nothing to fold: the net is written as it is" in done.output
    assert (base.with_name("folded") / "train_val.prototxt").read_text() == small_experiment.NET


def test_chains_fold_what_the_author_put_in_a_row(base):
    result = write_fold(
        load(base), base / "snap_iter_400.caffemodel", base.with_name("folded"), Scope(chains=True)
    )
    assert [each.reason for each in result.left] == [
        "two spatial kernels in a row are one larger kernel"
    ]


NORMED = """layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 1 dim: 2 dim: 5 dim: 5 }} }} }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param {{ num_output: 3 kernel_size: 3 }} {rule} }}
layer {{ name: "b" type: "BatchNorm" bottom: "c" top: "b"
  batch_norm_param {{ eps: {eps} }} {rule} }}
"""


def normed(tmp_path, train_val, deploy=None):
    """An experiment with a BatchNorm behind its convolution, and its weights."""
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" snapshot_prefix: "snap"\n')
    (tmp_path / "net.prototxt").write_text(train_val)
    if deploy:
        (tmp_path / "deploy.prototxt").write_text(deploy)
    rng = np.random.default_rng(0)
    kernels = rng.standard_normal((3, 2, 3, 3)), np.zeros(3)
    statistics = np.zeros(3), np.ones(3), np.ones(1)
    caffemodel.write(
        tmp_path / "w.caffemodel",
        [LayerWeights("c", "Convolution", kernels), LayerWeights("b", "BatchNorm", statistics)],
    )
    return load(tmp_path), tmp_path / "w.caffemodel"


def test_a_block_that_differs_between_nets_is_kept_in_all_of_them(tmp_path):
    same, other = (NORMED.format(eps=eps, rule="") for eps in (0.001, 0.5))
    experiment, weights = normed(tmp_path, same, other)
    scope = Scope(batch_norms=True)
    assert not write_fold(experiment, weights, tmp_path / "out", scope).folded
    (tmp_path / "deploy.prototxt").write_text(same)
    assert write_fold(load(tmp_path), weights, tmp_path / "out2", scope).folded


def test_a_block_that_differs_between_phases_is_kept_in_both(tmp_path):
    train = NORMED.format(eps=0.001, rule="include { phase: TRAIN }")
    test = NORMED.format(eps=0.5, rule="include { phase: TEST }").partition("\nlayer")
    experiment, weights = normed(tmp_path, train + "layer" + test[2])
    assert not write_fold(experiment, weights, tmp_path / "out", Scope(batch_norms=True)).folded


def test_a_folded_layer_has_one_name_in_all_nets(base, derived):
    deploy = derived / "deploy.prototxt"
    deploy.write_text(
        deploy.read_text() + 'layer { name: "conv1" type: "Silence" bottom: "conv2" }\n'
    )
    result = fold(derived)
    assert [each.name for each in result.folded] == ["conv1_split1", "conv2"]
    out = base.with_name("folded")
    for name in ("train_val.prototxt", "deploy.prototxt"):
        assert 'name: "conv1_split1"' in (out / name).read_text()
    assert "conv1_split1" in caffemodel.read(out / "folded.caffemodel")
