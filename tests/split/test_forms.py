import numpy as np
import pytest
from naive_net import convolve, evaluate

from caffesplit.errors import SplitError
from caffesplit.split.forms import Base, Setting, parts
from caffesplit.split.plan import LayerPlan

FAST, SLOW = (1, 2, 5), (0, 3, 4)


def base(kernel=(3, 3), channels=4, group=1, bias=True):
    rng = np.random.default_rng(7)
    weight = rng.standard_normal((6, channels // group, *kernel)).astype(np.float32)
    blobs = (weight, rng.standard_normal(6).astype(np.float32)) if bias else (weight,)
    return Base("conv", "data", "conv_out", blobs)


def plan(method):
    return LayerPlan("conv", method, "half", FAST, SLOW)


def image():
    return np.random.default_rng(8).standard_normal((4, 6, 7))


def test_the_extension_form_has_the_notebooks_layers_in_order():
    made = parts(base(), plan("extension"), Setting(), 0)
    assert [(part.name, part.bottoms, part.top) for part in made] == [
        ("conv_split1", ("data",), "conv_split1"),
        ("conv_split2", ("data",), "conv_split2"),
        ("conv_split2_extension", ("conv_split2",), "conv_split2_extension"),
        ("conv_concat", ("conv_split1", "conv_split2_extension"), "conv_concat"),
        ("conv_reorder", ("conv_concat",), "conv_out"),
    ]


def test_the_residual_form_has_the_notebooks_layers_in_order():
    made = parts(base(), plan("residual"), Setting(), 0)
    assert [(part.name, part.bottoms, part.top) for part in made] == [
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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "pad": 1}, {"dilation": 2, "pad": 2}])
def test_extension_without_noise_computes_exactly_the_base_layer(geometry, group, bias):
    layer = base(group=group, bias=bias)
    fast, slow = ((0, 2, 3), (1, 4, 5)) if group == 1 else ((1, 4), (0, 2, 3, 5))
    made = parts(layer, LayerPlan("conv", "extension", "half", fast, slow), Setting(noise=0), 0)

    out = evaluate(made, {"data": image()}, group=group, **geometry)["conv_out"]

    expected = convolve(image(), *layer.blobs, group=group, **geometry)
    np.testing.assert_array_equal(out, expected)


def test_residual_without_noise_adds_the_edge_preserving_branch_to_the_slow_kernels():
    layer = base()
    made = parts(layer, plan("residual"), Setting(noise=0), 0)

    out = evaluate(made, {"data": image()}, pad=1)["conv_out"]

    weight, bias = layer.blobs
    branch = -0.2 * weight.astype(float)
    branch[:, :, 1, 1] += 2 * weight[:, :, 1, 1].astype(float)
    expected = convolve(image(), weight, bias, pad=1)
    for n in SLOW:
        expected[n] += convolve(image(), branch[n : n + 1], pad=1)[0]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_noise_changes_the_start_by_about_its_size():
    layer = base()
    exact = convolve(image(), *layer.blobs, pad=1)
    made = parts(layer, plan("extension"), Setting(noise=0.01), 0)
    out = evaluate(made, {"data": image()}, pad=1)["conv_out"]
    deviation = np.abs(out - exact).mean() / np.abs(exact).mean()
    assert 0.001 < deviation < 0.1


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def reorder(seed):
        return parts(base(), plan("residual"), Setting(), seed)[-1].blobs[0]

    np.testing.assert_array_equal(reorder(5), reorder(5))
    assert not np.array_equal(reorder(5), reorder(6))


def test_a_layer_without_bias_gets_no_bias_in_any_part():
    made = parts(base(bias=False), plan("residual"), Setting(), 0)
    assert {len(part.blobs) for part in made} == {0, 1}


def test_added_biases_start_at_zero():
    made = {part.name: part for part in parts(base(), plan("residual"), Setting(), 0)}
    for name in ("conv_split2_residual_pre", "conv_split2_residual_post", "conv_reorder"):
        assert not made[name].blobs[1].any()


def test_pointwise_parts_of_a_3d_convolution_have_its_number_of_axes():
    made = parts(base(kernel=(3, 3, 3)), plan("residual"), Setting(), 0)
    assert made[-1].blobs[0].shape == (6, 6, 1, 1, 1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise": -0.1}, "noise -0.1, expected a number of 0 or more"),
        ({"noise": float("nan")}, "noise nan, expected a number of 0 or more"),
        ({"new_lr_mult": -1}, "new-lr-mult -1, expected a number of 0 or more"),
        ({"edge": (0.0, float("inf"))}, "edge (0.0, inf), expected two finite numbers"),
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
