"""A file that is one BlobProto: a mean image, an infogain matrix."""

import io

import numpy as np
import pytest

from caffesplit.errors import WeightsError
from caffesplit.formats import schema
from caffesplit.formats.blobs import BlobBytes, read_blob


def test_what_is_written_is_read(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    file = io.BytesIO()
    BlobBytes(values).write(file)
    (tmp_path / "blob").write_bytes(file.getvalue())
    assert np.array_equal(read_blob(tmp_path / "blob"), values)


def test_a_mean_of_caffes_own_tool_has_four_axes(tmp_path):
    blob = schema.message_class("BlobProto")(num=1, channels=3, height=1, width=2)
    blob.data.extend(range(6))
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    assert read_blob(tmp_path / "mean.binaryproto").tolist() == [[[[0, 1]], [[2, 3]], [[4, 5]]]]


@pytest.mark.parametrize("content", [b"", b"layer {}", b"\x2a\x08\x00\x00\x80\x3f"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "blob").write_bytes(content)
    with pytest.raises(WeightsError, match=str(tmp_path / "blob")):
        read_blob(tmp_path / "blob")
