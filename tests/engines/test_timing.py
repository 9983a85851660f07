"""`caffesplit time`, with either engine."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner

from caffesplit.cli.main import cli
from caffesplit.engines import timing
from caffesplit.errors import EngineError, NetError

LOG = """I1121 04:34:32.286 29402 caffe.cpp:403] Iteration: 2 forward-backward time: 8 ms.
I1121 04:34:32.286 29402 caffe.cpp:406] Average time per layer: 
I1121 04:34:32.286 29402 caffe.cpp:409]     conv 1\tforward: 1.5 ms.
I1121 04:34:32.286 29402 caffe.cpp:412]     conv 1\tbackward: 2.5 ms.
I1121 04:34:32.286 29402 caffe.cpp:409]       loss\tforward: 1e-05 ms.
I1121 04:34:32.286 29402 caffe.cpp:412]       loss\tbackward: 0 ms.
I1121 04:34:32.286 29402 caffe.cpp:417] Average Forward pass: 1.9 ms.
"""  # noqa: W291 - Caffe has this space.

TIMES = timing.Times((("conv 1", 1.5, 2.5), ("loss", 1e-05, 0.0)))


def run(*arguments):
    return CliRunner().invoke(cli, ["time", *map(str, arguments)], catch_exceptions=False)


def test_caffes_lines_tell_the_times_of_each_layer():
    assert timing.parse(LOG.splitlines()) == TIMES


def test_times_are_written_as_caffe_writes_them():
    own = [line.partition("]")[2][1:] for line in LOG.splitlines()[1:-1]]
    assert str(TIMES).splitlines()[:5] == own


@pytest.mark.parametrize("engine", ["caffe", "torch"])
def test_every_layer_that_is_trained_is_timed(caffe, digits_root, engine):
    done = run(digits_root / "baseline", "--iterations", 2, "--engine", engine, "--json", "-")
    names = [name for name, *_ in json.loads(done.stdout)["layers"]]
    assert names[:4] == ["data", "conv1", "relu1", "conv2"]
    assert "accuracy" not in names


def test_a_net_by_itself_is_timed_in_the_phase_that_is_asked_for(digits_root):
    net = digits_root / "baseline/train_val.prototxt"
    done = run(
        net, "--root", digits_root, "--iterations", 1, "--phase", "TEST", "--engine", "torch"
    )
    assert re.search(r"accuracy\tforward: \S+ ms\.", done.stdout)
    assert re.search(r"Average Forward-Backward: \S+ ms\.\n$", done.stdout)


def test_a_net_that_caffe_cannot_run_is_told_with_its_last_words(caffe, tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text('layer { name: "x" type: "Nonesuch" }')
    with pytest.raises(EngineError) as caught:
        timing.run(timing.Timing(net, tmp_path, 1), caffe)
    assert str(caught.value).startswith(f"{net}: caffe time failed (exit status")
    assert "Unknown layer type: Nonesuch" in caught.value.remedy


def test_data_of_a_net_that_is_not_there_may_be_below_another_folder(digits_root, tmp_path):
    net = digits_root / "baseline/train_val.prototxt"
    with pytest.raises(NetError) as caught:
        run(net, "--root", tmp_path, "--engine", "torch")
    assert caught.value.found == 'source "data/digits_train_lmdb" does not exist'
    assert caught.value.remedy.endswith("or give the folder it starts from: --root DIR.")
