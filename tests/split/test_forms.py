import numpy as np
import pytest
from split_cases import FAST, SLOW, base, base_outputs, derive, outputs

from caffesplit.errors import SplitError
from caffesplit.split.forms import Base, Setting, parts
from caffesplit.split.geometry import Geometry
from caffesplit.split.linear import Axis
from caffesplit.split.plan import LayerPlan


def layer(kernel=(3, 3), channels=4, group=1, bias=True, **axis):
    rng = np.random.default_rng(7)
    weight = rng.standard_normal((6, channels // group, *kernel)).astype(np.float32)
    blobs = (weight, rng.standard_normal(6).astype(np.float32)) if bias else (weight,)
    axes = tuple(Axis(extent, **({"pad": extent // 2} | axis)) for extent in kernel)
    return Base("conv", "data", "conv_out", blobs, Geometry("Convolution", 6, bias, axes, group))


def plan(method):
    return LayerPlan("conv", method, "half", FAST, SLOW)


def wiring(made):
    return [(part.name, part.bottoms, part.top) for part in made]


def test_the_extension_form_has_the_notebooks_layers_in_order():
    assert wiring(parts(layer(), plan("extension"), Setting(), 0)) == [
        ("conv_split1", ("data",), "conv_split1"),
        ("conv_split2", ("data",), "conv_split2"),
        ("conv_split2_extension", ("conv_split2",), "conv_split2_extension"),
        ("conv_concat", ("conv_split1", "conv_split2_extension"), "conv_concat"),
        ("conv_reorder", ("conv_concat",), "conv_out"),
    ]


def test_the_residual_form_has_the_notebooks_layers_in_order():
    assert wiring(parts(layer(), plan("residual"), Setting(), 0)) == [
        ("conv_split1", ("data",), "conv_split1"),
        ("conv_split2", ("data",), "conv_split2"),
        ("conv_split2_residual_pre", ("data",), "conv_split2_residual_pre"),
        (
            "conv_split2_residual_post",
            ("conv_split2_residual_pre",),
            "conv_split2_residual_post",
        ),
        (
            "conv_split2_residual_sum",
            ("conv_split2", "conv_split2_residual_post"),
            "conv_split2_residual_sum",
        ),
        ("conv_concat", ("conv_split1", "conv_split2_residual_sum"), "conv_concat"),
        ("conv_reorder", ("conv_concat",), "conv_out"),
    ]


def test_the_skip_form_adds_its_bottom_to_the_slow_part():
    assert wiring(parts(layer(), plan("skip"), Setting(), 0))[1:5] == [
        ("conv_split2", ("data",), "conv_split2"),
        ("conv_split2_skip", ("data",), "conv_split2_skip"),
        ("conv_split2_skip_sum", ("conv_split2", "conv_split2_skip"), "conv_split2_skip_sum"),
        ("conv_concat", ("conv_split1", "conv_split2_skip_sum"), "conv_concat"),
    ]


def test_the_parts_of_a_grouped_layer_are_put_in_place_group_by_group_and_added():
    grouped = layer(group=2)
    by_group = LayerPlan("conv", "extension", "half", (1, 4), (0, 2, 3, 5))
    made = parts(grouped, by_group, Setting(noise=0), 0)
    assert wiring(made)[2:] == [
        ("conv_split2_extension", ("conv_split2",), "conv_split2_extension"),
        ("conv_split1_reorder", ("conv_split1",), "conv_split1_reorder"),
        ("conv_split2_reorder", ("conv_split2_extension",), "conv_split2_reorder"),
        ("conv_reorder_sum", ("conv_split1_reorder", "conv_split2_reorder"), "conv_out"),
    ]
    extension, reorder1, reorder2 = (part.blobs[0][:, :, 0, 0].tolist() for part in made[2:5])
    assert extension == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert reorder1 == [[0], [1], [0], [0], [1], [0]]
    assert reorder2 == [[1, 0], [0, 0], [0, 1], [1, 0], [0, 0], [0, 1]]


def test_a_relu_stands_between_the_layers_of_the_branch():
    made = parts(layer(), plan("residual"), Setting(activation="relu"), 0)
    assert wiring(made)[3] == (
        "conv_split2_residual_relu",
        ("conv_split2_residual_pre",),
        "conv_split2_residual_pre",
    )
    assert made[3].kind == "relu"


def test_a_relu_keeps_what_the_branch_adds_above_zero():
    data = base("no_bias")[2]
    settings = {"noise": 0, "edge": (0.0, 1.0)}
    relu, straight, plain = (
        outputs(*derive("no_bias", "residual", **each), data)
        for each in (settings | {"activation": "relu"}, settings, settings | {"edge": (0, 0)})
    )
    np.testing.assert_allclose(relu - plain, np.maximum(straight - plain, 0), atol=1e-9)


def test_noise_changes_the_start_by_about_its_size():
    exact = base_outputs("plain")
    out = outputs(*derive("plain", "extension", noise=0.01), base("plain")[2])
    deviation = np.abs(out - exact).mean() / np.abs(exact).mean()
    assert 0.001 < deviation < 0.1


def test_an_exact_start_has_noise_in_its_residual_branch_alone():
    made = {part.name: part for part in parts(*exact("residual", noise=0.01))}
    noisy = made["conv_split2_residual_post"].blobs[0][:, :, 0, 0]
    assert 0 < np.abs(noisy - np.eye(3)).max() < 0.1
    assert set(made["conv_reorder"].blobs[0].ravel()) == {0, 1}
    extension = parts(*exact("extension", noise=0.01))[2]
    np.testing.assert_array_equal(extension.blobs[0][:, :, 0, 0], np.eye(3))


def exact(method, **setting):
    return layer(), plan(method), Setting(preserve=True, **setting), 0


def test_an_exact_start_leaves_everything_but_split2_as_it_would_be():
    usual, preserved = (
        parts(layer(), plan("residual"), Setting(noise=0, preserve=each), 0)
        for each in (False, True)
    )
    for one, other in zip(usual, preserved, strict=True):
        same = all(map(np.array_equal, one.blobs, other.blobs))
        assert same == (one.name != "conv_split2")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def reorder(seed):
        return parts(layer(), plan("residual"), Setting(), seed)[-1].blobs[0]

    np.testing.assert_array_equal(reorder(5), reorder(5))
    assert not np.array_equal(reorder(5), reorder(6))


def test_a_layer_without_bias_gets_no_bias_in_any_part():
    made = parts(layer(bias=False), plan("residual"), Setting(), 0)
    assert {len(part.blobs) for part in made} == {0, 1}


def test_added_biases_start_at_zero_and_a_skip_has_none():
    made = {part.name: part for part in parts(layer(), plan("residual"), Setting(), 0)}
    for name in ("conv_split2_residual_pre", "conv_split2_residual_post", "conv_reorder"):
        assert not made[name].blobs[1].any()
    skip = parts(layer(), plan("skip"), Setting(), 0)[2]
    assert len(skip.blobs) == 1


def test_pointwise_parts_of_a_3d_convolution_have_its_number_of_axes():
    made = parts(layer(kernel=(3, 3, 3)), plan("residual"), Setting(), 0)
    assert made[-1].blobs[0].shape == (6, 6, 1, 1, 1)


def test_noise_stays_within_the_groups():
    by_group = LayerPlan("conv", "residual", "half", (1, 4), (0, 2, 3, 5))
    made = parts(layer(group=2), by_group, Setting(noise=0.1), 0)
    shapes = {part.name: part.blobs[0].shape for part in made if part.kind == "pointwise"}
    assert shapes == {
        "conv_split2_residual_post": (4, 2, 1, 1),
        "conv_split1_reorder": (6, 1, 1, 1),
        "conv_split2_reorder": (6, 2, 1, 1),
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise": -0.1}, "noise -0.1, expected a number from 0 to 1e+06"),
        ({"noise": float("nan")}, "noise nan, expected a number from 0 to 1e+06"),
        ({"new_lr_mult": -1}, "new-lr-mult -1, expected a number from 0 to 1e+06"),
        ({"edge": (0.0, float("inf"))}, "edge (0.0, inf), expected two numbers up to 1e+06"),
        ({"skip_stride": "max"}, "skip-stride 'max', expected one of sample, average"),
        ({"activation": "tanh"}, "activation 'tanh', expected one of none, relu"),
        (
            {"activation": "relu", "preserve": True},
            "preserve with activation relu, expected a branch that is linear: one that is not "
            "cannot be subtracted\nLeave out --preserve or --activation.",
        ),
    ],
)
def test_an_impossible_setting_cannot_be_built(setting, message):
    with pytest.raises(SplitError) as caught:
        Setting(**setting)
    assert str(caught.value).startswith(message)


def test_every_form_is_a_method_of_plans_and_of_the_command_line():
    import click

    from caffesplit.cli.split import command
    from caffesplit.split.forms import FORMS
    from caffesplit.split.plan import METHODS

    (option,) = (each for each in command.params if each.name == "method")
    assert isinstance(option.type, click.Choice)
    assert set(FORMS) == set(METHODS) == set(option.type.choices)
