import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.errors import WeightsError
from caffesplit.formats import pieces

DATA = bytes(range(256)) * 20


class Own:
    def write(self, file):
        file.write(b"own")


@st.composite
def ranges(draw):
    start = draw(st.integers(0, len(DATA)))
    return range(start, draw(st.integers(start, len(DATA))))


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").write_bytes(DATA)
    return tmp_path / "source"


def test_ranges_bytes_and_what_writes_itself_stand_one_behind_the_other(source, tmp_path):
    @given(st.lists(st.one_of(ranges(), st.binary(max_size=9), st.just(Own()))))
    def law(parts):
        with (tmp_path / "target").open("wb") as file:
            pieces.write(parts, source, file)
        expected = b"".join(
            DATA[part.start : part.stop]
            if isinstance(part, range)
            else part
            if isinstance(part, bytes)
            else b"own"
            for part in parts
        )
        assert (tmp_path / "target").read_bytes() == expected

    law()


@pytest.mark.parametrize("copy", [pieces.in_kernel, pieces.by_hand])
def test_both_ways_to_copy_do_the_same(copy, source, tmp_path):
    with source.open("rb") as original, (tmp_path / "target").open("wb") as file:
        file.write(b"head")
        assert copy(original, range(3, 5000), file)
        file.write(b"tail")
        assert not copy(original, range(5000, len(DATA) + 1), file)
    assert (tmp_path / "target").read_bytes()[:5005] == b"head" + DATA[3:5000] + b"tail"


def test_a_large_range_is_copied_by_hand_in_chunks():
    data = DATA * 300
    target = io.BytesIO()
    assert len(data) > pieces.CHUNK
    assert pieces.by_hand(io.BytesIO(data), range(1, len(data)), target)
    assert target.getvalue() == data[1:]


def test_a_source_that_became_shorter_is_an_error(source, tmp_path):
    with pytest.raises(WeightsError) as caught, (tmp_path / "target").open("wb") as file:
        pieces.write([range(0, len(DATA) + 1)], source, file)
    assert str(caught.value) == (
        f"{source}: the file became shorter while it was read, expected a file that nobody "
        "writes to\nWait until it is complete."
    )
