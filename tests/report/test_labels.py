import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from caffesplit.report import style
from caffesplit.report.labels import MOST, Label, alike, label_ends, spread

NAN = float("nan")


def labelled(*labels, panel=3.0):
    axes = Figure().subplots()
    axes.set_ylim(0, 1)
    label_ends(axes, labels, panel)
    return axes


def texts(axes):
    return [text.get_text() for text in axes.texts]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_spread_heights_keep_their_order_and_distance(heights):
    places = spread(heights, 0.05)
    order = sorted(range(len(heights)), key=lambda index: (heights[index], -index))
    assert np.all(np.diff([places[index] for index in order]) >= 0.05 - 1e-9)
    assert max(places) <= 1


def test_heights_with_room_between_them_stay():
    assert spread([0.9, 0.1, 0.5], 0.05) == [0.9, 0.1, 0.5]


def test_values_have_as_many_decimals_each():
    assert alike([0.5, 0.9753, NAN]) == ["0.5000", "0.9753", ""]
    assert alike([2e30, 0.5]) == ["2e+30", "0.5"]


def test_a_label_stands_at_its_value_in_words_beside_a_line_of_its_look():
    axes = labelled(Label(3, 0.25, "derived1", ", diverged at 1,200"))
    assert texts(axes) == ["last value", "0.25  derived1, diverged at 1,200"]
    assert axes.texts[1].xy == (1.04, 0.25)
    assert axes.texts[1].get_color() == style.TEXT
    assert axes.lines[0].get_color() == style.COLOURS[3]


def test_without_a_value_only_the_name_is_written_at_the_bottom():
    axes = labelled(Label(0, NAN, "derived1"))
    assert texts(axes) == ["derived1"]
    assert axes.texts[0].xy == (1.04, 0)


def test_a_long_name_is_shortened_in_the_middle():
    assert (
        texts(labelled(Label(0, 0.75, "baseline_" * 5)))[1] == "0.75  baseline_basel…ine_baseline_"
    )


def test_more_labels_than_a_screen_has_room_for_are_counted():
    axes = labelled(*(Label(index, 0.5, f"run{index}") for index in range(MOST + 7)), panel=20)
    assert len(axes.texts) == 1 + MOST + 1
    assert texts(axes)[-1] == "and 7 more"


def test_thirty_five_looks_are_different():
    assert len({str(style.line_look(index)) for index in range(35)}) == 35
