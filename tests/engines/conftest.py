"""The real Caffe as an oracle for many small nets, in one process for all tests here."""

import pytest
from torch_oracle import RealCaffe


@pytest.fixture(scope="session")
def real_caffe(python_caffe, tmp_path_factory):
    process = RealCaffe(python_caffe, tmp_path_factory.mktemp("nets"))
    yield process
    process.close()
