import numpy as np
import pytest
from numpy.testing import assert_allclose

from caffesplit.errors import NetError
from caffesplit.metric.trajectory import LayerNorms, LayerScores, WindowNorms, WindowScores
from caffesplit.report import figures, style
from caffesplit.report.windows import MOST_NAMED, norms, tpm_windows

NAN = float("nan")


def window(first, last, snapshots, **layers):
    return WindowScores(
        (first, last),
        tuple(range(snapshots)),
        tuple(
            LayerScores(name, (len(tpm), 1, 1, 1), np.array(tpm)) for name, tpm in layers.items()
        ),
    )


WINDOWS = (
    window(9000, 15000, 10, conv1=[0.9, 0.9], conv2=[0.1, 0.5]),
    window(1000, 7000, 5, conv1=[0.4, 0.4], conv2=[0.2, 0.8]),
)


def labels(axes):
    return [text.get_text() for text in axes.texts]


def test_each_layer_has_its_tpm_and_entropy_at_the_middle_of_each_window():
    tpm, entropy = tpm_windows(WINDOWS).axes
    curves = [line for line in tpm.lines if line.get_marker() == "o"]
    # Of higher entropy, and so on top: conv2.
    assert_allclose(curves[0].get_xydata(), [(4000, 0.4), (12000, 0.9)])
    assert_allclose(curves[1].get_xydata(), [(4000, 0.5), (12000, 0.3)])
    curves = [line for line in entropy.lines if line.get_marker() == "o"]
    assert_allclose(curves[1].get_ydata(), [np.log(2), np.log(2)])
    assert entropy.get_ylabel() == "entropy, nats"
    assert entropy.get_xlabel() == "iteration"


def test_the_random_walk_of_each_window_is_marked():
    tpm, _ = tpm_windows(WINDOWS).axes
    dashed = [line for line in tpm.lines if line.get_linestyle() == "--"]
    assert [line.get_xydata().tolist() for line in dashed] == [
        [[1000, 0.5], [7000, 0.5]],
        [[9000, 1 / 3], [15000, 1 / 3]],
    ]
    assert [text.get_text() for text in tpm.get_legend().texts] == ["random walk"]


def test_the_last_tpm_of_each_layer_is_written_beside_it():
    assert labels(tpm_windows(WINDOWS).axes[0]) == ["last value", "0.3  conv2", "0.9  conv1"]


def test_a_layer_without_a_tpm_in_a_window_has_a_gap_there(tmp_path):
    figure = tpm_windows([window(0, 10, 5, conv1=[NAN]), window(10, 20, 5, conv1=[0.5])])
    assert labels(figure.axes[0]) == ["last value", "0.5  conv1"]
    figures.save(figure, tmp_path / "a.png")


def test_of_many_layers_those_of_highest_entropy_are_named():
    layers = {f"conv{number}": [0.5] * number + [0.9] * 30 for number in range(30)}
    tpm, _ = tpm_windows([window(0, 10, 5, **layers), window(10, 20, 5, **layers)]).axes
    assert len(tpm.texts) == 1 + MOST_NAMED
    assert labels(tpm)[1].endswith("conv29")
    assert tpm.get_legend().texts[1].get_text() == "10 more layers"
    assert sum(line.get_color() == style.PALE for line in tpm.lines) == 10 * 3


def norm(first, last, *pairs):
    layers = tuple(LayerNorms(f"conv{place}", *pair) for place, pair in enumerate(pairs, 1))
    return WindowNorms((first, last), (first, last), layers)


def test_norms_are_drawn_at_the_ends_of_the_windows():
    (axes,) = norms([norm(9000, 15000, (3, 4)), norm(1000, 7000, (1, 2))]).axes
    assert axes.lines[0].get_xydata().tolist() == [[1000, 1], [7000, 2], [9000, 3], [15000, 4]]
    assert axes.get_ylabel() == "L2 norm"
    assert labels(axes) == ["last value", "4  conv1"]
    assert axes.get_legend() is None


def test_norms_of_more_than_a_decade_have_a_logarithmic_axis():
    (axes,) = norms([norm(0, 10, (1, 2), (30, 40))]).axes
    assert axes.get_ylabel() == "L2 norm, log scale"


def test_a_norm_that_is_not_finite_is_left_out(tmp_path):
    figure = norms([norm(0, 10, (1, float("inf")), (2, NAN))])
    assert labels(figure.axes[0]) == ["conv1", "conv2"]
    figures.save(figure, tmp_path / "a.png")


def test_a_panel_without_any_finite_value_says_so_and_has_no_numbers():
    (axes,) = norms([norm(0, 10, (NAN, NAN))]).axes
    assert labels(axes) == ["conv1", "no finite value"]
    assert (len(axes.get_xticks()), len(axes.get_yticks())) == (0, 0)
    tpm, entropy = tpm_windows([window(0, 10, 5, conv1=[NAN])]).axes
    assert labels(entropy) == ["no finite value"]
    assert (len(tpm.get_yticks()) > 0, len(entropy.get_xticks()) > 0) == (True, True)


@pytest.mark.parametrize("draw", [tpm_windows, norms])
def test_without_layers_there_is_nothing_to_draw(draw):
    empty = norm(0, 10) if draw is norms else window(0, 10, 5)
    with pytest.raises(NetError, match="no layer with kernels to draw"):
        draw([empty])
