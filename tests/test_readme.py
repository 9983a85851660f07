"""What README shows works when pasted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """The lines that call caffesplit, without prompt and comment."""
    lines = re.findall(r"^    (?:\$ )?(caffesplit .*)$", README, re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in lines]


@pytest.fixture(scope="module")
def place(demo, tmp_path_factory):
    """A working directory with the finished demo in demo/."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(demo[0], folder / "demo")
    return folder


def run(line: str, place: Path) -> subprocess.CompletedProcess[str]:
    program = "from caffesplit.cli.main import main; main()"
    command = [sys.executable, "-c", program, *line.split()[1:]]
    environment = {**os.environ, "MPLBACKEND": "agg"}
    environment.pop("DISPLAY", None)
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    )


def test_readme_shows_commands_of_every_verb():
    from caffesplit.cli.main import VERBS

    shown = {line.split()[1] for line in commands()} | {"demo"}
    assert shown == set(VERBS)


def test_every_command_works_in_the_order_shown(place):
    for line in commands():
        done = run(line, place)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_tpm_table_looks_as_readme_prints_it(place):
    """Figures differ between processors, whose BLAS rounds differently."""
    printed = re.search(r"\$ (caffesplit tpm .*)\n((?:    [^$\n].*\n)+)    …\n", README)
    assert printed
    mean, window, header, _ = (line.strip() for line in printed[2].splitlines())
    lines = run(printed[1], place).stdout.rstrip().splitlines()
    assert re.sub(r"\d\.\d+", "#", lines[0]) == re.sub(r"\d\.\d+", "#", mean)
    assert lines[1] == window
    assert lines[2].split() == header.split()
    assert len(lines) == 3 + 4


def test_the_python_example_works(place):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'conv3': [(32, 32, 3, 3), (32,)]" in done.stdout
