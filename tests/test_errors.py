import pickle

import pytest

from caffesplit.errors import CaffesplitError, Location, TrainingError, listed


def test_a_message_names_place_finding_expectation_and_remedy():
    at = Location("lenet.prototxt", 42, 16, '  kernel_size: "three"\r\n')
    error = CaffesplitError('found string "three"', "a positive integer", "Write 3.", at)
    assert str(error) == (
        'lenet.prototxt:42:16: found string "three", expected a positive integer\n'
        '      kernel_size: "three"\n'
        "                   ^\n"
        "Write 3."
    )


def test_a_place_in_a_binary_file_is_byte_layer_and_blob():
    at = Location("net.caffemodel", byte=107248, layer="conv2", blob=0)
    assert str(CaffesplitError("too short", at=at)) == (
        'net.caffemodel: byte 107248, layer "conv2", blob 0: too short'
    )


def test_a_long_line_is_cut_around_the_caret():
    at = Location("net.prototxt", 1, 501, "x" * 500 + "!" + "y" * 500)
    excerpt = at.excerpt.splitlines()
    assert len(excerpt[0]) < 120
    assert excerpt[0][excerpt[1].index("^")] == "!"


def test_a_tab_does_not_move_the_caret():
    at = Location("net.prototxt", 1, 3, "\t\t!")
    line, caret = at.excerpt.splitlines()
    assert line[caret.index("^")] == "!"


def test_errors_survive_pickling_with_their_fields():
    error = TrainingError("diverged", "a loss that falls", "Lower base_lr.", Location("log"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.at, again.exit_code) == (str(error), error.at, 1)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], "none"),
        ([100, 200, 300], "100, 200, 300"),
        (range(500, 20500, 500), "500, 1000, … 20000 (40 of them, every 500)"),
        ([1, *range(500, 20500, 500)], "1, 500, … 20000 (41 of them)"),
    ],
)
def test_many_numbers_are_abbreviated(numbers, text):
    assert listed(numbers) == text
