from __future__ import annotations

from collections import Counter
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffesplit.data import labels
from caffesplit.errors import CaffesplitError
from caffesplit.formats import database, schema


def datum(value: bytes):
    return schema.message_class("Datum").FromString(value)


def write(folder: Path, values: list[bytes]) -> Path:
    database.write(folder, [(database.key(i), value) for i, value in enumerate(values)])
    return folder


def plain(count: int, classes: int = 10, seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [
        database.datum(
            rng.integers(0, 256, (3, 4, 5), dtype=np.uint8), int(rng.integers(classes))
        ).SerializeToString()
        for _ in range(count)
    ]


def read_by_lmdb(folder: Path) -> list[tuple[bytes, bytes]]:
    """The oracle: the lmdb library's own reader."""
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as transaction:
        return list(transaction.cursor())


def without_label(value: bytes) -> bytes:
    """A Datum's bytes but for its label."""
    message = datum(value)
    message.ClearField("label")
    return message.SerializeToString()


# Labels as numbers


@settings(deadline=None)
@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=50),
    seed=st.integers(0, 2**32),
    fraction=st.floats(0, 1),
)
def test_a_permutation_keeps_the_histogram_and_all_but_the_fraction(values, seed, fraction):
    found, chosen = labels.permuted(np.array(values, np.int64), seed, fraction)

    assert Counter(found.tolist()) == Counter(values)
    assert chosen == round(fraction * len(values))
    assert np.count_nonzero(found != np.array(values)) <= chosen


