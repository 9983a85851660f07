"""The wire reader: every field is found, nothing is read past its message."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffesplit.errors import Location, WeightsError
from caffesplit.formats import wire

AT = Location("file")


def fields_of(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> list[wire.Field]:
    path = tmp_path_factory.mktemp("wire") / "file"
    path.write_bytes(content)
    file = wire.WireFile("file", wire.open_map(path))
    return list(file.fields(0, file.size, AT))


@given(value=st.integers(0, 2**64 - 1))
def test_a_varint_is_read_as_it_was_written(tmp_path_factory, value):
    encoded = wire.encode_int(3, value)

    (field,) = fields_of(encoded, tmp_path_factory)

    assert (field.number, field.wire, field.value) == (3, wire.VARINT, value)
    assert (field.offset, field.end) == (0, len(encoded))


@given(value=st.integers(-(2**63), 2**63 - 1))
def test_a_negative_number_takes_all_64_bits(value):
    assert wire.signed(value % 2**64) == value


@given(number=st.integers(1, wire.MAX_FIELD_NUMBER), count=st.integers(1, 300))
@pytest.mark.parametrize(("kind", "code"), [(wire.FIXED32, "<f"), (wire.FIXED64, "<d")])
def test_a_run_of_one_fixed_width_field_is_one_field(tmp_path_factory, number, count, kind, code):
    tag = wire.encode_varint(number << 3 | kind)
    run = b"".join(tag + struct.pack(code, value) for value in range(count))
    other = wire.encode_int(1, 7) + wire.encode_text(2, "\x01")

    before, text, field, after, _ = fields_of(other + run + other, tmp_path_factory)

    assert (before.value, text.wire, after.value) == (7, wire.LENGTH, 7)
    assert (field.number, field.wire, field.offset) == (number, kind, len(other))
    assert field.start == len(other) + len(tag)
    assert field.stride == len(tag) + struct.calcsize(code)
    assert field.end == len(other) + len(run)


def test_a_run_is_found_in_steps_that_grow_to_a_limit(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(wire, "RUN_STEP", 16)
    tag = wire.encode_varint(5 << 3 | wire.FIXED32)

    run, other = fields_of((tag + b"\0\0\0\0") * 1000 + b"\x08\x01", tmp_path_factory)

    assert run.end == other.offset == 5000


def test_a_run_ends_where_its_message_ends(tmp_path_factory):
    tag = wire.encode_varint(5 << 3 | wire.FIXED32)

    with pytest.raises(WeightsError, match="field 5 says that 4 bytes follow, expected at most th"):
        fields_of((tag + b"\0\0\0\0") * 3 + tag + b"\0\0", tmp_path_factory)


def test_more_fields_than_any_net_has_are_an_error(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(wire, "MAX_FIELDS", 10)

    with pytest.raises(WeightsError) as caught:
        fields_of(b"\x08\x01" * 11, tmp_path_factory)

    assert str(caught.value) == (
        "file: byte 20: the file holds more than 10 fields, expected a net's weights\n"
        "Caffe did not write this file, or it is damaged."
    )


def test_a_file_larger_than_caffe_reads_is_an_error(tmp_path: Path):
    path = tmp_path / "huge.caffemodel"
    with path.open("wb") as file:
        file.truncate(wire.MAX_FILE_BYTES + 1)

    with pytest.raises(WeightsError) as caught:
        wire.WireFile(str(path), wire.open_map(path))

    assert str(caught.value) == (
        f"{path}: a file of 2,147,483,648 bytes, expected at most 2,147,483,647, which is what "
        "Caffe reads\nSnapshot larger nets in HDF5 (`snapshot_format: HDF5`)."
    )


def test_a_name_that_is_not_utf8_is_read_escaped(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"\x0a\x04caf\xe9")
    file = wire.WireFile("file", wire.open_map(path))
    (field,) = file.fields(0, file.size, AT)

    assert file.text(field, AT) == "caf\\xe9"
