import numpy as np
import pytest
from numpy.testing import assert_array_equal

from caffesplit.errors import NetError
from caffesplit.metric.trajectory import LayerScores, WindowScores
from caffesplit.report.histograms import tpm_histograms

NAN = float("nan")


def layer(name, *kernels):
    return LayerScores(name, (len(kernels), 3, 3, 3), np.array(kernels))


def window(*layers):
    return WindowScores((40000, 50000), (40000, 42500, 45000, 47500, 50000), layers)


def test_layers_come_by_entropy_those_without_last():
    figure = tpm_histograms(
        window(
            layer("frozen", NAN, NAN),
            layer("narrow", 0.51, 0.52, 0.53, 0.54),
            layer("wide", 0.1, 0.4, 0.6, 0.9),
        )
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["wide", "narrow", "frozen"]


def test_bars_count_the_kernels_in_equal_bins_over_zero_to_one():
    (axes,) = tpm_histograms(window(layer("conv1", 0.0, 0.05, 0.55, 1.0, NAN))).axes
    assert [bar.get_height() for bar in axes.patches] == [2, 0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert axes.get_xlim() == (0, 1)


def test_the_random_walk_and_the_mean_are_marked_in_every_panel_and_explained():
    figure = tpm_histograms(window(layer("conv1", 0.1, 0.9), layer("conv2", 0.2)))
    for axes, mean in zip(figure.axes, (0.5, 0.2), strict=True):
        assert_array_equal(axes.lines[0].get_xdata(), [0.5, 0.5])
        assert_array_equal(axes.lines[1].get_xdata(), [mean, mean])
    assert figure.get_suptitle() == "TPM of kernels, iterations 40,000 to 50,000, 5 snapshots"
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend == ["mean", "random walk, 0.500"]


def test_entropy_mean_and_undefined_kernels_stand_over_each_panel():
    figure = tpm_histograms(window(layer("conv1", 0.1, 0.3, NAN), layer("frozen", NAN)))
    notes = [axes.texts[0].get_text() for axes in figure.axes]
    assert notes == ["entropy 0.693, mean 0.200, 1 undefined", "1 undefined"]


def test_the_bins_can_be_chosen():
    (axes,) = tpm_histograms(window(layer("conv1", 0.1, 0.3)), bins=2).axes
    assert [bar.get_height() for bar in axes.patches] == [2, 0]
    assert axes.texts[0].get_text() == "entropy 0.000, mean 0.200"


@pytest.mark.parametrize(("number", "drawn"), [(1, 1), (2, 2), (50, 50), (61, 60)])
def test_as_many_layers_as_a_deep_net_has_are_drawn_and_a_cut_is_said(number, drawn):
    layers = [layer(f"conv{k}", 0.1, 0.9) for k in range(number)]
    figure = tpm_histograms(window(*layers))
    assert len(figure.axes) == drawn
    assert (f", {drawn} of {number} layers" in figure.get_suptitle()) == (drawn < number)


def test_a_dollar_in_a_layers_name_is_a_dollar():
    (axes,) = tpm_histograms(window(layer("a$^b$", 0.1, 0.9))).axes
    axes.figure.draw_without_rendering()
    assert axes.get_title(loc="left") == "a$^b$"


def test_without_kernels_there_is_nothing_to_draw():
    with pytest.raises(NetError) as caught:
        tpm_histograms(window())
    assert str(caught.value) == (
        "no layer with kernels to draw, expected a convolution or an inner product"
    )


def test_the_words_over_neighbouring_panels_do_not_touch():
    undefined = [0.1, 0.9] + [NAN] * 1024
    layers = [layer(f"module{k}_inception_3x3_split2_residual_post", *undefined) for k in range(3)]
    figure = tpm_histograms(window(*layers))
    figure.draw_without_rendering()
    left, middle, right = figure.axes
    for one, other in ((left, middle), (middle, right)):
        words = [one.texts[0], one._left_title]
        assert max(text.get_window_extent().x1 for text in words) < other.bbox.x0