def test_the_seed_alone_decides():
    values = np.arange(1000)
    first, again, other = (labels.permuted(values, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_every_place_is_as_likely_to_be_chosen_and_every_label_to_come_there():
    moved = np.zeros(20)
    sums = np.zeros(20)
    for seed in range(3000):
        found, _ = labels.permuted(np.arange(20), seed, 0.5)
        moved += found != np.arange(20)
        sums += found
    # Ten are chosen, of which one stays in the mean; four standard deviations either way.
    assert np.abs(moved / 3000 - 0.45).max() < 4 * np.sqrt(0.45 * 0.55 / 3000)
    np.testing.assert_allclose(sums / 3000, np.arange(20) / 2 + 4.75, atol=0.5)


def test_a_fraction_beyond_1_is_refused():
    with pytest.raises(ValueError, match=r"a fraction of 1\.5"):
        labels.permuted(np.arange(3), 0, 1.5)


# LMDBs


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_images_keep_their_bytes_their_keys_and_their_order(tmp_path, fraction):
    source = write(tmp_path / "src", plain(2500))
    before = read_by_lmdb(source)

    report = labels.shuffle(source, tmp_path / "dst", 1, fraction)

    after = read_by_lmdb(tmp_path / "dst")
    assert [key for key, _ in after] == [key for key, _ in before]
    old, new = ([datum(value).label for _, value in each] for each in (before, after))
    for (_, value), (_, other) in zip(before, after, strict=True):
        assert len(value) == len(other)
        assert without_label(value) == without_label(other)
    changed = sum(map(int.__ne__, old, new))
    assert report == labels.Shuffled(
        2500, round(2500 * fraction), changed, dict(sorted(Counter(old).items()))
    )
    assert Counter(old) == Counter(new)
    # Of the labels of ten equal classes one in ten meets its like.
    assert changed == pytest.approx(0.9 * 2500 * fraction, abs=60)
    assert read_by_lmdb(source) == before


UNKNOWN = b"\xa2\x06\x05ghost" + b"\xa8\x06\x07" + b"\xb5\x06abcd"
"""Fields 100 to 102, which no Datum of Caffe's has: bytes, a number, four bytes."""


def encoded(label: int) -> bytes:
    """A JPEG, as convert_imageset --encoded has it, of a fork that adds fields."""
    message = schema.message_class("Datum")(encoded=True, data=b"\xff\xd8jpeg", label=label)
    return UNKNOWN + message.SerializeToString() + UNKNOWN


def floats(label: int) -> bytes:
    image = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    return database.datum(image, label).SerializeToString()


@pytest.mark.parametrize("form", [encoded, floats])
@settings(max_examples=50, deadline=None)
@given(old=st.integers(-(2**31), 2**31 - 1), new=st.integers(-(2**31), 2**31 - 1))
def test_only_the_labels_bytes_change_whatever_else_a_record_holds(form, old, new):
    assert labels.labelled(form(old), new) == form(new)


def test_a_record_without_a_label_gets_one():
    message = schema.message_class("Datum")(channels=1, height=1, width=1, data=b"\x05")
    assert datum(labels.labelled(message.SerializeToString(), 7)).label == 7


def test_a_record_of_several_labels_has_the_new_one_in_place_of_all():
    value = b"\x28\x01\x22\x02\x28\x01\x28\x02"
    assert labels.labelled(value, 300) == b"\x28\xac\x02\x22\x02\x28\x01\x28\xac\x02"
    assert datum(labels.labelled(value, 300)).label == 300


def test_encoded_images_of_a_fork_survive_in_a_database(tmp_path):
    source = write(tmp_path / "src", [encoded(i % 7) for i in range(50)])

    labels.shuffle(source, tmp_path / "dst", 0)

    values = [value for _, value in read_by_lmdb(tmp_path / "dst")]
    assert values == [encoded(datum(value).label) for value in values]
    assert values != [encoded(i % 7) for i in range(50)]


# Lists


def shuffle_list(tmp_path: Path, text: bytes, **options) -> bytes:
    (tmp_path / "list.txt").write_bytes(text)
    labels.shuffle(tmp_path / "list.txt", tmp_path / "out.txt", 3, **options)
    return (tmp_path / "out.txt").read_bytes()


def split_line(line: bytes) -> tuple[bytes, int]:
    path, _, label = line.rpartition(b" ")
    return path, int(label)


def test_paths_keep_their_lines_and_labels_their_frequency(tmp_path):
    text = b"".join(b"train set/n%02d/img %d.jpg %d\n" % (i % 9, i, i % 9) for i in range(500))

    found = shuffle_list(tmp_path, text)

    before, after = ([split_line(line) for line in each.splitlines()] for each in (text, found))
    assert [path for path, _ in after] == [path for path, _ in before]
    assert Counter(label for _, label in after) == Counter(label for _, label in before)
    assert sum(map(tuple.__ne__, before, after)) > 400


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_names_that_are_no_utf_8_are_kept(tmp_path, end, last):
    text = end.join([b"\xe9\xff.jpg 5", b"a  b.png 5", b"c.png 5"]) + end * last
    assert shuffle_list(tmp_path, text) == text


def error_of(source: Path, destination: Path, **options) -> str:
    with pytest.raises(CaffesplitError) as caught:
        labels.shuffle(source, destination, 0, **options)
    return str(caught.value)


ONE_LABEL = (
    "expected a path, a space and one label\n"
    "Caffe's ImageData and convert_imageset read one label per image, from such a list."
)
LINES = {
    b"a.jpg": "a line without a label behind its last space",
    b"": "a line without a label behind its last space",
    b"a.jpg\t3": "a line without a label behind its last space",
    b"a.jpg 3 ": "a line without a label behind its last space",
    b"a.jpg cat": "a line without a label behind its last space",
    b"a.jpg 2.5": "a line without a label behind its last space",
    b"a.jpg 2147483648": "a line without a label behind its last space",
    b"x" * 70000 + b" 3": "a line without a label behind its last space",
    b"a.jpg 1 0 1": "a line that ends in several numbers",
    b"a.jpg 3 -1": "a line that ends in several numbers",
}


@pytest.mark.parametrize("line", LINES, ids=lambda line: repr(line[:20]))
def test_a_line_that_has_not_one_label_is_named(tmp_path, line):
    (tmp_path / "list.txt").write_bytes(b"good.jpg 1\n" + line + b"\n")
    assert error_of(tmp_path / "list.txt", tmp_path / "out.txt") == (
        f"{tmp_path}/list.txt:2: {LINES[line]}, {ONE_LABEL}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


@pytest.mark.parametrize("form", ["list", "lmdb"])
def test_what_holds_no_images_is_refused(tmp_path, form):
    source = tmp_path / "src"
    if form == "list":
        source.write_bytes(b"")
    else:
        write(source, [])
    assert error_of(source, tmp_path / "dst") == f"{source}: no images, expected some"


# The destination


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("way", ["itself", "a link to it", "a link to its folder"])
@pytest.mark.parametrize("form", ["list", "lmdb"])
def test_the_source_is_never_the_destination(tmp_path, form, way, force):
    (tmp_path / "sets").mkdir()
    source = tmp_path / "sets/src"
    if form == "list":
        source.write_bytes(b"a 1\nb 2\n")
    else:
        write(source, plain(5))
    content = source.read_bytes() if form == "list" else read_by_lmdb(source)
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "folder").symlink_to(source.parent)
    ways = {"itself": source, "a link to it": tmp_path / "link"}
    destination = ways.get(way, tmp_path / "folder/src")

    assert "the output is also an input" in error_of(source, destination, force=force)

    assert (source.read_bytes() if form == "list" else read_by_lmdb(source)) == content


def test_a_destination_whose_workplace_is_the_source_is_refused(tmp_path):
    source = write(tmp_path / "db.partial", plain(5))
    assert "a folder is in the way" in error_of(source, tmp_path / "db")
    assert database.count(source) == 5


def test_a_destination_that_exists_is_replaced_only_by_force(tmp_path):
    source = write(tmp_path / "src", plain(50))
    write(tmp_path / "dst", plain(3))
    assert "the output exists already" in error_of(source, tmp_path / "dst")
    assert database.count(tmp_path / "dst") == 3

    labels.shuffle(source, tmp_path / "dst", 0, force=True)

    assert database.count(tmp_path / "dst") == 50


@pytest.mark.parametrize("name", [".", "..", "x/.."])
def test_a_destination_without_a_name_is_refused(tmp_path, monkeypatch, name):
    source = write(tmp_path / "src", plain(5))
    monkeypatch.chdir(tmp_path)
    assert "an output without a name" in error_of(source, Path(name))


def test_a_damaged_record_leaves_nothing(tmp_path):
    source = write(tmp_path / "src", [*plain(5), b"\xff\xff"])
    assert "record '00000005' is no Datum" in error_of(source, tmp_path / "dst")
    assert [path.name for path in tmp_path.iterdir()] == ["src"]
