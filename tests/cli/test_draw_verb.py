"""draw and kernels as a user types them."""

import json
import sys

import pytest
from graphviz_json import need_dot
from small_experiment import ITERATIONS, make, weights

from caffesplit.cli import main as cli
from caffesplit.formats import caffemodel


@pytest.fixture
def caffesplit(monkeypatch, capsys):
    """Run the command line; return its exit code and what it wrote."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["caffesplit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return (stop.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def base(tmp_path):
    return make(tmp_path)


def with_plan(folder, fast=(0, 1, 5), slow=(2, 3, 4)):
    layer = {"name": "conv1", "method": "extension", "partition": "half", "tpm": [0.5] * 6}
    layer |= {"fast": fast, "slow": slow}
    plan = {"window": [100, 400], "iterations": ITERATIONS, "seed": 0, "layers": [layer]}
    path = folder / "split.json"
    path.write_text(json.dumps({"plan": plan}))
    return path


def test_an_experiments_net_is_drawn(caffesplit, base, tmp_path):
    need_dot()
    assert caffesplit("draw", base, "-o", tmp_path / "net.svg") == (0, f"{tmp_path}/net.svg\n", "")
    text = (tmp_path / "net.svg").read_text()
    assert ">conv1<" in text
    assert "num_output 6" in text


def test_a_net_of_any_version_is_drawn(caffesplit, tmp_path):
    net = tmp_path / "old.prototxt"
    net.write_text(
        'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 '
        'layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 3 } '
        'bottom: "data" top: "conv1" }'
    )
    code, _, err = caffesplit("draw", net, "-o", tmp_path / "net.dot")
    assert (code, err) == (0, "")
    assert "Convolution 3×3, num_output 4" in (tmp_path / "net.dot").read_text()


def test_what_changed_since_a_base_is_drawn(caffesplit, base, tmp_path):
    derived = tmp_path / "derived"
    assert caffesplit(
        *("split", base, "-o", derived, "--window", "100:400", "--layer", "conv1")
    )[0] == 0  # fmt: skip
    output = tmp_path / "net.dot"
    assert caffesplit("draw", derived, "--base", base, "-o", output)[0] == 0
    source = output.read_text()
    assert "7 added, 1 removed, 0 changed" in source
    assert "mean TPM " in source


@pytest.mark.parametrize(("phase", "present"), [("TRAIN", True), ("test", False), ("all", True)])
def test_a_phase_can_be_chosen(caffesplit, tmp_path, phase, present):
    net = tmp_path / "net.prototxt"
    net.write_text(
        'layer { name: "once" type: "DummyData" top: "x" include { phase: TRAIN } }'
        'layer { name: "always" type: "DummyData" top: "y" }'
    )
    assert caffesplit("draw", net, "--phase", phase, "-o", tmp_path / "net.dot")[0] == 0
    assert ("once" in (tmp_path / "net.dot").read_text()) == present


def test_a_drawing_replaces_no_file_unasked_and_no_input_ever(caffesplit, base, tmp_path):
    output = tmp_path / "net.dot"
    output.write_text("mine")
    code, _, err = caffesplit("draw", base, "-o", output)
    assert (code, "the output exists already" in err) == (2, True)
    assert caffesplit("draw", base, "-o", output, "--force")[0] == 0
    net = (base / "net.prototxt").rename(tmp_path / "net.svg")
    before = net.read_text()
    assert caffesplit("draw", net, "-o", net, "--force")[0] == 2
    assert net.read_text() == before


def test_without_graphviz_draw_says_how_to_get_it(caffesplit, base, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = caffesplit("draw", base, "-o", tmp_path / "net.svg")
    assert (code, out) == (2, "")
    assert "Install Graphviz: `apt install graphviz`" in err
    assert not (tmp_path / "net.svg").exists()


def test_a_damaged_record_beside_the_net_is_told(caffesplit, base, tmp_path):
    (base / "split.json").write_text("{")
    code, _, err = caffesplit("draw", base, "-o", tmp_path / "net.dot")
    assert (code, f"{base}/split.json:1:2: text that is not JSON" in err) == (2, True)


@pytest.mark.parametrize(
    "options",
    [(), ("--window", "100:300"), ("--edge", "-0.2,2"), ("--most", "2"), ("--before", "MODEL")],
)
def test_an_experiments_kernels_are_drawn(caffesplit, base, tmp_path, options):
    model = base / "snap_iter_100.caffemodel"
    given = [model if option == "MODEL" else option for option in options]
    output = tmp_path / "kernels.png"
    assert caffesplit("kernels", base, "--layer", "conv1", "-o", output, *given) == (
        *(0, f"{output}\n", ""),
    )
    assert output.read_bytes().startswith(b"\x89PNG")


def drawn(caffesplit, tmp_path, *arguments):
    output = tmp_path / "kernels.svg"
    code, _, err = caffesplit("kernels", *arguments, "-o", output, "--force")
    assert (code, err) == (0, "")
    return output.read_text()


def test_the_windows_start_and_end_are_named(caffesplit, base, tmp_path):
    text = drawn(caffesplit, tmp_path, base, "--layer", "conv1", "--window", "150:400")
    assert ">iteration 200<" in text
    assert ">iteration 400<" in text


def test_a_record_beside_the_weights_tells_fast_from_slow(caffesplit, base, tmp_path):
    with_plan(base)
    for target in (base, base / "snap_iter_400.caffemodel"):
        text = drawn(caffesplit, tmp_path, target, "--layer", "conv1")
        assert "fast: 3 kernels, mean TPM 0.500" in text


def test_a_layer_that_was_split_is_put_together_from_its_parts(caffesplit, base, tmp_path):
    plan = with_plan(tmp_path)
    (whole,) = (each for each in weights(400) if each.name == "conv1")
    parts = [
        caffemodel.LayerWeights(f"conv1_{part}", whole.type, (whole.blobs[0][list(numbers)],))
        for part, numbers in (("split1", (0, 1, 5)), ("split2", (2, 3, 4)))
    ]
    model = tmp_path / "split.caffemodel"
    caffemodel.write(model, parts)
    asked = ("--layer", "conv1", "--plan", plan)
    one = drawn(caffesplit, tmp_path, base / "snap_iter_400.caffemodel", *asked)
    other = drawn(caffesplit, tmp_path, model, *asked)
    assert pictures(one) == pictures(other)


def test_parts_that_do_not_fit_the_plan_are_told(caffesplit, base, tmp_path):
    plan = with_plan(tmp_path, fast=(0,), slow=(1, 2, 3, 4, 5))
    (whole,) = (each for each in weights(400) if each.name == "conv1")
    model = tmp_path / "split.caffemodel"
    parts = [
        caffemodel.LayerWeights(f"conv1_split{part}", whole.type, (whole.blobs[0][:3],))
        for part in (1, 2)
    ]
    caffemodel.write(model, parts)
    arguments = ("--layer", "conv1", "--plan", plan, "-o", tmp_path / "k.png")
    code, _, err = caffesplit("kernels", model, *arguments)
    assert (code, err) == (
        2,
        f"caffesplit: {model}: layer 'conv1_split1' of shape (3, 2, 3, 3), expected "
        "(1, 2, 3, 3), as the plan has it\n"
        "Give the plan of the split that made this net: --plan FILE.\n",
    )


def pictures(svg):
    return [line.split("base64,")[1] for line in svg.splitlines() if "base64," in line]


def test_an_unknown_layer_is_told_with_those_there_are(caffesplit, base, tmp_path):
    code, _, err = caffesplit("kernels", base, "--layer", "conv9", "-o", tmp_path / "k.png")
    assert (code, err) == (
        *(2, f"caffesplit: {base}/net.prototxt: no layer 'conv9' with kernels, expected one of "
        "conv1, conv2\n"),
    )  # fmt: skip


def test_a_plan_without_the_layer_is_told(caffesplit, base, tmp_path):
    plan = with_plan(tmp_path)
    arguments = ("--layer", "conv2", "--plan", plan, "-o", tmp_path / "k.png")
    code, _, err = caffesplit("kernels", base, *arguments)
    assert (code, err) == (
        *(2, f"caffesplit: {plan}: a plan without layer 'conv2', expected one of conv1\n"),
    )


def test_two_comparisons_at_once_are_a_usage_error(caffesplit, base, tmp_path):
    arguments = ("--layer", "conv1", "--window", "100:400", "--edge", "1,1")
    code, _, err = caffesplit("kernels", base, *arguments, "-o", tmp_path / "k.png")
    assert (code, "Give one of --window, --before and --edge." in err) == (2, True)


def test_a_window_of_a_single_file_is_a_usage_error(caffesplit, base, tmp_path):
    arguments = ("--layer", "conv1", "--window", "100:400", "-o", tmp_path / "k.png")
    code, _, err = caffesplit("kernels", base / "snap_iter_400.caffemodel", *arguments)
    assert (code, "--window is of an EXP" in err) == (2, True)


def test_a_file_that_is_no_model_is_told(caffesplit, tmp_path):
    (tmp_path / "noise.caffemodel").write_bytes(bytes(range(256)))
    arguments = ("--layer", "conv1", "-o", tmp_path / "k.png")
    code, _, err = caffesplit("kernels", tmp_path / "noise.caffemodel", *arguments)
    assert (code, err.startswith(f"caffesplit: {tmp_path}/noise.caffemodel: byte ")) == (2, True)
