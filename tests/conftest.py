"""Fixtures of several folders: a real Caffe, and an experiment it trains in a second."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# What CI runs is the same every time; elsewhere hypothesis goes on looking for new examples.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI", "").lower() == "true":
    settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests run in an empty folder: a solver's paths are also tried from the working directory."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real Caffe: `pytest -m 'not caffe'` leaves it out."""
    for item in items:
        if {"caffe", "demo"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.caffe)


@pytest.fixture(scope="session")
def caffe() -> Path:
    """The real Caffe. Where CI is true, a missing one is a failure."""
    from caffesplit.engines import caffe_binary
    from caffesplit.errors import EngineError

    try:
        return caffe_binary.find()
    except EngineError as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(error))
        pytest.skip("no Caffe: run tools/install_caffe.py")


@pytest.fixture(scope="session")
def python_caffe(caffe: Path) -> Path:
    """The Python that imports pycaffe, as tools/install_caffe.py brings it."""
    python = caffe.with_name("python-caffe")
    if not python.exists():
        pytest.skip("this Caffe has no python-caffe beside it: run tools/install_caffe.py")
    return python


@pytest.fixture(scope="session")
def digits_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from caffesplit import zoo
    from caffesplit.data import digits

    root = tmp_path_factory.mktemp("digits")
    digits.write(root / "data")
    zoo.write("digits", root / "baseline", root, root / "data")
    return root


@pytest.fixture
def digits_root(digits_template: Path, tmp_path: Path) -> Path:
    """A folder with data/ and the untrained experiment baseline/, whose solver is a short one:
    100 iterations, snapshots and tests every 50, a line every 10."""
    root = tmp_path / "digits"
    shutil.copytree(digits_template, root)
    solver = root / "baseline/solver.prototxt"
    text = solver.read_text()
    for name, value in SHORT.items():
        text = "".join(
            f"{name}: {value}\n" if line.startswith(f"{name}:") else line
            for line in text.splitlines(keepends=True)
        )
    solver.write_text(text)
    return root


SHORT = {"max_iter": 100, "snapshot": 50, "test_interval": 50, "display": 10, "base_lr": 0.003}


@pytest.fixture(scope="session")
def demo(
    caffe: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demo's folder, and how its command ended. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    program = "from caffesplit.cli.main import main; main()"
    return folder, subprocess.run(
        [sys.executable, "-c", program, "demo", folder, "--caffe", caffe],
        capture_output=True,
        text=True,
        check=True,
    )
