"""The zoo's nets are those of the papers and the notebooks."""

from __future__ import annotations

import re
from math import prod

import click
import pytest

from caffesplit import experiment, zoo
from caffesplit.cli import data as data_verb
from caffesplit.formats import prototxt
from caffesplit.net import graph
from caffesplit.net.shapes import infer
from caffesplit.study.upgrade import upgrade


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an experiment of each net."""
    root = tmp_path_factory.mktemp("zoo")
    for name in zoo.NAMES:
        zoo.write(name, root / name, root, root / "data")
    return root


def deployed(folder, name):
    return graph.build(prototxt.load(folder / name / "deploy.prototxt"))


def trained(folder, name):
    return experiment.load(folder / name).net


# Parameters, from the papers' tables alone.


def conv(channels, kernels, size=3):
    return channels * kernels * size**2


def fitnet4(pieces, classes):
    """Romero et al. 2015, appendix A: 17 convolutions, two inner products, maxout of `pieces`."""
    total, channels = 0, 3
    for kernels in [32] * 3 + [48] * 2 + [80] * 6 + [128] * 6:
        total += pieces * (conv(channels, kernels) + kernels)
        channels = kernels
    return total + pieces * (128 * 500 + 500) + 500 * classes + classes


def resnet(n, classes):
    """He et al. 2016, section 4.2: 6 n + 2 layers; every convolution is normalised."""
    total, channels, normalised = conv(3, 16), 16, 16
    for kernels in (16, 32, 64):
        for _ in range(2 * n):
            total += conv(channels, kernels)
            channels = kernels
            normalised += kernels
    return total + 2 * normalised + 64 * classes + classes


def allcnn(classes):
    """Springenberg et al. 2015, tables 1 and 2, ALL-CNN-C."""
    total, channels = 0, 3
    sizes = [(96, 3)] * 3 + [(192, 3)] * 4 + [(192, 1), (classes, 1)]
    for kernels, size in sizes:
        total += conv(channels, kernels, size) + kernels
        channels = kernels
    return total


def inception():
    """Zhang et al. 2017, figure 3; one offset per channel and no factor."""
    total, channels, offsets = conv(3, 96), 96, 96
    figure = "32+32 32+48 down80 112+48 96+64 80+80 48+96 down96 176+160 176+160"
    for module in figure.split():
        if module.startswith("down"):
            kernels = int(module.removeprefix("down"))
            total += conv(channels, kernels)
            channels, offsets = channels + kernels, offsets + kernels
        else:
            ones, threes = map(int, module.split("+"))
            total += conv(channels, ones, 1) + conv(channels, threes)
            channels, offsets = ones + threes, offsets + ones + threes
    return total + offsets + channels * 10 + 10


PARAMETERS = {
    "fitnet4": fitnet4(pieces=1, classes=100),
    "resnet20": resnet(3, classes=100),
    "allcnn": allcnn(classes=10),
    "inception_small": inception(),
    "digits": 24 * 10 + 32 * (24 * 9 + 1) + 32 * (32 * 9 + 1) + 10 * (32 * 4 + 1),
}


def test_the_formulas_give_the_papers_own_figures():
    assert round(fitnet4(pieces=2, classes=10), -5) == 2_500_000  # 2.5M, as they trained it
    assert round(resnet(3, classes=10), -4) == 270_000  # 0.27M
    assert round(allcnn(classes=10), -5) == 1_400_000  # 1.4M
    assert inception() == 1_649_402  # exactly


@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_net_has_as_many_parameters_as_its_paper_says(folder, name):
    net = deployed(folder, name)
    shapes = infer(net, phase="TEST")
    learned = [
        prod(shape)
        for index, layer in enumerate(net.layers)
        for shape in shapes.learned(index)
        if layer.type != "BatchNorm"
    ]
    assert sum(learned) == PARAMETERS[name] == zoo.NETS[name].parameters
    if name != "digits":
        text = (folder / name / "train_val.prototxt").read_text()
        assert f"{PARAMETERS[name]:,} parameters" in text


# What the notebooks print.

NOTEBOOK_003 = """
('conv2', 96) 1.58599417727
('conv1', 96) 1.40085849641
('conv8', 192) 1.29573906855
('conv3', 96) 0.912044983988
('conv9', 10) 0.897945724857
('conv4', 192) 0.808174017251
('conv5', 192) 0.686581090236
('conv6', 192) 0.538267453228
('conv7', 192) 0.42327702756
"""
NOTEBOOK_003_WEIGHTS = """
('conv9', 10, 1920) 1.16828245018
('conv3', 96, 82944) 0.825414507069
('conv7', 192, 331776) 0.657418801849
('conv5', 192, 331776) 0.356101654402
('conv4', 192, 165888) 0.302376762507
('conv6', 192, 331776) 0.247670367379
"""
NOTEBOOK_004 = """
[((1000, 7000), ('module4_inception_3x3', 0.35065755024571388)),
 [((1000, 7000), ('module1_inception_1x1', 0.40836040227807713)),
(1000,7000) module3_inception_1x1 2.63450789452 -> 1.66205918789
(1000,7000) module3_inception_3x3 4.81366014481 -> 2.75985240936
"""


def test_allcnn_has_the_layers_that_notebook_003_prints(folder):
    loaded = experiment.load(folder / "allcnn")
    printed = dict(re.findall(r"\('(\w+)', (\d+)\)", NOTEBOOK_003))

    assert set(loaded.kernel_layers) == set(printed)
    shapes = infer(loaded.net, {"data": (1, 3, 42, 42)})
    for index, layer in enumerate(loaded.net.layers):
        if layer.name in printed:
            assert shapes.learned(index)[0][0] == int(printed[layer.name])
    for name, weights in re.findall(r"\('(\w+)', \d+, (\d+)\)", NOTEBOOK_003_WEIGHTS):
        index = next(i for i, layer in enumerate(loaded.net.layers) if layer.name == name)
        assert prod(shapes.learned(index)[0]) == int(weights)


def test_inception_small_has_the_layers_that_notebook_004_prints(folder):
    names = set(experiment.load(folder / "inception_small").kernel_layers)
    assert set(re.findall(r"module\d_inception_\dx\d", NOTEBOOK_004)) <= names


def test_fitnet4_splits_as_in_notebook_000(folder):
    """(32 kernels are splitted 13 in "fast" parittion  and 19 in "slow" partition …)"""
    (layer,) = trained(folder, "fitnet4").named("conv1_1")
    assert layer.message.convolution_param.num_output == 32


PRINTED_OUTPUTS = {
    "fitnet4": ("accuracy = 0.653201", "loss = 1.3247 (* 1 = 1.3247 loss)"),
    "resnet20": ("Accuracy = 0.6727",),
    "allcnn": ("accuracy = 0.909",),
}


@pytest.mark.parametrize("name", PRINTED_OUTPUTS)
def test_outputs_have_the_names_that_the_notebooks_grep_for(folder, name):
    net = trained(folder, name)
    read = {bottom for layer in net.layers for bottom in layer.bottoms}
    outputs = sorted({top for layer in net.layers for top in layer.tops} - read)
    for number, printed in enumerate(PRINTED_OUTPUTS[name]):
        assert printed.startswith(f"{outputs[number]} = ")


WINDOWS = [
    ("resnet20", 40_000, 50_000),
    ("allcnn", 115_000, 130_000),
    *(("inception_small", start, start + 6000) for start in (1000, 9000, 21_000, 29_000, 38_000)),
    ("fitnet4", 80_000, 90_000),
    ("digits", 600, 2000),
]


@pytest.mark.parametrize(("name", "start", "end"), WINDOWS)
def test_snapshots_fit_the_notebooks_windows(folder, name, start, end):
    solver = experiment.load(folder / name).solver
    assert (
        start % solver.snapshot == end % solver.snapshot == solver.max_iter % solver.snapshot == 0
    )
    assert (end - start) / solver.snapshot >= 6
    assert end <= solver.max_iter
    assert solver.max_iter % solver.test_interval == 0


def test_learning_rates_fall_where_papers_and_notebooks_say(folder):
    solvers = {name: experiment.load(folder / name).solver for name in zoo.NAMES}
    epochs = {
        name: [step * 128 / 50_000 for step in (*solver.stepvalue, solver.max_iter)]
        for name, solver in solvers.items()
    }
    assert epochs["fitnet4"] == pytest.approx([100, 150, 200, 230], rel=0.03)
    assert epochs["allcnn"] == pytest.approx([200, 250, 300, 350], rel=0.01)
    resnet = solvers["resnet20"]
    paper = [32_000, 48_000, 64_000]
    assert [*resnet.stepvalue, resnet.max_iter] == [step * 5 // 4 for step in paper]
    assert solvers["inception_small"].stepsize * 128 == pytest.approx(50_000, rel=0.001)


# The three files of a net, and the data it asks for.


def computed(net):
    """What a net for use computes with: names, types, wiring and parameters that matter there."""
    layers = []
    for layer in net.layers:
        message = type(layer.message)()
        message.CopyFrom(layer.message)
        del message.include[:], message.param[:], message.bottom[:]
        for parameter in (message.convolution_param, message.inner_product_param):
            if parameter.HasField("weight_filler"):
                parameter.ClearField("weight_filler")
        bottoms = ["data" if bottom == "crop" else bottom for bottom in layer.bottoms]
        layers.append((layer.name, bottoms, str(message)))
    return layers


TRAINING_ONLY = ("Data", "DummyData", "Crop", "Dropout", "Accuracy", "SoftmaxWithLoss")


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_net_for_use_is_the_trained_one(folder, name):
    train, deploy = trained(folder, name), deployed(folder, name)
    kept = tuple(layer for layer in train.layers if layer.type not in TRAINING_ONLY)
    source, *layers, softmax = deploy.layers

    assert computed(graph.Net(train.tree, kept)) == computed(graph.Net(deploy.tree, tuple(layers)))
    (loss,) = (layer for layer in train.layers if layer.type == "SoftmaxWithLoss")
    assert source.type == "Input"
    assert softmax.type == "Softmax"
    assert softmax.bottoms[0] == loss.bottoms[0]


IMAGES = {
    "fitnet4": (3, 40, 40),
    "resnet20": (3, 40, 40),
    "allcnn": (3, 42, 42),
    "inception_small": (3, 32, 32),
    "digits": (1, 8, 8),
}


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_net_for_use_takes_images_of_the_size_that_training_cuts_out(folder, name):
    loaded, deploy = experiment.load(folder / name), deployed(folder, name)
    expected = infer(deploy, phase="TEST").blobs
    for net, state in loaded.uses:
        cropped = net.layers[0].message.transform_param.crop_size
        _, height, width = IMAGES[name]
        size = (cropped or height, cropped or width)
        inputs = {"data": (None, IMAGES[name][0], *size)}
        found = infer(net, inputs, state.phase, state.level, state.stages).partial
        for blob, shape in expected.items():
            if blob not in ("data", "prob"):
                assert found[blob][1:] == shape[1:], blob


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_data_a_net_asks_for_can_be_had(folder, name):
    verb, *options = zoo.NETS[name].data.split()
    commands = data_verb.command.commands
    with click.Context(data_verb.command) as parent:
        commands[verb].make_context(verb, ["DIR", *options], parent=parent)
    if name != "digits":
        text = (folder / name / "train_val.prototxt").read_text()
        assert f"Data: caffesplit data {' '.join([verb, 'DIR', *options])}." in text


def test_nets_with_other_data_have_other_folders_for_it():
    folders = [entry.data_name for entry in zoo.NETS.values()]
    assert folders == [
        "cifar100-gcn-pad4",
        "cifar100-pad4",
        "cifar10-gcn-zca-pad5",
        "cifar10",
        "digits",
    ]


@pytest.mark.parametrize("name", zoo.NAMES)
def test_there_is_nothing_to_upgrade(folder, tmp_path, name):
    for file in zoo.FILES:
        done = upgrade(folder / name / file, tmp_path / file)
        assert not done.steps
        assert not done.findings
        assert (tmp_path / file).read_bytes() == (folder / name / file).read_bytes()
