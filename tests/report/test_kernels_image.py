"""Pictures of kernels: every weight is where it belongs, in the colour of its value."""

import matplotlib as mpl
import numpy as np
import pytest
from numpy.testing import assert_allclose

from caffesplit.errors import NetError, SplitError, WeightsError
from caffesplit.report.kernels import image
from caffesplit.split.plan import LayerPlan

RNG = np.random.default_rng(0)


def panels(figure):
    """The axes with pictures of kernels; the last ones of a figure are the colour bar's."""
    return [axes for axes in figure.axes if axes.images]


def canvas(axes):
    return np.asarray(axes.images[0].get_array())


def colour(value, scale):
    return mpl.colormaps["RdBu_r"](0.5 + value / (2 * scale))[:3]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def title(figure):
    return figure.texts[0].get_text()


def test_kernels_of_three_channels_are_red_green_and_blue():
    weights = np.zeros((2, 3, 3, 3))
    weights[0, 0, 0, 1] = 2
    weights[1, 2] = -1
    (axes,) = panels(image("conv1", weights))
    picture = canvas(axes)
    assert_allclose(picture[0, 1], [1, 0.5, 0.5])
    assert_allclose(picture[0, 0], [0.5, 0.5, 0.5])
    assert_allclose(picture[:3, 4:7], np.broadcast_to([0.5, 0.5, 0.25], (3, 3, 3)))
    assert texts(axes) == ["0", "1"]


def test_kernels_of_one_channel_are_tiles_in_diverging_colours():
    weights = RNG.standard_normal((5, 1, 3, 2))
    (axes,) = panels(image("conv1", weights))
    picture, scale = canvas(axes), np.abs(weights).max()
    for number, kernel in enumerate(weights[:, 0]):
        for (row, column), value in np.ndenumerate(kernel):
            assert_allclose(picture[row, 4 * number + column], colour(value, scale))


def test_other_kernels_are_rows_of_channels():
    weights = RNG.standard_normal((4, 6, 3, 3))
    (axes,) = panels(image("conv2", weights))
    picture, scale = canvas(axes), np.abs(weights).max()
    high = len(picture) // 4
    for (number, channel, row, column), value in np.ndenumerate(weights):
        assert_allclose(picture[number * high + row, channel * 4 + column], colour(value, scale))
    assert texts(axes) == ["0", "1", "2", "3"]
    assert title(axes.figure) == "conv2: 4 kernels of 6×3×3"


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1, 1), (4, 6, 1)])
def test_kernels_of_one_value_per_channel_are_a_matrix(shape):
    weights = RNG.standard_normal(shape)
    (axes,) = panels(image("reorder", weights))
    picture, scale = canvas(axes), np.abs(weights).max()
    assert picture.shape == (4, 6, 3)
    for (number, channel), value in np.ndenumerate(weights.reshape(4, 6)):
        assert_allclose(picture[number, channel], colour(value, scale))


def test_further_axes_stand_side_by_side():
    weights = RNG.standard_normal((2, 3, 4, 5, 5))
    (axes,) = panels(image("conv3d", weights))
    picture, scale = canvas(axes), np.abs(weights).max()
    assert picture.shape[1] == 3 * 4 * 6
    assert_allclose(picture[2, (1 * 4 + 3) * 6 + 4], colour(weights[0, 1, 3, 2, 4], scale))


PLAN = LayerPlan("c", "residual", "half", (0, 3), (1, 2), (0.9, 0.25, None, 0.75))


def test_fast_and_slow_kernels_stand_apart_with_their_tpm():
    weights = RNG.standard_normal((4, 6, 3, 3))
    fast, slow = panels(image("c", weights, PLAN))
    assert fast.get_title(loc="left") == "fast: 2 kernels, mean TPM 0.825"
    assert slow.get_title(loc="left") == "slow: 2 kernels, mean TPM 0.250"
    assert texts(fast) == ["0 · 0.90", "3 · 0.75"]
    assert texts(slow) == ["1 · 0.25", "2 · –"]
    scale = np.abs(weights).max()
    assert_allclose(canvas(slow)[0, 0], colour(weights[1, 0, 0, 0], scale))


