"""On a GPU the engine computes what it does on the CPU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_torch_net_whole import zoo_net
from torch_oracle import inputs_of, layers_of

from caffesplit import experiment
from caffesplit.engines import job, torch_device, torch_train
from caffesplit.engines.torch_net import TorchNet
from caffesplit.formats import caffemodel, trainlog

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def pass_of(name: str, device: str) -> tuple[float, dict[str, torch.Tensor]]:
    """A net's loss, and its parameters' gradients."""
    layers = layers_of(zoo_net(name, "TRAIN"), "TRAIN")
    net = TorchNet(layers, "TRAIN", inputs_of(layers), seed=1, device=device)
    generator = torch.Generator().manual_seed(2)
    batch = {
        blob: torch.randint(0, 10, shape, generator=generator).float()
        if blob == "label"
        else torch.randn(shape, generator=generator)
        for blob, shape in inputs_of(layers).items()
    }
    with torch_device.computing(torch.device(device)):
        loss = net.forward({blob: value.to(device) for blob, value in batch.items()}).loss
        loss.backward()
    learned = [each for each in net.parameters if each.tensor.grad is not None]
    return float(loss.detach()), {each.name: each.tensor.grad.cpu() for each in learned}


@pytest.mark.parametrize("name", ["allcnn", "digits", "resnet20"])
def test_losses_and_gradients_are_those_of_the_cpu(name):
    loss, gradients = pass_of(name, "cuda")
    expected, others = pass_of(name, "cpu")
    assert loss == pytest.approx(expected, rel=1e-4)
    assert list(gradients) == list(others)
    for key, gradient in gradients.items():
        scale = others[key].abs().max().item()
        assert (gradient - others[key]).abs().max().item() <= 1e-2 * scale + 1e-6, key


def test_a_training_follows_that_on_the_cpu(digits_root, tmp_path):
    net = digits_root / "baseline/train_val.prototxt"
    net.write_text(re.sub(r"dropout_ratio: *[\d.]+", "dropout_ratio: 0", net.read_text()))
    found = []
    for number, where in enumerate(("cuda", "cpu")):
        root = tmp_path / str(number)
        shutil.copytree(digits_root, root)
        torch_train.train(job.prepare(experiment.load(root / "baseline", root)), device=where)
        found.append(root / "baseline")
    losses = [[row.loss for row in trainlog.read(each / "train.log").train] for each in found]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert_close(*(each / "digits_iter_100.caffemodel" for each in found))


def assert_close(one: Path, other: Path) -> None:
    ours, theirs = caffemodel.read(one), caffemodel.read(other)
    for layer in theirs:
        for our, their in zip(ours[layer], theirs[layer], strict=True):
            np.testing.assert_allclose(our, their, rtol=1e-3, atol=1e-4)


def test_a_label_that_is_no_class_ends_the_process_with_a_message(digits_root):
    """In a process of its own: CUDA refuses everything from then on."""
    net = digits_root / "baseline/train_val.prototxt"
    net.write_text(net.read_text().replace("num_output: 10", "num_output: 5"))
    done = subprocess.run(
        [sys.executable, "-m", "caffesplit", "train", "baseline", "--engine", "torch"],
        cwd=digits_root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "a label is none of the net's classes" in done.stderr
    assert "Traceback" not in done.stderr
