"""Pictures of a study: TPM and norms of nets beside each other, and chains by generation."""

from __future__ import annotations

import math

import pytest

from caffesplit.errors import NetError
from caffesplit.report import figures
from caffesplit.report.beside import Measure, tpm_and_norms
from caffesplit.report.generations import Point, generations

WINDOWS = [(10, 20), (20, 40)]
MEASURES = [
    Measure(net, layer, window, tpm, window[0] / 10, window[1] / 10, 0.5)
    for net, layers in {"true": ["conv1", "conv2"], "shuffled": ["conv1"]}.items()
    for layer in layers
    for window, tpm in zip(WINDOWS, (0.9, 0.3), strict=True)
]


def strong(axes):
    """What the lines with dots show."""
    return sorted(
        (tuple(map(float, line.get_xdata())), tuple(map(float, line.get_ydata())))
        for line in axes.lines
        if line.get_marker() == "o"
    )


def test_each_net_has_a_column_with_tpm_above_and_norms_below():
    figure = tpm_and_norms(MEASURES)
    above_true, above_shuffled, below_true, below_shuffled = figure.axes
    assert [axes.get_title(loc="left") for axes in (above_true, above_shuffled)] == [
        *("true", "shuffled"),
    ]
    assert strong(above_true) == [((15.0, 30.0), (0.9, 0.3))] * 2
    assert strong(above_shuffled) == [((15.0, 30.0), (0.9, 0.3))]
    assert strong(below_true) == [((10.0, 20.0, 40.0), (1.0, 2.0, 4.0))] * 2
    assert strong(below_shuffled) == [((10.0, 20.0, 40.0), (1.0, 2.0, 4.0))]


def test_columns_share_their_scales():
    above_true, above_shuffled, below_true, below_shuffled = tpm_and_norms(MEASURES).axes
    assert above_true.get_ylim() == above_shuffled.get_ylim()
    assert below_true.get_ylim() == below_shuffled.get_ylim()


def test_the_random_walk_is_drawn_over_every_window():
    above = tpm_and_norms(MEASURES).axes[0]
    dashed = {tuple(line.get_xdata()) for line in above.lines if line.get_color() == "#777777"}
    assert dashed == set(WINDOWS)


def test_the_legend_names_layers_once_and_no_more_than_can_be_told_apart():
    (legend,) = tpm_and_norms(MEASURES).legends
    assert [text.get_text() for text in legend.get_texts()] == ["conv1", "conv2", "random walk"]
    many = [Measure("net", f"layer{i}", (1, 2), 0.5, 1.0, 1.0, 1.0) for i in range(30)]
    (legend,) = tpm_and_norms(many).legends
    assert len(legend.get_texts()) == 21


def test_undefined_tpm_is_no_error(tmp_path):
    nan = [Measure("net", "conv", (1, 2), math.nan, math.inf, 1.0, 1.0)]
    figures.save(tpm_and_norms(nan), tmp_path / "tpm.png")


POINTS = [
    Point("split", 1, 0.6, 0.01),
    Point("split", 0, 0.5, 0.02),
    Point("longer", 0, 0.5, 0.02),
    Point("longer", 1, 0.7, 0.0),
]


def test_a_line_goes_through_its_generations_in_their_order(tmp_path):
    figure = generations(POINTS, "Accuracy")
    (axes,) = figure.axes
    drawn = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in drawn] == [[0.5, 0.6], [0.5, 0.7]]
    for line in drawn:
        assert [round(x) for x in line.get_xdata()] == [0, 1]
    figures.save(figure, tmp_path / "generations.png")


def test_the_best_line_is_named_first():
    (axes,) = generations(POINTS, "Accuracy").axes
    names = [text.get_text().split()[-1] for text in axes.texts]
    assert names == ["value", "longer", "split"]


def test_a_bar_reaches_a_standard_deviation_up_and_down():
    (axes,) = generations([Point("split", 0, 0.5, 0.02)], "Accuracy").axes
    (bar,) = [each for each in axes.collections if len(each.get_segments()) == 1]
    assert bar.get_segments()[0][:, 1].tolist() == pytest.approx([0.48, 0.52])


@pytest.mark.parametrize("draw", [lambda: tpm_and_norms([]), lambda: generations([], "Loss")])
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(NetError):
        draw()