def test_before_stands_beside_after_in_one_scale():
    before, after = np.full((2, 1, 3, 3), 1.0), np.full((2, 1, 3, 3), -4.0)
    left, right = panels(image("c", after, before=before, labels=("iteration 1", "iteration 2")))
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["iteration 1", "iteration 2"]
    assert_allclose(canvas(left)[0, 0], colour(1, 4))
    assert_allclose(canvas(right)[0, 0], colour(-4, 4))


def test_the_colour_bar_tells_the_scale():
    weights = np.array([[[[-0.5]], [[0.25]]]])
    bar = image("c", weights).axes[-1]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["-0.5", "0", "0.5"]


def test_what_is_left_out_is_said():
    figure = image("c", RNG.standard_normal((6, 40, 3, 3)), most=2)
    assert title(figure) == (
        "c: 6 kernels of 40×3×3; left out: 4 of 6 kernels and 8 of 40 channels"
    )
    assert texts(panels(figure)[0]) == ["0", "1"]


def test_most_counts_for_fast_and_slow_each():
    figure = image("c", RNG.standard_normal((4, 1, 3, 3)), PLAN, most=1)
    assert [texts(axes) for axes in panels(figure)] == [["0 · 0.90"], ["1 · 0.25"]]
    assert title(figure) == "c: 4 kernels of 1×3×3; left out: 2 of 4 kernels"


def test_values_that_are_no_finite_numbers_are_black_and_do_not_set_the_scale():
    weights = np.ones((3, 1, 2, 2))
    weights[0, 0, 0, 0], weights[1, 0, 0, 0] = np.nan, np.inf
    (axes,) = panels(image("c", weights))
    assert_allclose(canvas(axes)[0, 0], [0, 0, 0])
    assert_allclose(canvas(axes)[0, 3], [0, 0, 0])
    assert_allclose(canvas(axes)[0, 1], colour(1, 1))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_dead_layer_can_be_looked_at(value):
    image("c", np.full((2, 4, 3, 3), value)).draw_without_rendering()


@pytest.mark.parametrize(
    "shape", [(96, 3, 11, 11), (512, 512, 3, 3), (4096, 4096), (1, 1), (1, 1, 3, 3), (2, 3, 1, 40)]
)
def test_pictures_fit_a_notebook(shape):
    figure = image("c", np.ones(shape, np.float32), before=np.ones(shape, np.float32))
    width, height = figure.get_size_inches()
    assert width == 9
    assert height < 25
    for axes in figure.axes:
        left, bottom, right, top = axes.get_position().extents
        assert 0 <= left < right <= 1
        assert 0 <= bottom < top <= 1


def test_a_blob_without_kernels_is_refused():
    with pytest.raises(NetError) as caught:
        image("bn", np.ones(3))
    assert str(caught.value) == (
        "layer 'bn' has weights of shape (3,), "
        "expected kernels: of a convolution or an inner product"
    )


def test_a_plan_of_another_layer_is_refused():
    with pytest.raises(SplitError) as caught:
        image("c", np.ones((5, 1, 3, 3)), PLAN)
    assert str(caught.value) == (
        "a plan with no kernel 4 for layer 'c', with 5 kernels, expected each from 0 to 4 once, "
        "fast or slow\nCorrect the plan, with the numbers of `caffesplit tpm --per-kernel`; if it "
        "is of another net, write one for this net with `caffesplit plan`."
    )


def test_another_nets_weights_before_are_refused():
    with pytest.raises(WeightsError) as caught:
        image("c", np.ones((5, 1, 3, 3)), before=np.ones((4, 1, 3, 3)))
    assert str(caught.value) == (
        "layer 'c' of shape (4, 1, 3, 3) before and (5, 1, 3, 3) after, expected weights of one net"
    )
