"""TPM over snapshots of VGG-16, against protobuf and against one pass over the same bytes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import google.protobuf
import numpy as np

from caffesplit.engines import install
from caffesplit.formats import caffemodel, schema
from caffesplit.metric.history import History
from caffesplit.metric.trajectory import scores
from tools.bench import vgg16
from tools.bench.measure import medians, seconds

SNAPSHOTS = 4
ROUNDS = 7
MANY_SNAPSHOTS, SHRINK = 24, 8

PYCAFFE_PARSE = """
import sys, time
import google.protobuf
import numpy as np
from caffe.proto import caffe_pb2
start = time.perf_counter()
net = caffe_pb2.NetParameter()
net.ParseFromString(open(sys.argv[1], "rb").read())
for layer in net.layer:
    for blob in layer.blobs:
        np.array(blob.data)
print(google.protobuf.__version__, time.perf_counter() - start)
"""


def run(say: Callable[[str], None]) -> None:
    """Measure and print ratios."""
    with tempfile.TemporaryDirectory() as folder:
        paths = vgg16.write_snapshots(Path(folder), SNAPSHOTS)
        size = sum(path.stat().st_size for path in paths)
        say(f"{SNAPSHOTS} snapshots of VGG-16's shapes, {size / 1e6:.0f} MB, page cache warm")
        compare(paths, say)
        say(f"anonymous memory, {SNAPSHOTS} of 553 MB: {memory(paths) / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        paths = vgg16.write_snapshots(Path(folder), MANY_SNAPSHOTS, SHRINK)
        size = paths[0].stat().st_size / 1e6
        peak = memory(paths) / 1e6
        say(f"anonymous memory, {MANY_SNAPSHOTS} of {size:.0f} MB: {peak:.0f} MB")
    say("(wanted: at most 200 MB, whatever the number of snapshots)")


def compare(paths: list[Path], say: Callable[[str], None]) -> None:
    """Time TPM, one pass over the bytes, and protobuf as it is here and as pycaffe has it."""
    mapped = [caffemodel.read(path) for path in paths]

    def largest() -> None:
        for weights in mapped:
            for blobs in weights.values():
                blobs[0].max()

    taken = medians({"tpm": lambda: score(paths), "max": largest}, ROUNDS)
    parsing = {google.protobuf.__version__: seconds(lambda: parse(paths[0]))} | pycaffe(paths[0])
    say(f"TPM of all kernels                    {taken['tpm']:7.3f} s")
    say(f"one pass of max over the same bytes   {taken['max']:7.3f} s")
    say(f"TPM / pass of max                     {taken['tpm'] / taken['max']:7.2f}")
    say("  (wanted: at most 2)")
    for version, time in parsing.items():
        all_snapshots = time * SNAPSHOTS
        say(f"protobuf {version}: parse + np.array(blob.data), one snapshot times {SNAPSHOTS}")
        say(f"                                      {all_snapshots:7.2f} s")
        say(f"  that / TPM                          {all_snapshots / taken['tpm']:7.1f}")
    say("  (wanted: at least 40)")


def score(paths: list[Path]) -> None:
    """TPM of all kernels, the files opened and indexed anew."""

    def load(iteration: int) -> dict[str, np.ndarray]:
        weights = caffemodel.read(paths[iteration])
        return {name: weights[name][0] for name in vgg16.LAYERS}

    history = History(tuple(range(len(paths))), load)
    scores(history, [(0, len(paths) - 1)], vgg16.LAYERS)


def parse(path: Path) -> None:
    """What scripts with a caffe_pb2 do, with the protobuf that is installed here."""
    net = schema.message_class("NetParameter").FromString(path.read_bytes())
    for layer in net.layer:
        for blob in layer.blobs:
            np.array(blob.data)


def pycaffe(path: Path) -> dict[str, float]:
    """The same with pycaffe's own protobuf, if tools/install_caffe.py brought one."""
    caffe = install.installed()
    if caffe is None:
        return {}
    command = [caffe.with_name("python-caffe"), "-c", PYCAFFE_PARSE, path]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    version, time = done.stdout.split()
    return {f"{version} (pycaffe's)": float(time)}


def memory(paths: list[Path]) -> int:
    """The peak of anonymous memory in bytes of a process that scores these snapshots."""
    command = [sys.executable, "-m", "tools.bench.memory", *paths]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
